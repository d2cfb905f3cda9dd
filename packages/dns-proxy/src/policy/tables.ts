// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Lookups over a {@link TablesImage}: what the query path asks of policy. */

import type { Branded } from '@tandem/core/brand';
import { type AcceptSet, Matcher } from '@tandem/core/dns/matcher';
import type { NamespaceId, PolicyId, Revision } from '@tandem/core/ids';
import { backendRecordWords, serverRecordWords, type TablesImage } from './tables-image.ts';

/** Index of a rule set in one image, or -1. */
export type RuleSetIndex = Branded<'RuleSetIndex'>;

/** Selectors that only answers to certain policies feed. */
export interface PrivateFeeds {
  /** Their policies. */
  readonly policyOf: ReadonlyMap<number, number>;
  /** Policies whose answers count for a policy: itself and its predecessors. */
  readonly scopesOf: ReadonlyMap<number, ReadonlySet<number>>;
}

export class PolicyTables {
  readonly revision: Revision;
  readonly matcher: Matcher;
  readonly #image: TablesImage;

  constructor(image: TablesImage) {
    this.#image = image;
    this.revision = image.revision;
    this.matcher = new Matcher(image.matcher);
  }

  hasPolicy(policyId: PolicyId): boolean {
    return indexOfId(this.#image.policyIds, policyId) >= 0;
  }

  /**
   * Index of the rule set that `policyId` has for the server (4 words at `offset`, as stored in
   * memory), falling back to the policy's wildcard server; -1 when it has none.
   */
  ruleSetOf(
    policyId: PolicyId,
    words: Uint32Array,
    offset: number,
    protocol: number,
  ): RuleSetIndex {
    const exact = this.#findServer(policyId, words, offset, protocol);
    return exact >= 0 ? exact : this.#findServer(policyId, anyServer, 0, protocol);
  }

  /** Whether the rule set allows names of this accept set of the matcher's last answer. */
  isAllowed(ruleSet: RuleSetIndex, acceptSet: AcceptSet): boolean {
    const { matchAll, allowedFrom, allowedPatterns, allowedBitsAt, allowedBits } = this.#image;
    if (matchAll[ruleSet] === 1) return true;
    const { starts, members } = this.matcher.acceptSets;
    const set = starts[acceptSet]!;
    const setEnd = starts[acceptSet + 1]!;
    const bits = allowedBitsAt[ruleSet]!;
    if (bits >= 0) {
      for (let i = set; i < setEnd; i++) {
        const pattern = members[i]!;
        if ((allowedBits[bits + (pattern >>> 5)]! & (1 << (pattern & 31))) !== 0) return true;
      }
      return false;
    }
    const own = allowedFrom[ruleSet]!;
    const ownEnd = allowedFrom[ruleSet + 1]!;
    // Either may be one that others made long.
    return setEnd - set < ownEnd - own
      ? haveCommon(members, set, setEnd, allowedPatterns, own, ownEnd)
      : haveCommon(allowedPatterns, own, ownEnd, members, set, setEnd);
  }

  isTrusted(words: Uint32Array, offset: number): boolean {
    const trusted = this.#image.trustedServers;
    for (let i = 0; i < trusted.length; i += 4) {
      if (compareWords(trusted, i, words, offset, 4) === 0) return true;
    }
    return false;
  }

  /**
   * Writes the selectors that an answer for `acceptSet` feeds into `out`, as many as fit, and returns how many:
   * those of all policies when the server is trusted, else those of the asking policy alone (safety rule 4). Those that policies of the
   * namespace name come first, so that the patterns of others keep none of them out; `offered` gets a 1 for each of the
   * rest: the namespace does not pay for it (safety rule 17).
   */
  selectorsOf(
    acceptSet: AcceptSet,
    trusted: boolean,
    policyId: PolicyId,
    namespaceId: NamespaceId,
    out: Uint32Array,
    offered: Uint8Array,
  ): number {
    if (!trusted) return this.#privateSelectors(acceptSet, policyId, out, offered);
    return this.#sharedSelectors(acceptSet, namespaceId, out, offered);
  }

  /** In one pass, since authors make accept sets long: from the front what the namespace wants, from the back offers, of which it takes the place. */
  #sharedSelectors(
    acceptSet: AcceptSet,
    namespaceId: NamespaceId,
    out: Uint32Array,
    offered: Uint8Array,
  ): number {
    const { namespaceIds, sharedSelector, wantedPatterns, patternWords } = this.#image;
    const { starts, members } = this.matcher.acceptSets;
    const end = starts[acceptSet + 1]!;
    // A namespace that these tables do not know is served by others soon.
    const row = indexOfId(namespaceIds, namespaceId);
    const base = row * patternWords;
    let wanted = 0;
    let offers = out.length;
    for (let i = starts[acceptSet]!; i < end; i++) {
      const pattern = members[i]!;
      const selector = sharedSelector[pattern]!;
      if (selector === 0) continue;
      const word = row < 0 ? -1 : wantedPatterns[base + (pattern >>> 5)]!;
      if ((word & (1 << (pattern & 31))) === 0) {
        if (offers > wanted) out[--offers] = selector;
        continue;
      }
      if (wanted === offers) {
        if (offers === out.length) break;
        offers += 1;
      }
      out[wanted++] = selector;
    }
    out.copyWithin(wanted, offers);
    const count = wanted + out.length - offers;
    offered.fill(0, 0, wanted);
    offered.fill(1, wanted, count);
    return count;
  }

  #privateSelectors(
    acceptSet: AcceptSet,
    policyId: PolicyId,
    out: Uint32Array,
    offered: Uint8Array,
  ): number {
    const { privateOffsets, privatePairs } = this.#image;
    const { starts, members } = this.matcher.acceptSets;
    const end = starts[acceptSet + 1]!;
    let count = 0;
    for (let i = starts[acceptSet]!; i < end && count < out.length; i++) {
      const pattern = members[i]!;
      const last = privateOffsets[pattern + 1]!;
      for (let p = privateOffsets[pattern]!; p < last && count < out.length; p++) {
        const owner = privatePairs[p * 2]!;
        if (owner !== policyId && !this.#follows(owner, policyId)) continue;
        offered[count] = 0;
        out[count++] = privatePairs[p * 2 + 1]!;
      }
    }
    return count;
  }

  /** Whether answers to the policy `former` count for `policyId`, which took its place. */
  #follows(policyId: number, former: number): boolean {
    const { successions } = this.#image;
    let low = 0;
    let high = successions.length / 2;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = successions[middle * 2]! - former || successions[middle * 2 + 1]! - policyId;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return successions[low * 2] === former && successions[low * 2 + 1] === policyId;
  }

  privateFeeds(): PrivateFeeds {
    const { privatePairs, successions } = this.#image;
    const policyOf = new Map<number, number>();
    const scopesOf = new Map<number, Set<number>>();
    for (let i = 0; i < privatePairs.length; i += 2) {
      const policyId = privatePairs[i]!;
      policyOf.set(privatePairs[i + 1]!, policyId);
      if (!scopesOf.has(policyId)) scopesOf.set(policyId, new Set([policyId]));
    }
    for (let i = 0; i < successions.length; i += 2) {
      scopesOf.get(successions[i + 1]!)?.add(successions[i]!);
    }
    return { policyOf, scopesOf };
  }

  /**
   * Addresses (16 bytes, copies) of servers whose ready backends are other ones than in `previous`, or are
   * known in one of the two only: lasting sockets to these may lead to a backend that is gone.
   */
  serversChangedSince(previous: PolicyTables): Uint8Array[] {
    const now = this.#image.backendDigests;
    const before = previous.#image.backendDigests;
    const changed: Uint8Array[] = [];
    let i = 0;
    let j = 0;
    while (i < now.length || j < before.length) {
      const order = compareBackends(now, i, before, j);
      if (order !== 0) changed.push(addressBytes(order < 0 ? now : before, order < 0 ? i : j));
      else if (now[i + 4] !== before[j + 4]) changed.push(addressBytes(now, i));
      if (order <= 0) i += backendRecordWords;
      if (order >= 0) j += backendRecordWords;
    }
    return changed;
  }

  #findServer(
    policyId: PolicyId,
    words: Uint32Array,
    offset: number,
    protocol: number,
  ): RuleSetIndex {
    const records = this.#image.servers;
    let low = 0;
    let high = records.length / serverRecordWords;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const at = middle * serverRecordWords;
      if (compareRecord(records, at, policyId, words, offset, protocol) < 0) low = middle + 1;
      else high = middle;
    }
    const at = low * serverRecordWords;
    if (at >= records.length) return -1 as RuleSetIndex;
    if (compareRecord(records, at, policyId, words, offset, protocol) !== 0)
      return -1 as RuleSetIndex;
    return records[at + 6]! as RuleSetIndex;
  }
}

/**
 * Whether two ascending lists have a number in common, of which `few` is the shorter one. The next place is sought in steps that
 * double: authors choose both lists, and a search of all the rest for each number would take several times as long where they are mixed.
 */
export function haveCommon(
  few: Int32Array | Uint32Array,
  from: number,
  end: number,
  many: Int32Array | Uint32Array,
  manyFrom: number,
  manyEnd: number,
): boolean {
  let low = manyFrom;
  for (let i = from; i < end; i++) {
    const wanted = few[i]!;
    let high = low;
    for (let step = 1; high < manyEnd && many[high]! < wanted; step *= 2) {
      low = high + 1;
      high += step;
    }
    if (high > manyEnd) high = manyEnd;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (many[middle]! < wanted) low = middle + 1;
      else high = middle;
    }
    if (low === manyEnd) return false;
    if (many[low] === wanted) return true;
  }
  return false;
}

/** Index in ascending ids; -1 when it is not among them. */
function indexOfId(ids: Uint32Array, id: number): number {
  let low = 0;
  let high = ids.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ids[middle]! < id) low = middle + 1;
    else high = middle;
  }
  return ids[low] === id ? low : -1;
}

const anyServer = new Uint32Array(4);

/** Order of server records: policy id, address words, protocol. */
export function compareRecord(
  records: Uint32Array,
  at: number,
  policyId: number,
  words: Uint32Array,
  offset: number,
  protocol: number,
): number {
  const policy = records[at]! - policyId;
  if (policy !== 0) return policy;
  const address = compareWords(records, at + 1, words, offset, 4);
  return address !== 0 ? address : records[at + 5]! - protocol;
}

/** By address; a list that is at its end comes last. */
function compareBackends(a: Uint32Array, aOffset: number, b: Uint32Array, bOffset: number): number {
  if (aOffset >= a.length) return 1;
  if (bOffset >= b.length) return -1;
  return compareWords(a, aOffset, b, bOffset, 4);
}

function addressBytes(words: Uint32Array, offset: number): Uint8Array {
  return new Uint8Array(words.slice(offset, offset + 4).buffer);
}

export function compareWords(
  a: Uint32Array,
  aOffset: number,
  b: Uint32Array,
  bOffset: number,
  count: number,
): number {
  for (let i = 0; i < count; i++) {
    const difference = a[aOffset + i]! - b[bOffset + i]!;
    if (difference !== 0) return difference;
  }
  return 0;
}
