// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which specs are in force, and what those that select one pod say together. Pods that the same specs
 * select share one policy. Nothing here depends on peers' addresses: the content of a policy, and so
 * its id, changes only when a rule does.
 */

import type { Pattern } from '../../dns/pattern.ts';
import { digest128 } from '../../sha256.ts';
import type { PolicyState } from './cluster-state.ts';
import { Direction, EndpointFlag, Verdict } from './kernel-numbers.ts';
import { type AskedOfPods, isLabelOfNamespace } from './labels.ts';
import { withoutNamedPorts } from './named-ports.ts';
import { type Peer, peerKey } from './peer.ts';
import {
  type DnsNames,
  formatPolicyRef,
  type PolicyRule,
  type PolicySpec,
  type PortRange,
} from './rule.ts';
import { compareTiered, isOrdered, type RuleVerdict, type Tier } from './tiers.ts';

/** One statement: a rule element cut by its toPorts. */
export interface Statement {
  readonly direction: Direction;
  readonly tier: Tier;
  /** Sorts within an ordered tier: by priority, object and place of the rule; '' in the others. */
  readonly order: string;
  readonly verdict: RuleVerdict;
  /** Keys of peers, or every peer. */
  readonly peers: 'any' | readonly string[];
  readonly fqdns: readonly Pattern[];
  readonly ports: 'any' | readonly PortRange[];
  /** Set with verdict L7-DNS. */
  readonly names: DnsNames | null;
  /** `Kind/namespace/name: spec.egress[0]`; '' for what we add ourselves. */
  readonly origin: string;
}

/** One spec of one policy object, in force. */
export interface ActiveSpec {
  readonly spec: PolicySpec;
  /** `Kind/namespace/name`. */
  readonly subject: string;
  readonly statements: readonly Statement[];
  readonly peers: ReadonlyMap<string, Peer>;
  /** Digest of everything that the spec says about a pod that it selects. */
  readonly digest: string;
}

/** The union of several specs. */
export interface PolicyDraft {
  readonly specs: readonly ActiveSpec[];
  /** In order of evaluation (tiers.ts). Those of the Baseline tier only in a direction in which nothing else isolates. */
  readonly statements: readonly Statement[];
  /** `EndpointFlag` bits. */
  readonly flags: number;
  /** Equal contents are equal policies. */
  readonly content: string;
}

/** A spec in force whose rules are not parsed yet: most of a cluster's select no pod of this node. */
export interface SpecInForce {
  readonly spec: PolicySpec;
  /** `Kind/namespace/name`. */
  readonly subject: string;
}

/** Specs in force of one policy object. */
export function specsInForce(state: PolicyState, asked: AskedOfPods): readonly SpecInForce[] {
  if (state.inForce !== null) {
    const subject = formatPolicyRef(state.inForce.ref);
    return state.inForce.specs.flatMap((spec) =>
      withoutNamedPorts(spec, asked).map((each) => ({ spec: each, subject })),
    );
  }
  if (state.invalid === null) return [];
  const subject = formatPolicyRef(state.invalid.ref);
  return state.invalid.hold.map((spec) => ({ spec, subject }));
}

/** In an order that depends on their contents alone. */
export function activeSpecs(specs: Iterable<SpecInForce>): ActiveSpec[] {
  return Array.from(specs, activate).sort((left, right) => (left.digest < right.digest ? -1 : 1));
}

/** Specs are immutable and outlive compilations, so their digests are computed once. */
const activated = new WeakMap<PolicySpec, ActiveSpec>();

function activate({ spec, subject }: SpecInForce): ActiveSpec {
  const known = activated.get(spec);
  if (known !== undefined && known.subject === subject) return known;
  const peers = new Map<string, Peer>();
  const statements = spec.rules.flatMap((rule) => statementsOf(rule, spec, subject, peers));
  const directions = [spec.hasIngress, spec.hasEgress, spec.denyIngress, spec.denyEgress];
  const content = JSON.stringify([subject, directions, statements.map(statementContent)]);
  const active = { spec, subject, statements, peers, digest: digest128(content) };
  activated.set(spec, active);
  return active;
}

const verdictOf = { allow: Verdict.allow, deny: Verdict.deny, pass: 'pass' } as const;

/** Digits that hold a priority, and the place of a rule. */
const orderDigits = 5;

function orderText(priority: number, subject: string, index: number): string {
  const digits = (number: number): string => String(number).padStart(orderDigits, '0');
  return `${digits(priority)} ${subject} ${digits(index)}`;
}

/** Tier and priority of an ordered statement, for people. */
export function tierText({ tier, order }: Statement): string {
  const name = tier === 'admin' ? 'Admin' : 'Baseline';
  return `${name} tier, priority ${Number(order.slice(0, orderDigits))}`;
}

function statementsOf(
  rule: PolicyRule,
  { tier }: PolicySpec,
  subject: string,
  peers: Map<string, Peer>,
): readonly Statement[] {
  const keys = new Set<string>();
  for (const peer of rule.peers === 'any' ? [] : rule.peers) {
    const key = peerKey(peer);
    keys.add(key);
    peers.set(key, peer);
  }
  const common = {
    direction: rule.direction,
    tier: tier?.name ?? ('network' as const),
    order: tier === undefined ? '' : orderText(tier.priority, subject, rule.index ?? 0),
    peers: rule.peers === 'any' ? ('any' as const) : [...keys].sort(),
    fqdns: rule.fqdns,
    origin: `${subject}: ${rule.path}`,
  };
  const verdict = verdictOf[rule.action];
  const statements: readonly Statement[] =
    rule.ports === 'any'
      ? [{ ...common, verdict, ports: 'any', names: null }]
      : rule.ports.map(({ ports, dns }) => ({
          ...common,
          verdict: dns === null ? verdict : Verdict.l7Dns,
          ports,
          names: dns,
        }));
  const unknown = unknownPeersOf(rule);
  if (unknown.length === 0) return statements;
  for (const peer of unknown) peers.set(peerKey(peer), peer);
  const denied = unknown.map(peerKey).sort();
  if (verdict === Verdict.deny) {
    const both = [...common.peers, ...denied].sort();
    return statements.map((each) => ({ ...each, peers: both }));
  }
  const deny = { verdict: Verdict.deny, peers: denied, names: null } as const;
  return statements.flatMap((each) => [each, { ...each, ...deny }]);
}

/**
 * Pods that a rule may mean, because labels that it asks for are not known of them, and that are denied therefore: also by a Pass,
 * which may keep a packet from an Accept. A rule that allows does not mean them.
 */
function unknownPeersOf({ action, peers }: PolicyRule): readonly Peer[] {
  if (action === 'allow' || peers === 'any') return [];
  const selectors = peers.flatMap((peer) => (peer.kind === 'labels' ? [peer.selector] : []));
  const asked = selectors.flatMap(({ requirements }) => requirements.map(({ name }) => name));
  const entities = [
    ...(asked.length > 0 ? (['unknown-labels'] as const) : []),
    ...(asked.some(isLabelOfNamespace) ? (['unknown-namespace'] as const) : []),
  ];
  return entities.map((entity) => ({ kind: 'entity', entity }));
}

function statementContent(statement: Statement): unknown {
  const { direction, tier, order, verdict, peers, fqdns, ports, names, origin } = statement;
  const texts = (patterns: readonly Pattern[]): readonly string[] =>
    patterns.map(({ text }) => text).sort();
  const ranges =
    ports === 'any' ? ports : ports.map(({ protocol, first, last }) => [protocol, first, last]);
  const dns = names === null ? null : [names.matchAll, texts(names.patterns)];
  const content = [direction, verdict, peers, texts(fqdns), ranges, dns, origin];
  // Policies without tiers keep the ids that they had before there were tiers.
  return tier === 'network' ? content : [...content, tier, order];
}

/** The policy of pods that exactly these specs select, in the order of `activeSpecs`. */
export function draftPolicy(specs: readonly ActiveSpec[]): PolicyDraft {
  let statements = specs.flatMap((active) => active.statements);
  const directions = [
    {
      direction: Direction.ingress,
      isSubject: specs.some(({ spec }) => spec.hasIngress),
      isDefaultDeny: specs.some(({ spec }) => spec.denyIngress),
      enforce: EndpointFlag.enforceIngress,
      wild: EndpointFlag.wildIngress,
    },
    {
      direction: Direction.egress,
      isSubject: specs.some(({ spec }) => spec.hasEgress),
      isDefaultDeny: specs.some(({ spec }) => spec.denyEgress),
      enforce: EndpointFlag.enforceEgress,
      wild: EndpointFlag.wildEgress,
    },
  ];
  let flags = 0;
  for (const { direction, isSubject, isDefaultDeny, enforce } of directions) {
    if (isSubject) flags |= enforce;
    if (isSubject && !isDefaultDeny) statements.push(allowEverything(direction));
    if (isDefaultDeny) {
      statements = statements.filter(
        (each) => each.tier !== 'baseline' || each.direction !== direction,
      );
    }
  }
  if (statements.some(isOrdered)) statements.sort(compareTiered);
  for (const { direction, wild } of directions) {
    const isWild = statements.some(
      (statement) => statement.direction === direction && statement.peers === 'any',
    );
    if (isWild) flags |= wild;
  }
  if (statements.some(({ fqdns }) => fqdns.length > 0)) flags |= EndpointFlag.fqdn;
  if (statements.some(({ verdict }) => verdict === Verdict.l7Dns)) flags |= EndpointFlag.dns;
  const digests = [...new Set(specs.map(({ digest }) => digest))];
  return { specs, statements, flags, content: digests.join(' ') };
}

/** Statement for a direction that nothing isolates: everything passes that no rule denies (enableDefaultDeny: false). */
function allowEverything(direction: Direction): Statement {
  return {
    direction,
    tier: 'default',
    order: '',
    verdict: Verdict.allow,
    peers: 'any',
    fqdns: [],
    ports: 'any',
    names: null,
    origin: '',
  };
}
