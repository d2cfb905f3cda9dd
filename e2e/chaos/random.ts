// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Choices that a seed repeats: faults, victims, times, names. */

/** A stream of numbers from a seed and what it is for; two streams of one seed do not move each other. */
export class Random {
  #state: number;

  constructor(seed: number, purpose: string) {
    let state = seed >>> 0;
    for (const character of purpose) {
      state = Math.imul(state ^ character.codePointAt(0)!, 0x01000193) >>> 0;
    }
    this.#state = state;
  }

  /** 0 <= x < 1 (mulberry32). */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** An integer, both ends included. */
  between(low: number, high: number): number {
    return low + Math.floor(this.fraction() * (high - low + 1));
  }

  pick<T>(items: readonly T[]): T {
    if (items.length === 0) throw new RangeError('nothing to pick from');
    return items[this.between(0, items.length - 1)] as T;
  }
}
