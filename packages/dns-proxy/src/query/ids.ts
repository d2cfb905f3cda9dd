// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Ids of queries sent upstream: random, and found again without a hash table. Each socket has a random
 * salt; `(id ^ salt)` is the place in the table. A query draws ids until its place is free, so ids stay
 * uniform among the free ones, and the queries in flight fill a quarter of the table at most.
 */

import { inFlightMax } from '../limits.ts';
import type { RandomPool } from '../upstream/random.ts';

const places = inFlightMax * 4;
const drawsMax = 32;

export class UpstreamIds {
  readonly #slotAt = new Int32Array(places).fill(-1);
  readonly #random: RandomPool;

  constructor(random: RandomPool) {
    this.#random = random;
  }

  /** Draws an id for a query in `slot` on a socket with `salt`; -1 when 32 draws found no free place. */
  take(slot: number, salt: number): number {
    for (let draw = 0; draw < drawsMax; draw++) {
      const id = this.#random.u16();
      const place = (id ^ salt) & (places - 1);
      if (this.#slotAt[place] === -1) {
        this.#slotAt[place] = slot;
        return id;
      }
    }
    return -1;
  }

  /** The slot that holds the place of (id, salt), or -1; the caller compares socket and id. */
  find(id: number, salt: number): number {
    return this.#slotAt[(id ^ salt) & (places - 1)] as number;
  }

  release(id: number, salt: number): void {
    this.#slotAt[(id ^ salt) & (places - 1)] = -1;
  }
}
