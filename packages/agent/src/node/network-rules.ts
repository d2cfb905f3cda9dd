// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Rules, routes and the nft table that the shared socket needs beside BPF: they deliver steered packets locally (policy
 * routing), keep them out of conntrack, and keep conntrack enabled. All have names, by which the agent finds them again and
 * restores them after their removal (tables of ARP: arp-guard.ts). If one part cannot be made, the others are made: without routing pods get no DNS answers,
 * and policy is enforced.
 */

import { isIpv4, isIpv4Prefix } from '@tandem/core/net/ip';
import { ipv6State } from '@tandem/datapath/address-families';
import {
  AF_INET,
  AF_INET6,
  EEXIST,
  IPPROTO_TCP,
  IPPROTO_UDP,
  LOOPBACK_IFINDEX,
  RT_TABLE_LOCAL,
  RTN_LOCAL,
  RTPROT_BOOT,
  RTPROT_TANDEM,
} from '@tandem/netlink/constants';
import { NetlinkError } from '@tandem/netlink/errors';
import type { NetworkState } from '@tandem/netlink/network-state';
import type { NetworkView } from '@tandem/netlink/network-view';
import type { Route, RouteSpec } from '@tandem/netlink/route';
import { everyDestination } from '@tandem/netlink/rtnetlink';
import { isSameRule, type Rule, type RuleSpec } from '@tandem/netlink/rule';
import { TandemError } from '@tandem/runtime/tandem-error';
import { ensureNftTable, removeNftTable } from './nft-table.ts';
import { readNow } from './node-network.ts';

export interface NetworkRulesOptions {
  /** Bit of the packet mark of steered packets. */
  readonly mark: number;
  readonly port: number;
  /** Routing table and rule priority that are ours. */
  readonly routingTable: number;
  readonly rulePriority: number;
}

export type Family = 'IPv4' | 'IPv6';

export const ruleParts = ['IPv4 routing', 'IPv6 routing', 'nft table', 'ARP tables'] as const;
export type RulePart = (typeof ruleParts)[number];

export interface RuleProblem {
  readonly part: RulePart;
  readonly message: string;
}

/** `work` resolves with whether it changed anything. */
export type Work = readonly (readonly [part: RulePart, work: () => Promise<boolean>])[];

/**
 * Makes or restores rules, routes and the nft table; does nothing where they are right. Never rejects:
 * returns the failures. IPv6 is left out where the loopback interface does not have it. Rules and
 * routes are compared with the view, at no cost; the nft table costs a process, so the caller names the
 * parts that may have changed. `onWritten` gets each part that was restored.
 */
export function ensureNetworkRules(
  view: NetworkView,
  options: NetworkRulesOptions,
  parts: ReadonlySet<RulePart> = new Set(ruleParts),
  onWritten: (part: RulePart) => void = () => undefined,
): Promise<readonly RuleProblem[]> {
  const all: Work = [
    ['IPv4 routing', () => ensureRouting(view, 'IPv4', options)],
    ...(ipv6State() === 'on'
      ? ([['IPv6 routing', () => ensureRouting(view, 'IPv6', options)]] as const)
      : []),
    ['nft table', () => ensureNftTable(options)],
  ];
  return attemptAll(
    all.filter(([part]) => parts.has(part)),
    onWritten,
  );
}

/** Removes all of them but the tables of ARP. Never rejects. */
export function removeNetworkRules(
  view: NetworkView,
  options: NetworkRulesOptions,
): Promise<readonly RuleProblem[]> {
  return attemptAll([
    ['IPv4 routing', () => removeRouting(view, 'IPv4', options)],
    ...(ipv6State() === 'absent'
      ? []
      : ([['IPv6 routing', () => removeRouting(view, 'IPv6', options)]] as const)),
    ['nft table', () => removeNftTable().then(() => true)],
  ]);
}

/** Never rejects: gives what could not be done. */
export async function attemptAll(
  parts: Work,
  onWritten: (part: RulePart) => void = () => undefined,
): Promise<readonly RuleProblem[]> {
  const problems: RuleProblem[] = [];
  for (const [part, work] of parts) {
    try {
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      if (await work()) onWritten(part);
    } catch (error) {
      problems.push({ part, message: TandemError.from(error).message });
    }
  }
  return problems;
}

async function removeRouting(
  view: NetworkView,
  family: Family,
  options: NetworkRulesOptions,
): Promise<boolean> {
  const rules = ourRules(family, options);
  for (const rule of rules) await view.rtnetlink.deleteRule(rule);
  await readNow(view, 'rules', 'routes');
  for (const rule of view.state.rules.filter((each) => isOutdated(each, rules))) {
    await removeOutdated(view, family, rule, options);
  }
  for (const route of routesOf(view.state, family, options)) {
    const { destination, table, type, priority, ifindexes } = route;
    const [ifindex] = ifindexes;
    await view.rtnetlink.deleteRoute({
      ...{ destination, table, type, protocol: 0, priority },
      ...(ifindex === undefined ? {} : { ifindex }),
    });
  }
  await view.refresh('rules', 'routes');
  return true;
}

/**
 * The destination port in the rule is what makes it hold with src_valid_mark=1: the reverse path check swaps
 * the ports, so it does not match there.
 */
function ourRules(family: Family, options: NetworkRulesOptions): readonly RuleSpec[] {
  const { mark, port, routingTable, rulePriority } = options;
  return [IPPROTO_UDP, IPPROTO_TCP].map((ipProtocol) => ({
    family: numberOf(family),
    priority: rulePriority,
    table: routingTable,
    mark,
    mask: mark,
    ipProtocol,
    sourcePort: null,
    destinationPort: { start: port, end: port },
  }));
}

export interface MissingRouting {
  readonly rules: readonly RuleSpec[];
  /** The route by which steered packets are delivered to the node itself. */
  readonly isRouted: boolean;
}

/** Rules and route of a family that the node lacks. */
export function missingRouting(
  state: NetworkState,
  family: Family,
  options: NetworkRulesOptions,
): MissingRouting {
  return {
    rules: ourRules(family, options).filter(
      (rule) => !state.rules.some((each) => isSameRule(each, rule)),
    ),
    isRouted: routesOf(state, family, options).some(isLocalDelivery),
  };
}

/** Rules of others that the kernel asks before ours, and that may match a steered packet. */
export function rulesBefore(
  state: NetworkState,
  family: Family,
  options: NetworkRulesOptions,
): readonly Rule[] {
  const { mark, port, rulePriority } = options;
  const ours = ourRules(family, options);
  const isOurs = (rule: Rule): boolean => ours.some((each) => isSameRule(rule, each));
  // Of equal priorities the older rule is asked first; one between ours comes before that of UDP or of TCP.
  const last = state.rules.findLastIndex((rule) => isOurs(rule));
  return state.rules.filter(
    (rule, index) =>
      rule.family === numberOf(family) &&
      (rule.priority < rulePriority || (rule.priority === rulePriority && index < last)) &&
      !isOurs(rule) &&
      rule.table !== RT_TABLE_LOCAL &&
      (rule.mark & rule.mask & mark) === (rule.mask & mark) &&
      [0, IPPROTO_UDP, IPPROTO_TCP].includes(rule.ipProtocol) &&
      (rule.destinationPort === null ||
        (port >= rule.destinationPort.start && port <= rule.destinationPort.end)),
  );
}

async function ensureRouting(
  view: NetworkView,
  family: Family,
  options: NetworkRulesOptions,
): Promise<boolean> {
  const { rtnetlink, state } = view;
  const { rules: missing, isRouted } = missingRouting(state, family, options);
  const ours = ourRules(family, options);
  const outdated = state.rules.filter((rule) => isOutdated(rule, ours));
  if (isRouted && missing.length === 0 && outdated.length === 0) return false;
  try {
    if (!isRouted) await rtnetlink.replaceRoute(localDelivery(family, options));
    for (const rule of missing) await addRule(view, rule);
    for (const rule of outdated) await removeOutdated(view, family, rule, options);
    return true;
  } finally {
    await view.refresh('rules', 'routes');
  }
}

/** A rule of other settings, with the route in its table. */
async function removeOutdated(
  { rtnetlink }: NetworkView,
  family: Family,
  rule: Rule,
  { routingTable }: NetworkRulesOptions,
): Promise<void> {
  await rtnetlink.deleteRule(rule);
  if (rule.table === routingTable) return;
  const former = localDelivery(family, { routingTable: rule.table });
  await rtnetlink.deleteRoute({ ...former, priority: 0 });
}

/** A rule that exists already, and that the view has not read yet, is no error. */
async function addRule({ rtnetlink }: NetworkView, rule: RuleSpec): Promise<void> {
  try {
    await rtnetlink.addRule(rule);
  } catch (error) {
    if (!(error instanceof NetlinkError) || error.errno !== EEXIST) throw error;
  }
}

/** Whether the rule is ours, of former settings. Rules of an earlier version do not have our protocol number. */
function isOutdated(rule: Rule, ours: readonly RuleSpec[]): boolean {
  const [any] = ours;
  if (any === undefined || rule.family !== any.family) return false;
  if (rule.protocol === RTPROT_TANDEM) return !ours.some((each) => isSameRule(rule, each));
  if (rule.priority !== any.priority || rule.table !== any.table || rule.hasOtherConditions) {
    return false;
  }
  if (rule.mask === 0 || rule.ipProtocol === 0 || rule.destinationPort === null) return false;
  return !ours.some((each) => isSameRule(rule, each));
}

function localDelivery(
  family: Family,
  { routingTable }: Pick<NetworkRulesOptions, 'routingTable'>,
): RouteSpec {
  return {
    destination: everyDestination(family),
    table: routingTable,
    type: RTN_LOCAL,
    protocol: RTPROT_BOOT,
    ifindex: LOOPBACK_IFINDEX,
  };
}

function isLocalDelivery({ destination, type, ifindexes }: Route): boolean {
  const { bits } = everyDestination(isIpv4(destination.address) ? 'IPv4' : 'IPv6');
  return destination.bits === bits && type === RTN_LOCAL && ifindexes[0] === LOOPBACK_IFINDEX;
}

function routesOf(
  state: NetworkState,
  family: Family,
  { routingTable }: NetworkRulesOptions,
): readonly Route[] {
  return state.routes
    .of(routingTable)
    .filter(({ destination }) => isIpv4Prefix(destination) === (family === 'IPv4'));
}

function numberOf(family: Family): number {
  return family === 'IPv4' ? AF_INET : AF_INET6;
}
