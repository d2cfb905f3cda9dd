// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which bit of the packet mark is Tandem's: one that no other rule of the node looks at or changes. */

import { err, ok, type Result } from '@tandem/core/result';
import { markCandidates } from '@tandem/datapath/config';
import { RTPROT_TANDEM } from '@tandem/netlink/constants';
import type { Rule as RoutingRule } from '@tandem/netlink/rule';
import { ruleCharsMax, rulesShownMax } from '../limits.ts';
import type { FirewallView } from './read.ts';
import { allBits, type Chain, type MarkUse, type Rule } from './rule.ts';

/** A rule of another program that looks at bits of the mark or changes them. */
export interface MarkUser {
  readonly where: 'firewall' | 'routing4' | 'routing6';
  /** As it is shown to people. */
  readonly text: string;
  readonly uses: readonly MarkUse[];
  /** It accepts what has the bits, as `tandem doctor` advises for ours. */
  readonly isAccept: boolean;
}

const AF_INET6 = 10;
const hex = (value: number): string => `0x${(value >>> 0).toString(16)}`;

export function firewallUsers({ chains }: FirewallView): readonly MarkUser[] {
  return chains.flatMap((chain) =>
    chain.rules
      .filter(({ markUses }) => markUses.length > 0)
      .map((rule) => ({
        where: 'firewall' as const,
        text: ruleText(chain, rule),
        uses: rule.markUses,
        isAccept: rule.verdict.kind === 'accept',
      })),
  );
}

/** Rules to `ownTable` are Tandem's, and those that it made for other settings. */
export function routingUsers(rules: readonly RoutingRule[], ownTable: number): readonly MarkUser[] {
  return rules
    .filter(
      ({ mask, table, protocol }) => mask !== 0 && table !== ownTable && protocol !== RTPROT_TANDEM,
    )
    .map(({ family, priority, mark, mask, table }) => ({
      where: family === AF_INET6 ? ('routing6' as const) : ('routing4' as const),
      text: `ip ${family === AF_INET6 ? '-6 ' : ''}rule pref ${priority} fwmark ${hex(mark)}/${hex(mask)} lookup ${table}`,
      uses: [{ kind: 'match' as const, bits: mask >>> 0, value: mark >>> 0 }],
      isAccept: false,
    }));
}

/**
 * Effect of a rule on `mark`: 'set' may clear the bit of a steered packet, 'match' may act on one. A rule that compares the
 * whole mark with a value without the bit does neither, and no other bit would evade it.
 */
export function conflictOf({ uses, isAccept }: MarkUser, mark: number): 'set' | 'match' | null {
  const ours = uses.filter((use) => isOnBit(use, mark));
  if (ours.some(({ kind }) => kind !== 'match')) return 'set';
  const isAdvised = isAccept && ours.every(({ bits }) => bits === mark);
  return ours.length === 0 || isAdvised ? null : 'match';
}

function isOnBit({ kind, bits, value }: MarkUse, mark: number): boolean {
  if ((bits & mark) === 0) return false;
  if (bits !== allBits) return true;
  // Of all bits at once: steered packets have no connection that a mark could be restored from.
  if (kind === 'restore') return false;
  return kind === 'set' || value === undefined || (value & mark) !== 0;
}

/** The rules that are in the way of `mark`. */
export function takers(users: readonly MarkUser[], mark: number): readonly MarkUser[] {
  return users.filter((user) => conflictOf(user, mark) !== null);
}

export interface MarkRequest {
  /** Mark of the configuration. */
  readonly wanted: number | 'auto';
  /** Mark of the loaded programs; null: nothing is loaded, or the programs do not have it. */
  readonly inForce: number | null;
  readonly users: readonly MarkUser[];
}

export interface MarkChoice {
  readonly mark: number;
  /** For the log. */
  readonly why: string;
}

/** The error has the fix. */
export function chooseMark({ wanted, inForce, users }: MarkRequest): Result<MarkChoice, string> {
  if (wanted !== 'auto') {
    const taken = takers(users, wanted);
    if (taken.length === 0) return ok({ mark: wanted, why: 'set by the option mark' });
    const free = markCandidates.find((mark) => takers(users, mark).length === 0);
    const other = free === undefined ? 'another bit' : hex(free);
    return err(
      `the option mark is ${hex(wanted)}, a bit that other rules of the node use: ${listUsers(taken)}; leave mark at auto or set it to ${other}, for both processes`,
    );
  }
  const kept = inForce === null ? [] : [inForce];
  const candidates = [...new Set([...kept, ...markCandidates])];
  const mark = candidates.find((each) => takers(users, each).length === 0);
  if (mark === undefined) {
    return err(
      `other rules of the node use each of the bits ${candidates.map(hex).join(', ')} of the packet mark: ${listUsers(users.filter((user) => candidates.some((each) => conflictOf(user, each) !== null)))}; give rules that set the whole mark a mask, or set the option mark to a free bit, for both processes`,
    );
  }
  if (mark === inForce) return ok({ mark, why: 'in force already, and used by no other rule' });
  const [before] = candidates.slice(0, candidates.indexOf(mark)).toReversed();
  if (before === undefined) return ok({ mark, why: 'used by no other rule' });
  return ok({
    mark,
    why: `used by no other rule; ${hex(before)} is used by ${listUsers(takers(users, before))}`,
  });
}

/** The first few, by their texts. */
export function listUsers(users: readonly MarkUser[]): string {
  const shown = users.slice(0, rulesShownMax).map(({ text }) => text);
  const more = users.length - shown.length;
  return `${shown.join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}

/** Rules of nft are long in its JSON. */
function ruleText({ table }: Chain, { text }: Rule): string {
  const whole = table.startsWith('nft ') ? `nft ${text}` : text;
  return whole.length > ruleCharsMax ? `${whole.slice(0, ruleCharsMax)}…` : whole;
}
