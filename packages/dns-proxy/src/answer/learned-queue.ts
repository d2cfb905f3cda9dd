// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pairs that this member wrote, oldest first and one queue per namespace, so that a namespace whose
 * quota is full gives up its own oldest pair and never another namespace's (safety rule 17). The expiry
 * that a pair had when it was queued tells later whether it was answered again.
 */

import { learnedQueueMax } from '../limits.ts';

const none = -1;
/** Address (4 words), selector, expiry. */
export const learnedWords = 6;

export class LearnedQueue {
  /** `learnedWords` per entry. */
  readonly words: Uint32Array;
  readonly #next: Int32Array;
  readonly #queues = new Map<number, { head: number; tail: number; length: number }>();
  #free = none;
  #used = 0;

  constructor(pairsMax: number = learnedQueueMax) {
    this.words = new Uint32Array(pairsMax * learnedWords);
    this.#next = new Int32Array(pairsMax);
  }

  /** Appends a pair; when the queue as a whole is full the namespace's oldest is forgotten first. */
  push(
    namespaceId: number,
    words: Uint32Array,
    offset: number,
    selector: number,
    expires: number,
  ): boolean {
    let entry = this.#take();
    if (entry === none) {
      entry = this.shift(namespaceId);
      if (entry === none) return false;
      // `shift` put it on the free list; take it back.
      entry = this.#take();
    }
    this.#write(entry, words, offset, selector, expires);
    this.#next[entry] = none;
    const queue = this.#queues.get(namespaceId);
    if (queue === undefined) {
      this.#queues.set(namespaceId, { head: entry, tail: entry, length: 1 });
    } else {
      this.#next[queue.tail] = entry;
      queue.tail = entry;
      queue.length += 1;
    }
    return true;
  }

  /** Puts a pair before all others of its namespace: it is older than they. False when there is no room. */
  unshift(
    namespaceId: number,
    words: Uint32Array,
    offset: number,
    selector: number,
    expires: number,
  ): boolean {
    const queue = this.#queues.get(namespaceId);
    if (queue === undefined) return this.push(namespaceId, words, offset, selector, expires);
    const entry = this.#take();
    if (entry === none) return false;
    this.#write(entry, words, offset, selector, expires);
    this.#next[entry] = queue.head;
    queue.head = entry;
    queue.length += 1;
    return true;
  }

  /** Pairs of the namespace. */
  lengthOf(namespaceId: number): number {
    return this.#queues.get(namespaceId)?.length ?? 0;
  }

  /**
   * Removes the namespace's oldest pair and returns its entry, or -1. The entry's words stay readable
   * until the next `push`.
   */
  shift(namespaceId: number): number {
    const queue = this.#queues.get(namespaceId);
    if (queue === undefined) return none;
    const entry = queue.head;
    if (entry === queue.tail) this.#queues.delete(namespaceId);
    else queue.head = this.#next[entry] as number;
    queue.length -= 1;
    this.#next[entry] = this.#free;
    this.#free = entry;
    return entry;
  }

  #write(
    entry: number,
    words: Uint32Array,
    offset: number,
    selector: number,
    expires: number,
  ): void {
    const at = entry * learnedWords;
    for (let i = 0; i < 4; i++) this.words[at + i] = words[offset + i] as number;
    this.words[at + 4] = selector;
    this.words[at + 5] = expires;
  }

  #take(): number {
    if (this.#free !== none) {
      const entry = this.#free;
      this.#free = this.#next[entry] as number;
      return entry;
    }
    if (this.#used === this.#next.length) return none;
    this.#used += 1;
    return this.#used - 1;
  }
}
