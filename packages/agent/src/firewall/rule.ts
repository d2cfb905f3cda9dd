// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Firewall rules of nft and iptables in one form, as far as Tandem has to understand them: does a DNS
 * packet match, what becomes of it then, and which bits of the mark the rule looks at or changes.
 */

import { type Prefix, prefixContains } from '@tandem/core/net/ip';

/** Null: the rule alone does not decide it. */
export type Tri = boolean | null;

export interface MarkUse {
  /** 'restore': set from the mark of the packet's connection; packets without one, as ours, keep theirs. */
  readonly kind: 'match' | 'set' | 'restore';
  /** Bits of skb->mark, unsigned. */
  readonly bits: number;
  /** Value with which a match compares these bits; absent: unknown. */
  readonly value?: number;
}

export type RuleVerdict =
  | { readonly kind: 'none' | 'accept' | 'drop' | 'return' }
  | { readonly kind: 'jump' | 'goto'; readonly target: string };

export interface Rule {
  /** As it is shown to people. */
  readonly text: string;
  matches(packet: DnsPacket): Tri;
  readonly verdict: RuleVerdict;
  readonly markUses: readonly MarkUse[];
  /** Makes the kernel track connections of its family. */
  readonly usesConntrack: boolean;
}

export interface Chain {
  /** "nft inet filter", "iptables filter". */
  readonly table: string;
  /** The table has the flag `owner`: no other program can change it. */
  readonly isOwned: boolean;
  readonly name: string;
  readonly families: readonly AddressFamily[];
  /** "input" and so on for a base chain of type filter; null for any other chain. */
  readonly filterHook: string | null;
  readonly policy: 'accept' | 'drop';
  readonly rules: readonly Rule[];
}

export type AddressFamily = 'ip' | 'ip6';

/** A DNS message of a pod on the node: a steered query, a query that a member sends on, a reply to the pod. */
export interface DnsPacket {
  readonly family: AddressFamily;
  readonly protocol: 'udp' | 'tcp';
  /** Its bits under `markMask`; the others are not known. */
  readonly mark: number;
  readonly markMask: number;
  /** 16 bytes each, of its family: it has one of these. Empty: not known. */
  readonly sources: readonly Uint8Array[];
  readonly destinations: readonly Uint8Array[];
  /** Null: not known. */
  readonly sourcePort: number | null;
  readonly destinationPort: number | null;
  /** State in conntrack: steered queries and replies are untracked. */
  readonly state: 'untracked' | 'new';
}

export const allBits = 0xffff_ffff;

/** Whether the packet's mark, under `mask`, is one of the values for which `isWanted`. */
export function matchMark(
  packet: DnsPacket,
  mask: number,
  isWanted: (value: number) => boolean,
): Tri {
  const unknown = (mask & ~packet.markMask) >>> 0;
  return unknown === 0 ? isWanted((packet.mark & mask) >>> 0) : null;
}

/** Whether all of the possible addresses are in one of the prefixes, or none is; null: some are, or they are not known. */
export function matchAddress(addresses: readonly Uint8Array[], prefixes: readonly Prefix[]): Tri {
  const isIn = (address: Uint8Array): boolean =>
    prefixes.some((prefix) => prefixContains(prefix, address));
  if (addresses.length === 0) return null;
  if (addresses.every(isIn)) return true;
  return addresses.some(isIn) ? null : false;
}

/** All must hold. */
export function allOf(conditions: readonly Tri[]): Tri {
  if (conditions.includes(false)) return false;
  return conditions.includes(null) ? null : true;
}

export function negated(value: Tri): Tri {
  return value === null ? null : !value;
}
