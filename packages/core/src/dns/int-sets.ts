// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Sorted sets of small integers, each kept once: the states of a subset construction and the accept
 * sets of a matcher. Sets lie end to end in one growing array.
 *
 * The hash of a set is the sum of random numbers, one for each member (Zobrist, "A new hashing method with application for
 * game playing", 1970). Authors of policies choose the sets, and with a hash without secrets they could choose sets that all
 * have one place, so that a compilation takes minutes. Ids do not depend on the random numbers: they count first appearances.
 */

import { assert } from '../assert.ts';
import { hashBytes } from './name-hash.ts';

export class IntSets {
  /** Members of set `id`: members[starts[id]] up to members[starts[id + 1]]. */
  starts: Int32Array = new Int32Array(1024);
  members: Int32Array = new Int32Array(4096);
  count = 0;
  #slots: Int32Array = new Int32Array(4096).fill(-1);
  readonly #seed: number;
  /** Random number of each member. */
  #numbers: Int32Array = new Int32Array(0);

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Octets of the arrays are bounded by the caller through `memberCount`. */
  get memberCount(): number {
    return this.starts[this.count]!;
  }

  /** The id of the set of the first `length` integers of `sorted`, which ascend. */
  intern(sorted: Int32Array, length: number): number {
    if (length > 0 && sorted[length - 1]! >= this.#numbers.length) this.#draw(sorted[length - 1]!);
    const numbers = this.#numbers;
    let hash = 0;
    for (let i = 0; i < length; i++) hash = (hash + numbers[sorted[i]!]!) | 0;
    if ((this.count + 1) * 2 > this.#slots.length) this.#rehash();
    const mask = this.#slots.length - 1;
    let slot = hash & mask;
    for (let id = this.#slots[slot]!; id >= 0; id = this.#slots[slot]!) {
      if (this.#equals(id, sorted, length)) return id;
      slot = (slot + 1) & mask;
    }
    this.#slots[slot] = this.count;
    return this.#append(sorted, length);
  }

  #append(sorted: Int32Array, length: number): number {
    const id = this.count++;
    const start = this.starts[id]!;
    if (this.count + 1 > this.starts.length) this.starts = grown(this.starts, this.count + 1);
    if (start + length > this.members.length) this.members = grown(this.members, start + length);
    for (let i = 0; i < length; i++) this.members[start + i] = sorted[i]!;
    this.starts[this.count] = start + length;
    return id;
  }

  #equals(id: number, sorted: Int32Array, length: number): boolean {
    const start = this.starts[id]!;
    if (this.starts[id + 1]! - start !== length) return false;
    for (let i = 0; i < length; i++) if (this.members[start + i] !== sorted[i]) return false;
    return true;
  }

  #rehash(): void {
    const slots = new Int32Array(this.#slots.length * 2).fill(-1);
    const mask = slots.length - 1;
    for (let id = 0; id < this.count; id++) {
      const end = this.starts[id + 1]!;
      let hash = 0;
      for (let i = this.starts[id]!; i < end; i++) {
        hash = (hash + this.#numbers[this.members[i]!]!) | 0;
      }
      let slot = hash & mask;
      while (slots[slot]! >= 0) slot = (slot + 1) & mask;
      slots[slot] = id;
    }
    this.#slots = slots;
  }

  /** Draws the random numbers up to that of `member`, and as many again. */
  #draw(member: number): void {
    const from = this.#numbers.length;
    this.#numbers = grown(this.#numbers, Math.max(1024, member + 1));
    const key = { low: this.#seed, high: ~this.#seed };
    const word = new Uint8Array(4);
    for (let i = from; i < this.#numbers.length; i++) {
      for (let octet = 0; octet < 4; octet++) word[octet] = i >>> (8 * octet);
      this.#numbers[i] = hashBytes(word, 0, 4, key);
    }
  }
}

/** A copy of `array` with room for at least `length` elements. */
export function grown(array: Int32Array, length: number): Int32Array {
  assert(length < 0x40000000, 'an array stays far below 2^30 elements');
  const larger = new Int32Array(Math.max(length, array.length * 2));
  larger.set(array);
  return larger;
}
