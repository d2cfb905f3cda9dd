// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A process that is killed in the place of one of its calls that change the file system or the network, or start a program. */

import { execFileSync } from 'node:child_process';
import { chmodSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('./native/file-fault.c', import.meta.url));

export class FileFaults {
  readonly #library: string;
  readonly #count: string;
  #nth = 0;

  /** Compiles the library that is preloaded. `directory`: for it and the count; the proxy's user must reach it. */
  constructor(directory: string) {
    this.#library = join(directory, 'file-fault.so');
    this.#count = join(directory, 'file-count');
    execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-o', this.#library, source, '-ldl']);
    this.set(0);
    // The proxy opens it again as the user that it becomes.
    chmodSync(this.#count, 0o666);
  }

  /** For the process that starts next: the call in whose place it is killed, from 1; 0: none. */
  set(nth: number): void {
    this.#nth = nth;
    writeFileSync(this.#count, new Uint8Array(4));
  }

  /** Calls since `set`. */
  get count(): number {
    return readFileSync(this.#count).readUInt32LE();
  }

  get environment(): Readonly<Record<string, string>> {
    return {
      LD_PRELOAD: this.#library,
      FILE_FAULT_COUNT: this.#count,
      FILE_FAULT: `${this.#nth}`,
    };
  }
}
