// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A disk of a megabyte, for the state directory: it can be full, or read-only. */

import { mkdirSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run, tryRun } from '@tandem/testing/process';

export type DiskState = 'writable' | 'full' | 'read-only';

const fillBytes = 4096;

export class SmallDisk implements AsyncDisposable {
  readonly path: string;
  readonly #filler: string;

  private constructor(path: string) {
    this.path = path;
    this.#filler = join(path, 'filler');
  }

  static async mount(): Promise<SmallDisk> {
    const path = join(tmpdir(), `tandem-test-disk-${process.pid}`);
    mkdirSync(path);
    await run('mount', ['-t', 'tmpfs', '-o', 'size=1m,mode=755', 'tmpfs', path]);
    return new SmallDisk(path);
  }

  /** Empties it: writable again. */
  async clear(): Promise<void> {
    await this.#remount('rw');
    await run('find', [this.path, '-mindepth', '1', '-delete']);
  }

  async set(state: DiskState): Promise<void> {
    await this.#remount('rw');
    rmSync(this.#filler, { force: true });
    if (state === 'read-only') await this.#remount('ro');
    if (state === 'full') this.#fill();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await tryRun('umount', ['-l', this.path]);
    rmdirSync(this.path);
  }

  async #remount(mode: 'rw' | 'ro'): Promise<void> {
    await run('mount', ['-o', `remount,${mode}`, this.path]);
  }

  #fill(): void {
    try {
      for (;;) writeFileSync(this.#filler, Buffer.alloc(fillBytes), { flag: 'a' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    }
  }
}
