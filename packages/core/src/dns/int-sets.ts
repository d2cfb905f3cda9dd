// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Sorted sets of small integers, each kept once: the states of a subset construction and the accept
 * sets of a matcher. Sets lie end to end in one growing array.
 */

import { assert } from '../assert.ts';

export class IntSets {
  /** Members of set `id`: members[starts[id]] up to members[starts[id + 1]]. */
  starts: Int32Array = new Int32Array(1024);
  members: Int32Array = new Int32Array(4096);
  count = 0;
  #slots: Int32Array = new Int32Array(4096).fill(-1);

  /** Octets of the arrays are bounded by the caller through `memberCount`. */
  get memberCount(): number {
    return this.starts[this.count]!;
  }

  /** The id of the set of the first `length` integers of `sorted`, which ascend. */
  intern(sorted: Int32Array, length: number): number {
    let hash = length;
    for (let i = 0; i < length; i++) hash = mix(hash ^ sorted[i]!);
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
      let hash = end - this.starts[id]!;
      for (let i = this.starts[id]!; i < end; i++) {
        hash = mix(hash ^ this.members[i]!);
      }
      let slot = hash & mask;
      while (slots[slot]! >= 0) slot = (slot + 1) & mask;
      slots[slot] = id;
    }
    this.#slots = slots;
  }
}

/** A copy of `array` with room for at least `length` elements. */
export function grown(array: Int32Array, length: number): Int32Array {
  assert(length < 0x40000000, 'an array stays far below 2^30 elements');
  const larger = new Int32Array(Math.max(length, array.length * 2));
  larger.set(array);
  return larger;
}

/** The finaliser of MurmurHash3: integers that differ in one bit spread over the table. */
function mix(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return hash ^ (hash >>> 16);
}
