// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Unpredictable 16-bit numbers (query ids, socket choice) from a pool: one system call per 8192. */

import { randomFillSync } from 'node:crypto';

/** Source of 16 bits that cannot be guessed. */
export interface RandomSource {
  u16(): number;
}

export class RandomPool implements RandomSource {
  readonly #pool = new Uint16Array(8192);
  #next = 8192;

  u16(): number {
    if (this.#next === this.#pool.length) {
      randomFillSync(this.#pool);
      this.#next = 0;
    }
    const value = this.#pool[this.#next]!;
    // What was given out must not stay in memory: ids in flight are what a spoofer wants.
    this.#pool[this.#next] = 0;
    this.#next += 1;
    return value;
  }
}
