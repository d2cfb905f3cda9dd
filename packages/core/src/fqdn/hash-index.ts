// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Open addressing over ids that arrays of the caller describe: from a hash to the ids that have it.
 * Ids are 1 up to the capacity, 0 is none, so that fresh arrays are empty and cost no memory until they
 * are touched. Linear probing at half load; removal shifts back, there are no tombstones. The slots
 * double as ids come, up to twice the capacity: hashes would touch all of them from the start.
 */

import { assert } from '../assert.ts';

const slotsMin = 4;

export class HashIndex {
  #slots: Int32Array = new Int32Array(slotsMin);
  readonly #hashes: Int32Array;
  #mask: number = slotsMin - 1;
  #count = 0;
  #slot = 0;

  constructor(capacity: number) {
    assert(capacity >= 1 && capacity <= 1 << 28, 'an index has a sensible capacity');
    this.#hashes = new Int32Array(capacity + 1);
  }

  /** The first id with `hash`, 0 if there is none. The caller compares what the id stands for. */
  first(hash: number): number {
    this.#slot = hash & this.#mask;
    return this.#find(hash);
  }

  /** The next id with the same `hash` as the last one that `first` or `next` returned. */
  next(hash: number): number {
    this.#slot = (this.#slot + 1) & this.#mask;
    return this.#find(hash);
  }

  /** Adds `id`, which is not in the index. A search that `first` began ends with it. */
  insert(hash: number, id: number): void {
    this.#count += 1;
    if (this.#count * 2 > this.#slots.length) this.#grow();
    this.#hashes[id] = hash;
    this.#place(id);
  }

  /** Removes `id`, which is in the index. */
  remove(id: number): void {
    this.#count -= 1;
    const mask = this.#mask;
    let hole = this.#hashes[id]! & mask;
    while (this.#slots[hole] !== id) hole = (hole + 1) & mask;
    for (let slot = (hole + 1) & mask; ; slot = (slot + 1) & mask) {
      const other = this.#slots[slot]!;
      if (other === 0) break;
      // An entry that may not stand before its home slot stays where it is.
      const distance = (slot - this.#hashes[other]!) & mask;
      if (distance < ((slot - hole) & mask)) continue;
      this.#slots[hole] = other;
      hole = slot;
    }
    this.#slots[hole] = 0;
  }

  #grow(): void {
    const slots = this.#slots;
    this.#slots = new Int32Array(slots.length * 2);
    this.#mask = this.#slots.length - 1;
    for (const id of slots) if (id !== 0) this.#place(id);
  }

  #place(id: number): void {
    let slot = this.#hashes[id]! & this.#mask;
    while (this.#slots[slot] !== 0) slot = (slot + 1) & this.#mask;
    this.#slots[slot] = id;
  }

  #find(hash: number): number {
    for (;;) {
      const id = this.#slots[this.#slot]!;
      if (id === 0 || this.#hashes[id] === hash) return id;
      this.#slot = (this.#slot + 1) & this.#mask;
    }
  }
}
