// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Programs of the system that fail on purpose, before the real ones in a process's PATH. */

import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export class FakePrograms {
  readonly #directory: string;

  constructor(parent: string) {
    this.#directory = join(parent, 'fake-bin');
  }

  /** `program` fails when its arguments match `pattern` of sh(1)'s case; the others reach the real one. */
  fail(program: string, pattern = '*'): void {
    mkdirSync(this.#directory, { recursive: true });
    const path = join(this.#directory, program);
    const script = [
      '#!/bin/sh',
      'self=$(dirname "$0")',
      `case "$*" in ${pattern}) echo "injected: ${program} fails" >&2; exit 2;; esac`,
      'PATH=$(echo "$PATH" | sed "s#$self:##")',
      `exec ${program} "$@"`,
    ];
    writeFileSync(path, `${script.join('\n')}\n`);
    chmodSync(path, 0o755);
  }

  /** From now on nothing fails. */
  heal(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }

  get environment(): Readonly<Record<string, string>> {
    return { PATH: `${this.#directory}:${process.env['PATH'] ?? ''}` };
  }
}
