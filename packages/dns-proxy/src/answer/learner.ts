// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Learn before reply: collects the addresses of a batch of answers, writes them to the kernel in one call, and
 * only then are the replies sent. The kernel's program alone decides which pairs it evicts. The writes of large
 * answers to one namespace are bounded per second. Selectors that policies of other namespaces alone name are offers: they have a
 * bound of their own, so that the patterns of others make no answer of the namespace a large one.
 */

import type { AcceptSet } from '@tandem/core/dns/matcher';
import type { ReplyView } from '@tandem/core/dns/reply';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { tdLearnOp, tdLearnResult } from '@tandem/datapath/abi.gen';
import type { NodeGroup } from '@tandem/datapath/group';
import { counter } from '../counters.ts';
import {
  extensionGraceShare,
  learnPairsOrdinary,
  refusedAddressSeconds,
  refusedPairsMax,
} from '../limits.ts';
import type { PolicyTables } from '../policy/tables.ts';
import { type KernelWriter, learnBatchMax } from './kernel-writer.ts';
import { KnownPairs, pairKnown, pairNew } from './known-pairs.ts';
import { clampTtl } from './ttl.ts';
import { WriteRate } from './write-rate.ts';

/** Selectors that one answer may feed, those of its namespace first; of a name that matches more patterns the addresses are counted. */
const selectorsPerAnswerMax = 256;
/** Mask of a name's hash, which makes it a small positive integer of V8. */
const hashMask = 0x3fffffff;

export interface LearnerOptions {
  readonly writer: KernelWriter;
  readonly counters: Float64Array;
  /** Seconds added to every TTL; and the least TTL. */
  readonly graceSeconds: number;
  readonly ttlSecondsMin: number;
  readonly seed: number;
  /** Counts removals by any member: after one, known pairs are forgotten. */
  readonly group: Pick<NodeGroup, 'removals'>;
  /** Places for known pairs (a power of two); default of limits.ts. */
  readonly knownPairs?: number;
}

/** A pair whose address the kernel refused. */
interface RefusedPair {
  readonly address: Uint32Array;
  readonly selector: number;
  readonly owner: number;
  readonly atSeconds: number;
}

export class Learner {
  readonly #writer: KernelWriter;
  readonly #counters: Float64Array;
  readonly graceSeconds: number;
  readonly ttlSecondsMin: number;
  readonly #group: Pick<NodeGroup, 'removals'>;
  readonly #known: KnownPairs;
  /**
   * Pairs (address, name) that the name caches have; like `#known`, with a number of name and scope for the selector. The caches keep
   * mappings of namespaces and scopes apart, so an answer to one tells them nothing of another's.
   */
  readonly #cached: KnownPairs;
  readonly #rate = new WriteRate();
  readonly #offerRate = new WriteRate();
  /** Addresses that no selector of the namespace wants. */
  readonly #nameRate = new WriteRate();
  /** With a place for one that is too many. */
  readonly #selectors = new Uint32Array(selectorsPerAnswerMax + 1);
  readonly #offered = new Uint8Array(selectorsPerAnswerMax + 1);
  /** Per request of the batch: 1 if the pair is new to this member, and whose it is; 0: an offer. */
  readonly #isNew = new Uint8Array(learnBatchMax);
  readonly #owners = new Uint32Array(learnBatchMax);
  /** Oldest first. */
  readonly #refusedPairs: RefusedPair[] = [];
  #nowSeconds = 0;
  #removalsSeen = 0;
  #mustForgetNames = false;
  #namesForgottenAt = 0;

  constructor(options: LearnerOptions) {
    this.#writer = options.writer;
    this.#counters = options.counters;
    this.graceSeconds = options.graceSeconds;
    this.ttlSecondsMin = options.ttlSecondsMin;
    this.#group = options.group;
    const slackSeconds = Math.floor(options.graceSeconds / extensionGraceShare);
    this.#known = new KnownPairs(options.seed, slackSeconds, options.knownPairs);
    this.#cached = new KnownPairs(~options.seed, slackSeconds, options.knownPairs);
  }

  /** Before a batch: forgets known pairs if a member has removed some since. */
  begin(): void {
    const removals = this.#group.removals;
    if (removals === this.#removalsSeen) return;
    this.#removalsSeen = removals;
    this.#known.clear();
  }

  /**
   * The name caches did not get what an answer taught: the next answers teach all names again. Once a
   * second at most, because names are lost while the main thread has too much to do.
   */
  forgetNames(): void {
    this.#mustForgetNames = true;
  }

  /**
   * Takes in the addresses of one answer to a name with the hash `nameHash`. Returns how many pairs are new
   * or expire later now, (address, selector) or (address, name): with 0 the name caches need no update.
   * Or -1 when no selector wants the addresses.
   */
  collect(
    nameHash: number,
    reply: ReplyView,
    replyWords: Uint32Array,
    tables: Pick<PolicyTables, 'selectorsOf'>,
    acceptSet: AcceptSet,
    trusted: boolean,
    policyId: PolicyId,
    namespaceId: NamespaceId,
    nowSeconds: number,
  ): number {
    if (this.#mustForgetNames && nowSeconds !== this.#namesForgottenAt) {
      this.#cached.clear();
      this.#mustForgetNames = false;
      this.#namesForgottenAt = nowSeconds;
    }
    this.#nowSeconds = nowSeconds;
    this.#forgetRefused();
    const offered = this.#offered;
    const found = tables.selectorsOf(
      acceptSet,
      trusted,
      policyId,
      namespaceId,
      this.#selectors,
      offered,
    );
    if (found === 0) return this.#unselected(reply.addressCount, namespaceId, nowSeconds);
    let selectors = Math.min(found, selectorsPerAnswerMax);
    if (found > selectors) this.#counters[counter.learnRefusedSelectors]! += reply.addressCount;
    const wanted = wantedOf(offered, selectors);
    const rate = wanted === 0 ? this.#nameRate : this.#rate;
    const isLarge = reply.addressCount * Math.max(1, wanted) > learnPairsOrdinary;
    if (isLarge && rate.isOver(namespaceId, nowSeconds)) {
      this.#counters[counter.learnRefusedRate]! += reply.addressCount;
      return 0;
    }
    const hasManyOffers = reply.addressCount * (selectors - wanted) > learnPairsOrdinary;
    if (hasManyOffers && this.#offerRate.isOver(namespaceId, nowSeconds)) {
      this.#counters[counter.learnRefusedOffers]! += reply.addressCount;
      selectors = wanted;
    }
    // The hash is keyed: no author can choose a policy by which two names have one number.
    const mapping = (trusted ? nameHash : nameHash ^ policyId) & hashMask;
    let changed = 0;
    let offers = 0;
    for (let i = 0; i < reply.addressCount; i++) {
      const ttl = clampTtl(reply.ttls[i]!, this.ttlSecondsMin);
      const expires = (nowSeconds + ttl + this.graceSeconds) >>> 0;
      const isAaaa = reply.types[i] === 28;
      for (let s = 0; s < selectors; s++) {
        const selector = this.#selectors[s]!;
        const isOffered = offered[s] === 1;
        const owner = isOffered ? 0 : namespaceId;
        const change = this.#known.extend(replyWords, i * 4, selector, owner, expires);
        if (change === pairKnown) {
          this.#count(counter.addressesKnown);
          continue;
        }
        if (this.#writer.isFull) this.flush();
        const { count } = this.#writer;
        this.#isNew[count] = change === pairNew ? 1 : 0;
        this.#owners[count] = owner;
        this.#writer.add(
          tdLearnOp.ADD,
          replyWords,
          i * 4,
          selector,
          expires,
          namespaceId,
          isAaaa,
          isOffered,
        );
        changed += 1;
        if (isOffered) offers += 1;
      }
      // Another name of a known address teaches the kernel nothing, but a selector to come may want it.
      if (this.#cached.extend(replyWords, i * 4, mapping, namespaceId, expires) !== pairKnown)
        changed += 1;
    }
    // One pair that is new has the name caches take in all addresses.
    if (isLarge && changed > 0)
      rate.add(namespaceId, Math.max(changed - offers, reply.addressCount));
    if (hasManyOffers) this.#offerRate.add(namespaceId, offers);
    return changed;
  }

  /** A selector to come may want the addresses; of large answers the name caches get as many as the kernel would. */
  #unselected(addresses: number, namespaceId: NamespaceId, nowSeconds: number): number {
    if (addresses > learnPairsOrdinary) {
      if (this.#nameRate.isOver(namespaceId, nowSeconds)) {
        this.#counters[counter.learnRefusedRate]! += addresses;
        return 0;
      }
      this.#nameRate.add(namespaceId, addresses);
    }
    return addresses > 0 ? -1 : 0;
  }

  /** Writes the collected requests. Must run before the replies of the batch are sent. */
  flush(): void {
    const writer = this.#writer;
    if (writer.count === 0) return;
    this.#count(counter.learnRuns);
    writer.runAdds();
    this.#counters[counter.learnEvicted]! += writer.evicted;
    for (let i = 0; i < writer.count; i++) {
      const result = writer.resultOf(i);
      if (result < 0) this.#refused(i, result);
      else if (this.#isNew[i] === 1) this.#count(counter.addressesLearned);
    }
    writer.count = 0;
  }

  #refused(i: number, result: number): void {
    const writer = this.#writer;
    const at = writer.wordOf(i);
    const selector = writer.selectorOf(i);
    const owner = this.#owners[i]!;
    if (result === tdLearnResult.REFUSED_ADDRESS) {
      // Stays known for a while: asking again at once would be a write per answer.
      this.#count(counter.learnRefusedAddress);
      if (this.#refusedPairs.length === refusedPairsMax) return;
      const address = writer.words.slice(at, at + 4);
      this.#refusedPairs.push({ address, selector, owner, atSeconds: this.#nowSeconds });
      return;
    }
    this.#known.forget(writer.words, at, selector, owner);
    if (result === tdLearnResult.REFUSED_BUSY) this.#count(counter.learnRefusedBusy);
    else if (owner === 0) this.#count(counter.learnRefusedOffers);
    else if (result === tdLearnResult.REFUSED_SELECTORS) this.#count(counter.learnRefusedSelectors);
    else if (result === tdLearnResult.REFUSED_FULL) this.#count(counter.learnRefusedFull);
    else this.#count(counter.learnRefusedQuota);
  }

  /** Addresses that were refused long ago may be no longer the cluster's. */
  #forgetRefused(): void {
    const before = this.#nowSeconds - refusedAddressSeconds;
    for (let [pair] = this.#refusedPairs; pair !== undefined; [pair] = this.#refusedPairs) {
      if (pair.atSeconds > before) return;
      this.#known.forget(pair.address, 0, pair.selector, pair.owner);
      this.#refusedPairs.shift();
    }
  }

  #count(index: number): void {
    this.#counters[index] = this.#counters[index]! + 1;
  }
}

/** How many of the first `selectors` are no offers: those come first. */
function wantedOf(offered: Uint8Array, selectors: number): number {
  let wanted = 0;
  while (wanted < selectors && offered[wanted] === 0) wanted += 1;
  return wanted;
}
