// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * How much a compilation asks of the node (entries of kernel maps, octets of the snapshot, places in the matcher of patterns), and
 * how much of that is due to each policy object.
 */

import type { Pattern } from '../../dns/pattern.ts';
import {
  classPrefixesMax,
  dnsServersMax,
  dnsServersPerCidrMax,
  patternNodesMax,
  policyEntriesMax,
  snapshotBytesEstimateMax,
} from '../../limits.ts';
import type { Prefix } from '../../net/ip.ts';
import { classesOnlyIn } from '../model/class-table.ts';
import type { ClusterState } from '../model/cluster-state.ts';
import type { ClassTable, Compiled, CompiledPolicy, MemberPolicy } from '../model/desired.ts';
import { type Peer, peerKey } from '../model/peer.ts';
import { formatPolicyRef, type Policy, type PolicyRule } from '../model/rule.ts';
import { type EntryCost, entriesByObject } from './entry-costs.ts';
import { countClassEntries, countEntries } from './expand.ts';
import { patternNodes, patternNodesMost } from './pattern-costs.ts';

export type Resource = 'classes' | 'policy' | 'dns_servers' | 'pattern_characters' | 'snapshot';

export type Budgets = Readonly<Record<Resource, number>>;

export const nodeBudgets: Budgets = {
  classes: classPrefixesMax,
  policy: policyEntriesMax,
  dns_servers: dnsServersMax,
  pattern_characters: patternNodesMax,
  snapshot: snapshotBytesEstimateMax,
};

export interface Excess {
  readonly what: Resource;
  readonly count: number;
  readonly max: number;
}

/** Counts what compilations ask of the node; of one that follows another it counts the changes. */
export class ResourceCounter {
  #table: ClassTable | null = null;
  #entries: ReadonlyMap<CompiledPolicy, number> = new Map();
  #snapshot = new WeakMap<MemberPolicy['policies'], SnapshotPart>();
  #patterns = new WeakMap<MemberPolicy['patterns'], number>();

  /** Resources that are over their budget. */
  excessOf(compiled: Compiled, budgets: Budgets): readonly Excess[] {
    const counts: Readonly<Record<Resource, number>> = {
      classes: compiled.classes.size,
      policy: this.#policyEntries(compiled),
      dns_servers: compiled.dnsServers.length,
      pattern_characters: this.#patternNodes(compiled.members, budgets.pattern_characters),
      snapshot: this.#snapshotBytes(compiled.members),
    };
    return (Object.keys(counts) as Resource[])
      .filter((what) => counts[what] > budgets[what])
      .map((what) => ({ what, count: counts[what], max: budgets[what] }));
  }

  #policyEntries({ policies, classTable }: Compiled): number {
    const former = this.#table ?? classTable;
    const added = classesOnlyIn(classTable, former);
    const gone = classesOnlyIn(former, classTable);
    const entries = new Map<CompiledPolicy, number>();
    let sum = 0;
    for (const policy of policies.values()) {
      const known = this.#entries.get(policy);
      const count =
        known === undefined
          ? total(countEntries(policy, classTable).values())
          : known + countClassEntries(policy, added) - countClassEntries(policy, gone);
      entries.set(policy, count);
      sum += count;
    }
    this.#table = classTable;
    this.#entries = entries;
    return sum;
  }

  /** Counted where the estimate is over the budget alone. */
  #patternNodes({ patterns }: MemberPolicy, max: number): number {
    let count = this.#patterns.get(patterns) ?? patternNodesMost(patterns);
    if (count > max && !this.#patterns.has(patterns)) count = patternNodes(patterns);
    this.#patterns.set(patterns, count);
    return count;
  }

  #snapshotBytes(members: MemberPolicy): number {
    const { patterns, selectors, ruleSets, policies } = members;
    const rest =
      members.neverLearn.length * serverBytes +
      total(members.endpoints.values().map(endpointBytes));
    const known = this.#snapshot.get(policies);
    const isKnown =
      known?.patterns === patterns && known.selectors === selectors && known.ruleSets === ruleSets;
    if (isKnown) return known.bytes + rest;
    const bytes = policyBytes(members);
    this.#snapshot.set(policies, { patterns, selectors, ruleSets, bytes });
    return bytes + rest;
  }
}

type SnapshotPart = Pick<MemberPolicy, 'patterns' | 'selectors' | 'ruleSets'> & {
  readonly bytes: number;
};

function total(counts: Iterable<number>): number {
  let sum = 0;
  for (const count of counts) sum += count;
  return sum;
}

export interface Cost {
  /** '' for clusterwide objects. */
  readonly namespace: string;
  readonly cost: number;
  /** Estimated room that leaving the object out gives. */
  readonly gain: number;
}

/**
 * Estimated cost of each object in force for one resource, for their order. By `formatPolicyRef`. `subjects`: objects that select
 * pods of the node. Others take nothing, and to leave them out would only make more be left out.
 */
export function costsOf(
  what: Resource,
  cluster: ClusterState,
  compiled: Compiled,
  subjects: ReadonlySet<string>,
): ReadonlyMap<string, Cost> {
  const costs = new Map<string, Cost>();
  const entries = what === 'policy' ? entriesByObject(compiled) : new Map<string, EntryCost>();
  for (const { inForce } of cluster.policies.values()) {
    if (inForce === null) continue;
    const ref = formatPolicyRef(inForce.ref);
    if (!subjects.has(ref)) continue;
    const { namespace } = inForce.ref;
    if (what === 'policy')
      costs.set(ref, { namespace, ...(entries.get(ref) ?? { cost: 0, gain: 0 }) });
    else {
      const cost = costOf(what, inForce);
      costs.set(ref, { namespace, cost, gain: cost });
    }
  }
  return costs;
}

function costOf(what: Exclude<Resource, 'policy'>, policy: Policy): number {
  switch (what) {
    case 'classes':
      return sumOfRules(policy, ({ peers }) =>
        peers === 'any' ? 0 : peers.map(prefixes).reduce(add, 0),
      );
    case 'dns_servers':
      return listedDnsServers(policy);
    case 'pattern_characters':
      return sumOfRules(policy, (rule) => patternNodesMost(patternsOf(rule)));
    case 'snapshot':
      return sumOfRules(policy, patternBytes) + serverBytes * listedDnsServers(policy);
  }
}

/** Likewise of objects with selectors that cost so much. */
export function costsInClasses(
  { policies }: ClusterState,
  ofSelectors: ReadonlyMap<string, number>,
  subjects: ReadonlySet<string>,
): ReadonlyMap<string, Cost> {
  const weigh = ({ peers }: PolicyRule): number =>
    peers === 'any' ? 0 : peers.map((peer) => ofSelectors.get(peerKey(peer)) ?? 0).reduce(add, 0);
  const costs = new Map<string, Cost>();
  for (const { inForce } of policies.values()) {
    const cost = inForce === null ? 0 : sumOfRules(inForce, weigh);
    if (inForce === null || cost === 0) continue;
    const ref = formatPolicyRef(inForce.ref);
    if (subjects.has(ref)) costs.set(ref, { namespace: inForce.ref.namespace, cost, gain: cost });
  }
  return costs;
}

/** Likewise of objects that cost so much. */
export function costsOfObjects(
  { policies }: ClusterState,
  ofObjects: ReadonlyMap<string, number>,
): ReadonlyMap<string, Cost> {
  const costs = new Map<string, Cost>();
  for (const { inForce } of policies.values()) {
    const ref = inForce === null ? '' : formatPolicyRef(inForce.ref);
    const cost = ofObjects.get(ref);
    if (inForce === null || cost === undefined) continue;
    costs.set(ref, { namespace: inForce.ref.namespace, cost, gain: cost });
  }
  return costs;
}

const listed = new WeakMap<Policy, number>();

/** Addresses that the CIDR rules of an object list as DNS servers, and something for its other peers. */
export function listedDnsServers(policy: Policy): number {
  const known = listed.get(policy);
  if (known !== undefined) return known;
  const count = countDnsServers(policy);
  listed.set(policy, count);
  return count;
}

/** Copies the known costs of a policy to an equal one. */
export function rememberListed(policy: Policy, same: Policy): void {
  try {
    listed.set(same, listedDnsServers(policy));
  } catch {
    // Who asks for it finds the bug.
  }
}

function countDnsServers(policy: Policy): number {
  return sumOfRules(policy, ({ peers, ports }) => {
    if (ports === 'any' || peers === 'any' || ports.every(({ dns }) => dns === null)) return 0;
    return peers.map((peer) => (peer.kind === 'cidr' ? hosts(peer.cidr) : 1)).reduce(add, 0);
  });
}

const hosts = ({ bits }: Prefix): number => Math.min(2 ** (128 - bits), dnsServersPerCidrMax);
const prefixes = (peer: Peer): number => (peer.kind === 'cidr' ? 1 + peer.except.length : 0);
const add = (left: number, right: number): number => left + right;

function sumOfRules({ specs }: Policy, weigh: (rule: PolicyRule) => number): number {
  return specs.flatMap(({ rules }) => rules.map(weigh)).reduce(add, 0);
}

/** Octets of the parts of a snapshot, rather more than they take. */
const patternRestBytes = 48;
const serverBytes = 32;
const endpointRestBytes = 64;
const referenceBytes = 6;

function patternBytes(rule: PolicyRule): number {
  const texts = patternsOf(rule).map(({ text }) => text.length + patternRestBytes);
  // Each FQDN also has a selector, and is named by the policy.
  return texts.reduce(add, 0) + rule.fqdns.length * (serverBytes + referenceBytes);
}

function patternsOf({ fqdns, ports }: PolicyRule): readonly Pattern[] {
  const dns = ports === 'any' ? [] : ports.flatMap((port) => port.dns?.patterns ?? []);
  return [...fqdns, ...dns];
}

/** Bytes of all parts except endpoints and addresses that are never learned. */
function policyBytes({ patterns, selectors, ruleSets, policies }: MemberPolicy): number {
  let bytes = selectors.length * serverBytes;
  for (const { text } of patterns) bytes += text.length + patternRestBytes;
  for (const { patternIndexes } of ruleSets) {
    bytes += serverBytes + patternIndexes.length * referenceBytes;
  }
  for (const { servers, predecessors, fqdnPatterns } of policies) {
    // Each server also has a digest of its backends.
    bytes += serverBytes + servers.length * 2 * serverBytes + predecessors.length * referenceBytes;
    bytes += fqdnPatterns.length * referenceBytes;
  }
  return bytes;
}

const endpointBytes = ({ namespace, pod }: MemberPolicy['endpoints'][number]): number =>
  endpointRestBytes + namespace.length + pod.length;
