// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * (address, selector) pairs and the expiry last written to the kernel, so that an answer that teaches
 * nothing new costs no write. A cache only: emptied when it is full, and when any member removed
 * something from the kernel's map.
 */

import { knownPairsMax } from '../limits.ts';

const entryWords = 6;
/** Expiry of a pair that keeps its place in the table but is not in the kernel. */
const forgotten = 1;

export const pairKnown = 0;
export const pairExtended = 1;
export const pairNew = 2;

export class KnownPairs {
  readonly #mask = knownPairsMax - 1;
  readonly #entries = new Uint32Array(knownPairsMax * entryWords);
  readonly #seed: number;
  #count = 0;

  constructor(seed: number) {
    this.#seed = seed | 0;
  }

  /**
   * Remembers that the pair expires at `expires` (boottime seconds, > 1). Returns `pairKnown` when it
   * was known to live that long; else the kernel must be told.
   */
  extend(words: Uint32Array, offset: number, selector: number, expires: number): number {
    const entries = this.#entries;
    let index = this.#hash(words, offset, selector);
    for (;;) {
      const at = index * entryWords;
      const known = entries[at + 5] as number;
      if (known === 0) break;
      if (entries[at + 4] === selector && sameAddress(entries, at, words, offset)) {
        if (known >= expires) return pairKnown;
        entries[at + 5] = expires;
        return known === forgotten ? pairNew : pairExtended;
      }
      index = (index + 1) & this.#mask;
    }
    this.#insert(index, words, offset, selector, expires);
    return pairNew;
  }

  /** The kernel does not have the pair (refused, or removed): the next answer must write it. */
  forget(words: Uint32Array, offset: number, selector: number): void {
    const entries = this.#entries;
    let index = this.#hash(words, offset, selector);
    for (;;) {
      const at = index * entryWords;
      if (entries[at + 5] === 0) return;
      if (entries[at + 4] === selector && sameAddress(entries, at, words, offset)) {
        entries[at + 5] = forgotten;
        return;
      }
      index = (index + 1) & this.#mask;
    }
  }

  clear(): void {
    this.#entries.fill(0);
    this.#count = 0;
  }

  #insert(
    index: number,
    words: Uint32Array,
    offset: number,
    selector: number,
    expires: number,
  ): void {
    let place = index;
    if (this.#count >= (knownPairsMax >> 2) * 3) {
      this.clear();
      place = this.#hash(words, offset, selector);
    }
    const at = place * entryWords;
    for (let i = 0; i < 4; i++) this.#entries[at + i] = words[offset + i] as number;
    this.#entries[at + 4] = selector;
    this.#entries[at + 5] = expires;
    this.#count += 1;
  }

  #hash(words: Uint32Array, offset: number, selector: number): number {
    let h = this.#seed ^ selector;
    for (let i = 0; i < 4; i++) {
      h = Math.imul(h ^ (words[offset + i] as number), 0x85ebca6b);
      h ^= h >>> 15;
    }
    h = Math.imul(h, 0xc2b2ae35);
    return (h ^ (h >>> 16)) & this.#mask;
  }
}

function sameAddress(a: Uint32Array, aOffset: number, b: Uint32Array, bOffset: number): boolean {
  return (
    a[aOffset] === b[bOffset] &&
    a[aOffset + 1] === b[bOffset + 1] &&
    a[aOffset + 2] === b[bOffset + 2] &&
    a[aOffset + 3] === b[bOffset + 3]
  );
}
