// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which directory of CNI configurations the gate was put into, on disk: an agent with another directory, or without a
 * gate, takes it out of there. Left behind it would let no pod of the node start.
 */

import { constants, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const recordBytesMax = 4096;

export class GateRecord {
  readonly #path: string;

  constructor(stateDir: string) {
    this.#path = join(stateDir, 'gate-directory');
  }

  /** An absolute path; '': none is known. */
  read(): string {
    try {
      // A pipe of that name is not waited for.
      const flag = constants.O_RDONLY | constants.O_NONBLOCK;
      const text = readFileSync(this.#path, { encoding: 'utf8', flag }).trim();
      return text.startsWith('/') && text.length <= recordBytesMax ? text : '';
    } catch {
      return '';
    }
  }

  /** Nothing is written that is there already. @throws Error of node:fs */
  write(directory: string): void {
    if (this.read() === directory) return;
    const draft = `${this.#path}.new`;
    try {
      writeFileSync(draft, `${directory}\n`, { mode: 0o600 });
      renameSync(draft, this.#path);
    } catch (error) {
      rmSync(draft, { force: true });
      throw error;
    }
  }

  /** @throws Error of node:fs */
  forget(): void {
    rmSync(this.#path, { force: true });
  }
}
