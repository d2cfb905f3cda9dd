// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * (address, selector) pairs of each namespace and the expiry last written to the kernel, so that an answer that
 * teaches nothing new costs no write. A cache only: emptied when it is full, and when any member removed
 * something from the kernel's map.
 *
 *     index, open addressing: number of an entry, 0 none   ->   entries, in the order of arrival
 *
 * Entries lie close together, so that few pairs touch little memory.
 */

import { spread, wordHashNumbers, wordTerm } from '@tandem/core/word-hash';
import { knownPairsMax } from '../limits.ts';

/** Address (4 words), selector, owner; behind them the expiry. */
const keyWords = 6;
const entryWords = 7;
/** Expiry of a pair that keeps its place in the table but is not in the kernel. */
const forgotten = 1;

export const pairKnown = 0;
export const pairExtended = 1;
export const pairNew = 2;

export class KnownPairs {
  readonly #mask: number;
  /** Three quarters full at most, so an entry's number fits 16 bits. */
  readonly #index: Uint16Array;
  readonly #entries: Uint32Array;
  readonly #countMax: number;
  readonly #numbers: Int32Array;
  readonly #slackSeconds: number;
  #count = 0;

  /** An expiry that moves by no more than `slackSeconds` is not worth a write. `places`: a power of two. */
  constructor(seed: number, slackSeconds: number, places: number = knownPairsMax) {
    this.#numbers = wordHashNumbers(seed, keyWords);
    this.#mask = places - 1;
    this.#index = new Uint16Array(places);
    this.#countMax = (places >> 2) * 3;
    this.#entries = new Uint32Array((this.#countMax + 1) * entryWords);
    this.#slackSeconds = slackSeconds;
  }

  /**
   * Remembers that the pair of `owner` (a namespace; 0: an offer) expires at `expires` (boottime seconds, > 1). Returns `pairKnown` when it
   * was known with about that expiry; else it must be written to the kernel.
   */
  extend(
    words: Uint32Array,
    offset: number,
    selector: number,
    owner: number,
    expires: number,
  ): number {
    const place = this.#find(words, offset, selector, owner);
    const entry = this.#index[place]!;
    if (entry === 0) {
      this.#insert(place, words, offset, selector, owner, expires);
      return pairNew;
    }
    const at = entry * entryWords + keyWords;
    const known = this.#entries[at]!;
    if (known !== forgotten && known + this.#slackSeconds >= expires) return pairKnown;
    this.#entries[at] = expires;
    return known === forgotten ? pairNew : pairExtended;
  }

  /** The kernel does not have the pair (refused, or removed): the next answer must write it. */
  forget(words: Uint32Array, offset: number, selector: number, owner: number): void {
    const entry = this.#index[this.#find(words, offset, selector, owner)]!;
    if (entry !== 0) this.#entries[entry * entryWords + keyWords] = forgotten;
  }

  clear(): void {
    this.#index.fill(0);
    this.#count = 0;
  }

  #insert(
    place: number,
    words: Uint32Array,
    offset: number,
    selector: number,
    owner: number,
    expires: number,
  ): void {
    let free = place;
    if (this.#count === this.#countMax) {
      this.clear();
      free = this.#hash(words, offset, selector, owner);
    }
    this.#count += 1;
    this.#index[free] = this.#count;
    const at = this.#count * entryWords;
    for (let i = 0; i < 4; i++) this.#entries[at + i] = words[offset + i]!;
    this.#entries[at + 4] = selector;
    this.#entries[at + 5] = owner;
    this.#entries[at + keyWords] = expires;
  }

  /** The place in the index of the pair, or the free one where it would go. */
  #find(words: Uint32Array, offset: number, selector: number, owner: number): number {
    const entries = this.#entries;
    let place = this.#hash(words, offset, selector, owner);
    for (;;) {
      const at = this.#index[place]! * entryWords;
      if (at === 0) return place;
      const isPair = entries[at + 4] === selector && entries[at + 5] === owner;
      if (isPair && sameAddress(entries, at, words, offset)) return place;
      place = (place + 1) & this.#mask;
    }
  }

  #hash(words: Uint32Array, offset: number, selector: number, owner: number): number {
    const numbers = this.#numbers;
    let sum = wordTerm(numbers, 1, selector, numbers[0]!);
    sum = wordTerm(numbers, 11, owner, sum);
    for (let i = 0; i < 4; i++) sum = wordTerm(numbers, 3 + 2 * i, words[offset + i]!, sum);
    return spread(sum) & this.#mask;
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
