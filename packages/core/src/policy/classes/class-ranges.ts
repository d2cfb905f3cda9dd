// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The prefixes of more than one address that matter, as a tree: owners of ranges, CIDR peers and their exceptions.
 * An inner prefix carries what the outer ones give it, and an exception is a prefix of its own:
 *
 *   ::/0 world ── ::ffff:0:0/96 world ─┬─ 10.0.0.0/8 +cidr A ── 10.1.0.0/16 −cidr A (except)
 *                                      └─ 10.244.0.0/24 pods: cidr selectors end here ── pod
 */

import { assert } from '../../assert.ts';
import {
  addressKey,
  isIpv4Prefix,
  lastKeyOf,
  type Prefix,
  prefixKey,
  trieCovers,
} from '../../net/ip.ts';
import { ClassFlag } from '../model/kernel-numbers.ts';
import type { CidrPeer } from '../model/peer.ts';
import { type AddressOwner, ipv4World, ipv6World, type Ownership } from './address-owners.ts';
import type { CidrSet, CidrSets } from './peer-matcher.ts';

/** Keys of the CIDR peers that begin to hold, or end, at a prefix. */
export interface CidrEdges {
  readonly address: Uint8Array;
  readonly starts: readonly string[];
  readonly excepts: readonly string[];
}

export interface Range {
  /** `prefixKey`. */
  readonly key: string;
  readonly prefix: Prefix;
  /** Keys of its first and last address. */
  readonly first: string;
  readonly last: string;
  readonly parent: Range | null;
  readonly children: Range[];
  readonly owner: Ownership;
  readonly cidrs: CidrSet;
  readonly flags: number;
}

export interface RangeTree {
  /** Sorted: outer before inner. */
  readonly ranges: readonly Range[];
  /** Edges at single addresses, by `addressKey`. */
  readonly edges: ReadonlyMap<string, CidrEdges>;
}

interface Change {
  readonly key: string;
  readonly prefix: Prefix;
  owner: Ownership | null;
  readonly starts: string[];
  readonly excepts: string[];
}

export function buildRanges(
  owners: Iterable<AddressOwner>,
  peers: Iterable<readonly [key: string, peer: CidrPeer]>,
  sets: CidrSets,
): RangeTree {
  const changes = new Map<string, Change>();
  const edges = new Map<string, CidrEdges & { starts: string[]; excepts: string[] }>();
  const changeAt = (prefix: Prefix): Change => {
    const key = prefixKey(prefix);
    const change = changes.get(key) ?? { key, prefix, owner: null, starts: [], excepts: [] };
    changes.set(key, change);
    return change;
  };
  const edgeAt = (prefix: Prefix): { starts: string[]; excepts: string[] } => {
    if (prefix.bits < 128) return changeAt(prefix);
    const key = addressKey(prefix.address);
    const edge = edges.get(key) ?? { address: prefix.address, starts: [], excepts: [] };
    edges.set(key, edge);
    return edge;
  };
  for (const { prefix, owner } of owners) changeAt(prefix).owner = owner;
  for (const [key, { cidr, except }] of peers) {
    edgeAt(cidr).starts.push(key);
    for (const prefix of except) edgeAt(prefix).excepts.push(key);
  }
  const sorted = [...changes.values()].sort((left, right) => (left.key < right.key ? -1 : 1));
  return { ranges: walk(sorted, sets), edges };
}

function walk(changes: readonly Change[], sets: CidrSets): Range[] {
  const ranges: Range[] = [];
  let parent: Range | null = null;
  for (const { key, prefix, owner: own, starts, excepts } of changes) {
    while (parent !== null && !trieCovers(parent.prefix, prefix)) parent = parent.parent;
    // Families do not inherit from each other, though one trie holds both.
    const isRoot = isSame(prefix, ipv6World) || isSame(prefix, ipv4World);
    const owner: Ownership | undefined = own ?? parent?.owner;
    assert(owner !== undefined, 'both worlds have an owner');
    const outer: Range | null = isRoot ? null : parent;
    const range: Range = {
      ...{ key, prefix, first: key.slice(0, -1), last: lastKeyOf(prefix), parent, children: [] },
      owner,
      cidrs: sets.change(outer?.cidrs ?? sets.none, starts, excepts),
      flags: flagsIn(outer?.flags ?? 0, own),
    };
    parent?.children.push(range);
    ranges.push(range);
    parent = range;
  }
  return ranges;
}

/** Flags of what has an owner of its own, or none, in a range with these flags. */
export function flagsIn(outer: number, own: Ownership | null): number {
  // In the node's pod CIDR there may be what is no pod of it: a bridge's gateway, a pod of another node.
  const inherited = own?.isElsewhere === true ? outer & ~ClassFlag.localPods : outer;
  return inherited | (own?.flags ?? 0);
}

/** The innermost range with the address. */
export function rangeOf(ranges: readonly Range[], key: string): Range {
  let low = 0;
  let high = ranges.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((ranges[middle] as Range).first <= key) low = middle;
    else high = middle - 1;
  }
  let range: Range | null = ranges[low] ?? null;
  while (range !== null && (key < range.first || key > range.last)) range = range.parent;
  assert(range !== null, '::/0 covers every address');
  return range;
}

function isSame(left: Prefix, right: Prefix): boolean {
  return isIpv4Prefix(left) === isIpv4Prefix(right) && prefixKey(left) === prefixKey(right);
}
