// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A bounded first-in first-out queue that drops its oldest item when it is full, and counts it: the backlog of records that
 * the other process has not received. Capacity is fixed at construction; no operation allocates.
 */

import { assert } from './assert.ts';

export interface RingOptions {
  /** Items, at least 1. */
  readonly capacity: number;
}

export class Ring<T> {
  readonly capacity: number;
  /** Items lost to the limit since construction. */
  dropped = 0;
  readonly #items: (T | undefined)[];
  #head = 0;
  #size = 0;

  constructor(options: RingOptions) {
    assert(
      Number.isInteger(options.capacity) && options.capacity >= 1,
      'ring capacity is positive',
    );
    this.capacity = options.capacity;
    this.#items = Array.from<T | undefined>({ length: options.capacity }).fill(undefined);
  }

  get size(): number {
    return this.#size;
  }

  /** Appends `item`. False: the ring was full and lost its oldest item. */
  push(item: T): boolean {
    if (this.#size < this.capacity) {
      this.#items[this.#index(this.#size)] = item;
      this.#size++;
      return true;
    }
    this.dropped++;
    this.#items[this.#head] = item;
    this.#head = this.#index(1);
    return false;
  }

  /** Removes and returns the oldest item, undefined when empty. */
  shift(): T | undefined {
    if (this.#size === 0) return undefined;
    const item = this.#items[this.#head];
    // The slot must not keep the item alive.
    this.#items[this.#head] = undefined;
    this.#head = this.#index(1);
    this.#size--;
    return item;
  }

  /** The item at `offset` from the oldest, undefined beyond the newest. */
  peek(offset = 0): T | undefined {
    return offset >= 0 && offset < this.#size ? this.#items[this.#index(offset)] : undefined;
  }

  /** Removes the `count` oldest items, at most all. Returns how many. */
  discard(count: number): number {
    const removed = Math.min(count, this.#size);
    for (let i = 0; i < removed; i++) this.shift();
    return removed;
  }

  #index(offset: number): number {
    const index = this.#head + offset;
    return index < this.capacity ? index : index - this.capacity;
  }
}
