// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The ids 1 up to a capacity, handed out and taken back. Fresh ids come in order, so that the arrays
 * that they index are touched, and take memory, only as far as they were ever used.
 */

import { assert } from '../assert.ts';

export class IdPool {
  readonly capacity: number;
  /** Ids in use. */
  used = 0;
  /** The largest id that was ever handed out. */
  highest = 0;
  #free = 0;
  readonly #nextFree: Int32Array;

  constructor(capacity: number) {
    assert(capacity >= 1, 'a pool has a capacity');
    this.capacity = capacity;
    this.#nextFree = new Int32Array(capacity + 1);
  }

  /** An id that is not in use, 0 if all are. */
  take(): number {
    if (this.#free !== 0) {
      const id = this.#free;
      this.#free = this.#nextFree[id]!;
      this.used++;
      return id;
    }
    if (this.highest === this.capacity) return 0;
    this.used++;
    return ++this.highest;
  }

  /** Takes back `id`, which is in use. */
  give(id: number): void {
    this.#nextFree[id] = this.#free;
    this.#free = id;
    this.used--;
  }
}
