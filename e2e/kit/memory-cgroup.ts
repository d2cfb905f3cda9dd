// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A cgroup with a limit of memory, of version 2 or 1, whichever has the memory controller here. */

import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ownPrefix } from '@tandem/testing/namespace';

const version2 = '/sys/fs/cgroup';
const version1 = '/sys/fs/cgroup/memory';

export class MemoryCgroup implements Disposable {
  readonly #path: string;

  constructor(limitBytes: number) {
    const isVersion2 = existsSync(join(version2, 'cgroup.controllers'));
    if (isVersion2) {
      const enabled = readFileSync(join(version2, 'cgroup.subtree_control'), 'utf8').split(/\s/);
      if (!enabled.includes('memory')) {
        writeFileSync(join(version2, 'cgroup.subtree_control'), '+memory');
      }
    }
    this.#path = join(isVersion2 ? version2 : version1, `${ownPrefix}memory`);
    mkdirSync(this.#path, { recursive: true });
    const file = isVersion2 ? 'memory.max' : 'memory.limit_in_bytes';
    writeFileSync(join(this.#path, file), String(limitBytes));
  }

  /** Charges here what it allocates from now on. */
  add(pid: number): void {
    writeFileSync(join(this.#path, 'cgroup.procs'), String(pid));
  }

  /** When its processes have ended. */
  [Symbol.dispose](): void {
    rmdirSync(this.#path);
  }
}
