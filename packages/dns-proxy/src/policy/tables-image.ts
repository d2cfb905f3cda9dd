// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The policy of a DNS member as flat arrays: built once from a snapshot on the main thread, handed to
 * the DNS worker, and used there as it is. Nothing is parsed or compiled while queries wait.
 */

import type { MatcherTables } from '@tandem/core/dns/matcher';
import type { Revision } from '@tandem/core/ids';

/** Words of one server record: policy id, address (4), protocol, index of the rule set, 0. */
export const serverRecordWords = 8;

/** Words of one record of `backendDigests`. */
export const backendRecordWords = 5;

export interface TablesImage {
  readonly revision: Revision;
  readonly matcher: MatcherTables;
  /** Policy ids known to this revision, ascending. */
  readonly policyIds: Uint32Array;
  /** Server records in ascending order of policy id, address words (as stored), protocol. */
  readonly servers: Uint32Array;
  /** Per rule set: 1 = every name is allowed. */
  readonly matchAll: Uint8Array;
  /**
   * Per rule set: where its patterns begin in `allowedPatterns`, which ascend; the last is where they end. Lists, because authors of
   * policies choose how many rule sets and how many patterns there are, and bitmaps would take the product of both.
   */
  readonly allowedFrom: Uint32Array;
  readonly allowedPatterns: Uint32Array;
  /** Per rule set: where its bitmap over patterns begins in `allowedBits`, -1: it has none. Those have one that have a longer list. */
  readonly allowedBitsAt: Int32Array;
  readonly allowedBits: Uint32Array;
  /** Per pattern: the selector that trusted answers feed, 0 = none. */
  readonly sharedSelector: Uint32Array;
  /**
   * Per pattern: selectors that only answers to one policy, or to its predecessors, feed: offsets, then
   * (policy, selector) pairs.
   */
  readonly privateOffsets: Uint32Array;
  readonly privatePairs: Uint32Array;
  /** (predecessor, policy) pairs, ascending. Not with the selectors: there are 64 predecessors of one policy with many. */
  readonly successions: Uint32Array;
  /** Words of a bitmap over patterns. */
  readonly patternWords: number;
  /**
   * Namespaces of endpoints, ascending, and per namespace a bitmap over patterns (`patternWords` words each): those
   * whose addresses its policies allow. Empty when the snapshot does not say (an earlier version made it).
   */
  readonly namespaceIds: Uint32Array;
  readonly wantedPatterns: Uint32Array;
  /** Addresses (4 words each) of the cluster's resolvers, as pods see them. */
  readonly trustedServers: Uint32Array;
  /** Records of address words (4) and the digest of the server's ready backends, ascending by address words. */
  readonly backendDigests: Uint32Array;
}
