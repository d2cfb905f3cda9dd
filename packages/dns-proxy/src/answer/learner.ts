// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Learn before reply: gathers what a batch of answers teaches, writes it to the kernel in one call, and
 * only then are the replies sent. When a namespace's quota is full its own oldest pairs make room.
 */

import type { ReplyView } from '@tandem/core/dns/reply';
import { tdLearnOp, tdLearnResult } from '@tandem/datapath/abi.gen';
import { counter } from '../counters.ts';
import type { GroupMember } from '../group.ts';
import { evictionBatch, ttlSecondsMax } from '../limits.ts';
import type { PolicyTables } from '../policy/tables.ts';
import {
  aaaaWord,
  expiresWord,
  type KernelWriter,
  learnBatchMax,
  namespaceWord,
  requestWords,
  selectorWord,
} from './kernel-writer.ts';
import { KnownPairs, pairKnown, pairNew } from './known-pairs.ts';
import { LearnedQueue } from './learned-queue.ts';

/** Selectors that one answer may feed; a name that matches more patterns is counted, not learned whole. */
const selectorsPerAnswerMax = 256;
/** Runs of one batch again because a page was busy; the kernel waits itself before it says so. */
const busyRetriesMax = 3;

export interface LearnerOptions {
  readonly writer: KernelWriter;
  readonly counters: Float64Array;
  /** Seconds added to every TTL; and the least TTL. */
  readonly graceSeconds: number;
  readonly ttlSecondsMin: number;
  readonly seed: number;
  /** Tells of removals by any member, so that no member trusts what it knew. */
  readonly group: GroupMember;
}

export class Learner {
  readonly #writer: KernelWriter;
  readonly #counters: Float64Array;
  readonly graceSeconds: number;
  readonly ttlSecondsMin: number;
  readonly #group: GroupMember;
  readonly #known: KnownPairs;
  readonly #queue = new LearnedQueue();
  readonly #selectors = new Uint32Array(selectorsPerAnswerMax);
  /** Per request of the batch: 1 if the pair is new to this member. */
  readonly #isNew = new Uint8Array(learnBatchMax);
  readonly #retry = new Uint32Array(learnBatchMax * requestWords);
  #removalsSeen = 0;

  constructor(options: LearnerOptions) {
    this.#writer = options.writer;
    this.#counters = options.counters;
    this.graceSeconds = options.graceSeconds;
    this.ttlSecondsMin = options.ttlSecondsMin;
    this.#group = options.group;
    this.#known = new KnownPairs(options.seed);
  }

  /** Before a batch: forget what is known if some member removed pairs since. */
  begin(): void {
    const removals = this.#group.removals;
    if (removals === this.#removalsSeen) return;
    this.#removalsSeen = removals;
    this.#known.clear();
  }

  /**
   * Takes in the addresses of one answer. Returns how many pairs are new or live longer now (0: nothing
   * that the other member needs to hear), or -1 when no selector wants them.
   */
  collect(
    reply: ReplyView,
    replyWords: Uint32Array,
    tables: PolicyTables,
    acceptSet: number,
    trusted: boolean,
    policyId: number,
    namespaceId: number,
    nowSeconds: number,
  ): number {
    const selectors = tables.selectorsOf(acceptSet, trusted, policyId, this.#selectors);
    if (selectors === 0) return reply.addressCount > 0 ? -1 : 0;
    let changed = 0;
    for (let i = 0; i < reply.addressCount; i++) {
      const ttl = Math.max(Math.min(reply.ttls[i] as number, ttlSecondsMax), this.ttlSecondsMin);
      const expires = (nowSeconds + ttl + this.graceSeconds) >>> 0;
      const isAaaa = reply.types[i] === 28;
      for (let s = 0; s < selectors; s++) {
        const selector = this.#selectors[s] as number;
        const change = this.#known.extend(replyWords, i * 4, selector, expires);
        if (change === pairKnown) {
          this.#count(counter.addressesKnown);
          continue;
        }
        if (this.#writer.isFull) this.flush();
        this.#isNew[this.#writer.count] = change === pairNew ? 1 : 0;
        this.#writer.add(tdLearnOp.ADD, replyWords, i * 4, selector, expires, namespaceId, isAaaa);
        changed += 1;
      }
    }
    return changed;
  }

  /** Writes what was collected. Must run before the replies of the batch are sent. */
  flush(): void {
    const writer = this.#writer;
    if (writer.count === 0) return;
    const failed = this.#run();
    let retries = 0;
    for (let i = 0; i < writer.count; i++) {
      const result = writer.resultOf(i);
      if (result >= 0) {
        if (this.#isNew[i] === 1) this.#remember(i);
      } else if (failed > 0 && isQuota(result)) {
        const from = writer.wordOf(i);
        this.#retry.set(writer.words.subarray(from, from + requestWords), retries * requestWords);
        retries += 1;
      } else {
        this.#refused(i, result);
      }
    }
    if (retries > 0) this.#makeRoomAndRetry(retries);
    writer.count = 0;
  }

  #run(): number {
    this.#count(counter.learnRuns);
    let failed = this.#writer.run();
    // BUSY: another writer was caught between two steps on the same page. The others are repeated
    // harmlessly: adding what is there changes nothing.
    for (let attempt = 0; attempt < busyRetriesMax && this.#hasBusy(failed); attempt++) {
      failed = this.#writer.run();
    }
    return failed;
  }

  #hasBusy(failed: number): boolean {
    if (failed === 0) return false;
    for (let i = 0; i < this.#writer.count; i++) {
      if (this.#writer.resultOf(i) === tdLearnResult.REFUSED_BUSY) return true;
    }
    return false;
  }

  /** The pair of request `i` is in the kernel and ours to evict one day. */
  #remember(i: number): void {
    const writer = this.#writer;
    this.#count(counter.addressesLearned);
    this.#queue.push(writer.namespaceOf(i), writer.words, writer.wordOf(i), writer.selectorOf(i));
  }

  /** Groups what a quota refused by namespace: its oldest pairs go, the new ones come, in one run. */
  #makeRoomAndRetry(retries: number): void {
    const writer = this.#writer;
    const retry = this.#retry;
    let done = 0;
    while (done < retries) {
      const namespaceId = retry[done * requestWords + namespaceWord] as number;
      writer.count = 0;
      this.#evict(namespaceId);
      const first = writer.count;
      const room = Math.max(first, 1);
      while (done < retries && !writer.isFull && writer.count - first < room) {
        const at = done * requestWords;
        if (retry[at + namespaceWord] !== namespaceId) break;
        const selector = retry[at + selectorWord] as number;
        const expires = retry[at + expiresWord] as number;
        const isAaaa = retry[at + aaaaWord] === 1;
        writer.add(tdLearnOp.ADD, retry, at, selector, expires, namespaceId, isAaaa);
        done += 1;
      }
      this.#run();
      if (first > 0) {
        // `learn` counts a run that removed; ours is already forgotten, the other member's are not.
        this.#removalsSeen = (this.#removalsSeen + 1) >>> 0;
      }
      for (let i = first; i < writer.count; i++) {
        const result = writer.resultOf(i);
        if (result < 0) this.#refused(i, result);
        else this.#remember(i);
      }
    }
  }

  /** Appends removals of the namespace's oldest pairs. */
  #evict(namespaceId: number): void {
    const { words } = this.#queue;
    for (let i = 0; i < evictionBatch; i++) {
      const entry = this.#queue.shift(namespaceId);
      if (entry === -1) return;
      const at = entry * 5;
      const selector = words[at + 4] as number;
      this.#known.forget(words, at, selector);
      this.#writer.add(tdLearnOp.REMOVE, words, at, selector, 0, namespaceId, false);
      this.#count(counter.learnEvicted);
    }
  }

  #refused(i: number, result: number): void {
    const writer = this.#writer;
    if (result === tdLearnResult.REFUSED_ADDRESS) {
      // Stays known: it will be refused for ever, and asking again would be a write per answer.
      this.#count(counter.learnRefusedAddress);
      return;
    }
    this.#known.forget(writer.words, writer.wordOf(i), writer.selectorOf(i));
    if (result === tdLearnResult.REFUSED_SELECTORS) this.#count(counter.learnRefusedSelectors);
    else if (result === tdLearnResult.REFUSED_FULL) this.#count(counter.learnRefusedFull);
    else this.#count(counter.learnRefusedQuota);
  }

  #count(index: number): void {
    this.#counters[index] = (this.#counters[index] as number) + 1;
  }
}

/** Refusals that making room in the asker's own namespace may cure. */
function isQuota(result: number): boolean {
  return result === tdLearnResult.REFUSED_NAMESPACE || result === tdLearnResult.REFUSED_FULL;
}
