// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Ids of queries sent upstream: random, and found again without a hash table. Each socket has a random
 * salt; `(id ^ salt)` is the place in the table. A query draws ids until its place is free, so ids stay
 * uniform among the free ones, and the queries in flight fill a quarter of the table at most.
 */

import type { QuerySlot } from '../journal/region.ts';
import { inFlightMax } from '../limits.ts';
import type { RandomSource } from '../query/random.ts';

const drawsMax = 32;

export class UpstreamIds {
  readonly #slotAt: Int32Array;
  readonly #mask: number;
  readonly #random: RandomSource;

  /** `inFlight`: queries at one time, a power of two. */
  constructor(random: RandomSource, inFlight: number = inFlightMax) {
    this.#random = random;
    this.#slotAt = new Int32Array(inFlight * 4).fill(-1);
    this.#mask = inFlight * 4 - 1;
  }

  /** Draws an id for a query in `slot` on a socket with `salt`; -1 when 32 draws found no free place. */
  take(slot: QuerySlot, salt: number): number {
    for (let draw = 0; draw < drawsMax; draw++) {
      const id = this.#random.u16();
      const place = (id ^ salt) & this.#mask;
      if (this.#slotAt[place] === -1) {
        this.#slotAt[place] = slot;
        return id;
      }
    }
    return -1;
  }

  /** The slot that holds the place of (id, salt), or -1; the caller compares socket and id. */
  find(id: number, salt: number): QuerySlot {
    return this.#slotAt[(id ^ salt) & this.#mask]! as QuerySlot;
  }

  release(id: number, salt: number): void {
    this.#slotAt[(id ^ salt) & this.#mask] = -1;
  }
}
