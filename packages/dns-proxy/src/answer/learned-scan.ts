// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Finds pairs of a namespace in the kernel's map that this member does not remember: the other member
 * learned them, or they were learned before this process began. Without them a namespace at its quota
 * would lose what it learned a moment ago, or learn nothing until something of it expires. Bounded
 * steps; the walk goes on where it stopped.
 */

import { BatchCursor, type BpfMap } from '@tandem/bpf-loader-node/map';
import { TD_FQDN_SELECTORS_MAX, tdFqdn, tdFqdnKey, tdFqdnSlot } from '@tandem/datapath/abi.gen';
import {
  learnedScanEntries,
  learnedScanNamespaces,
  learnedScanPairs,
  learnedScansPerSecondMax,
} from '../limits.ts';
import type { LearnedQueue } from './learned-queue.ts';

/** Entries of one system call. */
const stepEntriesDefault = 1024;

export class LearnedScan {
  readonly #fqdn: Pick<BpfMap, 'lookupBatch'>;
  readonly #stepEntries: number;
  readonly #pairsMax: number;
  readonly #keys: Uint8Array;
  readonly #keyWords: Uint32Array;
  readonly #values: Uint8Array;
  readonly #valueWords: Uint32Array;
  /** Of each pair found: address (4 words), selector, expiry. */
  readonly #found: Uint32Array;
  /** How many pairs the last scan for a namespace found. */
  readonly #foundOf = new Map<number, number>();
  #count = 0;
  #cursor: BatchCursor | null = null;
  #second = 0;
  #scans = 0;

  constructor(
    fqdn: Pick<BpfMap, 'lookupBatch'>,
    pairsMax: number = learnedScanPairs,
    stepEntries: number = stepEntriesDefault,
  ) {
    this.#fqdn = fqdn;
    this.#stepEntries = stepEntries;
    this.#pairsMax = pairsMax;
    this.#keys = new Uint8Array(stepEntries * tdFqdnKey.size);
    this.#keyWords = new Uint32Array(this.#keys.buffer);
    this.#values = new Uint8Array(stepEntries * tdFqdn.size);
    this.#valueWords = new Uint32Array(this.#values.buffer);
    this.#found = new Uint32Array(pairsMax * 6);
  }

  /** Whether the queue remembers too little of the namespace to tell what is old. */
  isNeeded(queue: LearnedQueue, namespaceId: number): boolean {
    const found = this.#foundOf.get(namespaceId);
    return found === undefined || queue.lengthOf(namespaceId) < Math.max(1, found >> 2);
  }

  /**
   * Puts the older half of what is found before everything that the queue has of the namespace. Nothing
   * happens when this second's scans are spent.
   */
  refill(queue: LearnedQueue, namespaceId: number, nowSeconds: number): void {
    if (nowSeconds !== this.#second) {
      this.#second = nowSeconds;
      this.#scans = 0;
    }
    if (this.#scans === learnedScansPerSecondMax) return;
    this.#scans += 1;
    this.#count = 0;
    for (let looked = 0; looked < learnedScanEntries && this.#count < this.#pairsMax; ) {
      looked += this.#step(namespaceId);
      // One walk is enough: a second one would find the same.
      if (this.#cursor === null) break;
    }
    if (this.#foundOf.size >= learnedScanNamespaces) this.#foundOf.clear();
    this.#foundOf.set(namespaceId, this.#count);
    const found = this.#found;
    const order = Array.from({ length: this.#count }, (_, i) => i * 6);
    order.sort((a, b) => (found[a + 5] as number) - (found[b + 5] as number));
    for (let i = ((this.#count + 1) >> 1) - 1; i >= 0; i--) {
      const at = order[i] as number;
      queue.unshift(namespaceId, found, at, found[at + 4] as number, found[at + 5] as number);
    }
  }

  /** Returns how many entries were looked at, at least 1. */
  #step(namespaceId: number): number {
    this.#cursor ??= new BatchCursor(tdFqdnKey.size);
    const cursor = this.#cursor;
    const count = this.#fqdn.lookupBatch(cursor, this.#keys, this.#values, this.#stepEntries);
    for (let i = 0; i < count; i++) this.#take(i, namespaceId);
    if (cursor.isDone) this.#cursor = null;
    return Math.max(count, 1);
  }

  #take(entry: number, namespaceId: number): void {
    const words = this.#valueWords;
    const value = (entry * tdFqdn.size) / 4;
    const key = (entry * tdFqdnKey.size) / 4;
    for (let s = 0; s < TD_FQDN_SELECTORS_MAX && this.#count < this.#pairsMax; s++) {
      const slot = value + (tdFqdn.slot + s * tdFqdnSlot.size) / 4;
      const selector = words[slot + tdFqdnSlot.selector / 4] as number;
      if (selector === 0 || words[slot + tdFqdnSlot.namespace_id / 4] !== namespaceId) continue;
      const at = this.#count * 6;
      for (let w = 0; w < 4; w++) this.#found[at + w] = this.#keyWords[key + w] as number;
      this.#found[at + 4] = selector;
      this.#found[at + 5] = words[slot + tdFqdnSlot.expires_s / 4] as number;
      this.#count += 1;
    }
  }
}
