// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Learn before reply: gathers what a batch of answers teaches, writes it to the kernel in one call, and
 * only then are the replies sent. When a namespace's quota is full, its own oldest pairs make room that
 * were not answered again. What large answers to one namespace may have written in a second is bounded.
 */

import type { BpfMap } from '@tandem/bpf-loader-node/map';
import type { ReplyView } from '@tandem/core/dns/reply';
import { tdLearnOp, tdLearnResult } from '@tandem/datapath/abi.gen';
import { counter } from '../counters.ts';
import type { GroupMember } from '../group.ts';
import {
  evictionBatch,
  evictionRunsMax,
  evictionSparingRuns,
  extensionGraceShare,
  learnPairsOrdinary,
  ttlSecondsMax,
} from '../limits.ts';
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
import { LearnedQueue, learnedWords } from './learned-queue.ts';
import { LearnedScan } from './learned-scan.ts';
import { WriteRate } from './write-rate.ts';

/** Selectors that one answer may feed; a name that matches more patterns is counted, not learned whole. */
const selectorsPerAnswerMax = 256;
/** Runs of one batch again because a page was busy; the kernel waits itself before it says so. */
const busyRetriesMax = 3;
/** Of a name's hash: what is a small integer to V8, and not negative. */
const hashMask = 0x3fffffff;

export interface LearnerOptions {
  readonly writer: KernelWriter;
  /** The kernel's map, to find what this member does not remember. */
  readonly fqdn: Pick<BpfMap, 'lookupBatch'>;
  readonly counters: Float64Array;
  /** Seconds added to every TTL; and the least TTL. */
  readonly graceSeconds: number;
  readonly ttlSecondsMin: number;
  readonly seed: number;
  /** Tells of removals by any member, so that no member trusts what it knew. */
  readonly group: Pick<GroupMember, 'removals'>;
  /** Places for known pairs (a power of two) and for learned ones; defaults of limits.ts. */
  readonly knownPairs?: number;
  readonly learnedPairs?: number;
}

export class Learner {
  readonly #writer: KernelWriter;
  readonly #counters: Float64Array;
  readonly graceSeconds: number;
  readonly ttlSecondsMin: number;
  readonly #group: Pick<GroupMember, 'removals'>;
  readonly #known: KnownPairs;
  /** (address, name) in the place of (address, selector): what the name caches were told. */
  readonly #told: KnownPairs;
  readonly #queue: LearnedQueue;
  readonly #scan: LearnedScan;
  readonly #rate = new WriteRate();
  readonly #selectors = new Uint32Array(selectorsPerAnswerMax);
  /** Per request of the batch: 1 if the pair is new to this member. */
  readonly #isNew = new Uint8Array(learnBatchMax);
  readonly #retry = new Uint32Array(learnBatchMax * requestWords);
  #removalsSeen = 0;
  #nowSeconds = 0;

  constructor(options: LearnerOptions) {
    this.#writer = options.writer;
    this.#queue = new LearnedQueue(options.learnedPairs);
    this.#scan = new LearnedScan(options.fqdn, options.learnedPairs, options.learnedPairs);
    this.#counters = options.counters;
    this.graceSeconds = options.graceSeconds;
    this.ttlSecondsMin = options.ttlSecondsMin;
    this.#group = options.group;
    const slackSeconds = Math.floor(options.graceSeconds / extensionGraceShare);
    this.#known = new KnownPairs(options.seed, slackSeconds, options.knownPairs);
    this.#told = new KnownPairs(~options.seed, slackSeconds, options.knownPairs);
  }

  /** Before a batch: forget what is known if some member removed pairs since. */
  begin(): void {
    const removals = this.#group.removals;
    if (removals === this.#removalsSeen) return;
    this.#removalsSeen = removals;
    this.#known.clear();
  }

  /**
   * Takes in the addresses of one answer to a name with the hash `nameHash`. Returns how many pairs are new
   * or live longer now, (address, selector) or (address, name): 0 is nothing that the name caches need to
   * hear. Or -1 when no selector wants the addresses.
   */
  collect(
    nameHash: number,
    reply: ReplyView,
    replyWords: Uint32Array,
    tables: Pick<PolicyTables, 'selectorsOf'>,
    acceptSet: number,
    trusted: boolean,
    policyId: number,
    namespaceId: number,
    nowSeconds: number,
  ): number {
    const selectors = tables.selectorsOf(acceptSet, trusted, policyId, this.#selectors);
    this.#nowSeconds = nowSeconds;
    if (selectors === 0) return reply.addressCount > 0 ? -1 : 0;
    const isLarge = reply.addressCount * selectors > learnPairsOrdinary;
    if (isLarge && this.#rate.isOver(namespaceId, nowSeconds)) {
      this.#counters[counter.learnRefusedRate]! += reply.addressCount;
      return 0;
    }
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
      // Another name of a known address teaches the kernel nothing, but a selector to come may want it.
      if (this.#told.extend(replyWords, i * 4, nameHash & hashMask, expires) !== pairKnown)
        changed += 1;
    }
    if (isLarge) this.#rate.add(namespaceId, changed);
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
    this.#count(counter.addressesLearned);
    this.#enqueue(i);
  }

  #enqueue(i: number): void {
    const writer = this.#writer;
    this.#queue.push(
      writer.namespaceOf(i),
      writer.words,
      writer.wordOf(i),
      writer.selectorOf(i),
      writer.expiresOf(i),
    );
  }

  /** What a quota refused, by namespace: its oldest pairs go, then the new ones come. */
  #makeRoomAndRetry(retries: number): void {
    for (let from = 0; from < retries; ) {
      const namespaceId = this.#retry[from * requestWords + namespaceWord];
      let to = from + 1;
      while (to < retries && this.#retry[to * requestWords + namespaceWord] === namespaceId)
        to += 1;
      this.#replace(namespaceId as number, from, to);
      from = to;
    }
  }

  /** Retries `from`..`to`, all of one namespace. */
  #replace(namespaceId: number, from: number, to: number): void {
    let runs = 0;
    let end = to;
    this.#findMore(namespaceId);
    // What is spared goes to the end of the queue: it must not be met there again.
    let sparing = this.#queue.lengthOf(namespaceId);
    while (from < end) {
      if (runs === evictionSparingRuns) sparing = 0;
      // What is remembered may be gone already: after the first time larger steps pass over it.
      const count = runs === 0 ? Math.max(end - from, evictionBatch) : learnBatchMax;
      if (runs > 0) this.#findMore(namespaceId);
      const isSparing = sparing > 0;
      const most = isSparing ? Math.min(count, sparing) : count;
      const attempted = this.#evict(namespaceId, most, isSparing);
      sparing = Math.max(0, sparing - attempted);
      runs += 1;
      const isLast = attempted === 0 || runs >= evictionRunsMax;
      end = this.#retryAdds(namespaceId, from, end, isLast);
      if (isLast) return;
    }
  }

  #findMore(namespaceId: number): void {
    if (this.#scan.isNeeded(this.#queue, namespaceId))
      this.#scan.refill(this.#queue, namespaceId, this.#nowSeconds);
  }

  /** Returns the end of what a quota still refuses, moved to `from`; none when this was the last time. */
  #retryAdds(namespaceId: number, from: number, to: number, isLast: boolean): number {
    const writer = this.#writer;
    const retry = this.#retry;
    writer.count = 0;
    for (let i = from; i < to; i++) {
      const at = i * requestWords;
      const selector = retry[at + selectorWord] as number;
      const isAaaa = retry[at + aaaaWord] === 1;
      const expires = retry[at + expiresWord] as number;
      writer.add(tdLearnOp.ADD, retry, at, selector, expires, namespaceId, isAaaa);
    }
    this.#run();
    let end = from;
    for (let i = 0; i < writer.count; i++) {
      const result = writer.resultOf(i);
      if (result >= 0) {
        this.#remember(i);
      } else if (isQuota(result) && !isLast) {
        const at = (from + i) * requestWords;
        retry.copyWithin(end * requestWords, at, at + requestWords);
        end += 1;
      } else {
        this.#refused(i, result);
      }
    }
    return end;
  }

  /**
   * Removes up to `count` of the namespace's oldest pairs. Returns how many were named: they may have
   * expired, or the other member may have removed them, so fewer may be free now. `isSparing`: pairs
   * that any member answered again since go to the end of the queue instead.
   */
  #evict(namespaceId: number, count: number, isSparing: boolean): number {
    const writer = this.#writer;
    const { words } = this.#queue;
    writer.count = 0;
    while (writer.count < count && !writer.isFull) {
      const entry = this.#queue.shift(namespaceId);
      if (entry === -1) break;
      const at = entry * learnedWords;
      const selector = words[at + 4] as number;
      const expires = isSparing ? (words[at + 5] as number) : 0;
      writer.add(tdLearnOp.REMOVE, words, at, selector, expires, namespaceId, false);
    }
    if (writer.count === 0) return 0;
    this.#run();
    let removed = 0;
    for (let i = 0; i < writer.count; i++) {
      const result = writer.resultOf(i);
      if (result === tdLearnResult.KEPT) {
        this.#count(counter.learnSpared);
        this.#enqueue(i);
        continue;
      }
      if (result === tdLearnResult.OK) removed += 1;
      this.#known.forget(writer.words, writer.wordOf(i), writer.selectorOf(i));
    }
    this.#counters[counter.learnEvicted] =
      (this.#counters[counter.learnEvicted] as number) + removed;
    // `learn` counts a run that removed; ours is already forgotten, the other member's are not.
    if (removed > 0) this.#removalsSeen = (this.#removalsSeen + 1) >>> 0;
    return writer.count;
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
  return (
    result === tdLearnResult.REFUSED_NAMESPACE ||
    result === tdLearnResult.REFUSED_SELECTOR ||
    result === tdLearnResult.REFUSED_FULL
  );
}
