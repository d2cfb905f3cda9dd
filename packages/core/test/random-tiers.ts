// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Random ClusterNetworkPolicies over the cluster of random-policy.ts, and an evaluator of them that takes rule after rule:
 * it knows nothing of statements, classes, prefixes or joins.
 */

import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { prefixContains } from '../src/net/ip.ts';
import { compile } from '../src/policy/compile/compile.ts';
import { SpecTable } from '../src/policy/compile/spec-table.ts';
import { DnsJudge } from '../src/policy/dns/dns-judge.ts';
import type { ClusterState } from '../src/policy/model/cluster-state.ts';
import type { Compiled } from '../src/policy/model/desired.ts';
import { podIdentity } from '../src/policy/model/labels.ts';
import { PortNumbers } from '../src/policy/model/port-numbers.ts';
import { StableIds } from '../src/policy/model/stable-ids.ts';
import { address, clusterOf, node, prefix, type Raw } from './cluster-fixture.ts';
import {
  type Answer,
  baseObjects,
  edgePorts,
  type Packet,
  type PodFixture,
  type PolicyFixture,
  pods,
  policyObject,
  read,
} from './random-policy.ts';

interface PodsFixture {
  readonly ns?: string;
  readonly app?: string;
}
type TierPeer = PodsFixture | { readonly networks: readonly string[] };
interface TierPorts {
  readonly protocol: 'tcp' | 'udp' | 'sctp';
  readonly first: number;
  readonly last: number;
}
interface TierRule {
  readonly direction: 'ingress' | 'egress';
  readonly action: 'Accept' | 'Deny' | 'Pass';
  /** 'all': what a rule becomes of which a part is not known. */
  readonly peers: 'all' | readonly TierPeer[];
  readonly ports: readonly TierPorts[] | null;
}
export interface TierFixture {
  readonly tier: 'admin' | 'baseline';
  readonly priority: number;
  readonly name: string;
  readonly subject: PodsFixture;
  readonly rules: readonly TierRule[];
}

/* ---- random ones ---- */

const podsFixture: fc.Arbitrary<PodsFixture> = fc.record(
  { ns: fc.constantFrom('a', 'b'), app: fc.constantFrom('x', 'y') },
  { requiredKeys: [] },
);
const networks = ['0.0.0.0/0', '::/0', '203.0.113.0/25', '203.0.113.7/32', '10.244.0.0/16'];
const peerFixture: fc.Arbitrary<TierPeer> = fc.oneof(
  podsFixture,
  fc.record({
    networks: fc.subarray([...networks, '10.0.0.0/8', '192.168.0.0/24', '2001:db8::/32'], {
      minLength: 1,
      maxLength: 2,
    }),
  }),
);
const portsFixture: fc.Arbitrary<TierPorts> = fc
  .record({
    protocol: fc.constantFrom('tcp', 'udp', 'sctp'),
    first: fc.constantFrom(...edgePorts),
    more: fc.constantFrom(0, 0, 1, 27, 900, 70_000),
  })
  .map(({ protocol, first, more }) => ({ protocol, first, last: Math.min(first + more, 65_535) }));
const ruleFixture: fc.Arbitrary<TierRule> = fc
  .record({
    direction: fc.constantFrom('ingress', 'egress', 'egress'),
    action: fc.constantFrom('Accept', 'Deny', 'Pass'),
    peers: fc.oneof(
      { weight: 6, arbitrary: fc.array(peerFixture, { minLength: 1, maxLength: 2 }) },
      { weight: 2, arbitrary: fc.constant<'all'>('all') },
    ),
    ports: fc.option(fc.array(portsFixture, { minLength: 1, maxLength: 3 }), { freq: 2 }),
  })
  .map((rule): TierRule => {
    // Networks are peers of egress rules.
    const hasNetworks = rule.peers !== 'all' && rule.peers.some((peer) => 'networks' in peer);
    if (rule.peers !== 'all')
      return { ...rule, ...(hasNetworks ? { direction: 'egress' } : {}) } as TierRule;
    // An unknown peer never accepts, and denies whatever the ports.
    return { direction: rule.direction as 'ingress', action: 'Deny', peers: 'all', ports: null };
  });
export const tiersFixture: fc.Arbitrary<TierFixture[]> = fc
  .array(
    fc.record({
      tier: fc.constantFrom('admin', 'baseline'),
      priority: fc.constantFrom(0, 5, 10, 1000),
      subject: podsFixture,
      rules: fc.array(ruleFixture, { minLength: 1, maxLength: 5 }),
    }),
    { minLength: 1, maxLength: 4 },
  )
  // Names against the order of the list: equal priorities go by name.
  .map((list) =>
    list.map((each, index): TierFixture => ({ ...each, name: `t${9 - index}` }) as TierFixture),
  );

/* ---- compiled ---- */

export function compileTiers(
  policies: readonly PolicyFixture[],
  tiers: readonly TierFixture[],
  ids: StableIds = StableIds.empty(),
  retain: readonly Compiled[] = [],
): Compiled {
  return compile(clusterOfTiers(policies, tiers), { node, revision: 1, retain }, ids);
}

function clusterOfTiers(
  policies: readonly PolicyFixture[],
  tiers: readonly TierFixture[],
): ClusterState {
  const objects = [...policies.map(policyObject), ...tiers.map(objectOf)];
  const cluster = clusterOf([...baseObjects, ...objects]);
  for (const { invalid } of cluster.policies.values()) assert(invalid === null);
  return cluster;
}

function objectOf({ tier, priority, name, subject, rules }: TierFixture): Raw {
  const of = (direction: TierRule['direction']): object => {
    const own = rules.filter((rule) => rule.direction === direction);
    return own.length === 0 ? {} : { [direction]: own.map(rawRule) };
  };
  return {
    ...{ apiVersion: 'policy.networking.k8s.io/v1beta1', kind: 'ClusterNetworkPolicy' },
    metadata: { name },
    spec: {
      ...{ tier: tier === 'admin' ? 'Admin' : 'Baseline', priority },
      ...{ subject: podsOf(subject), ...of('ingress'), ...of('egress') },
    },
  };
}

function rawRule({ direction, action, peers, ports }: TierRule): object {
  const raw = peers === 'all' ? [{ nodes: {} }] : peers.map(rawPeer);
  return {
    ...{ action, [direction === 'ingress' ? 'from' : 'to']: raw },
    ...(ports === null ? {} : { protocols: ports.map(rawPorts) }),
  };
}

function rawPorts({ protocol, first, last }: TierPorts): object {
  const port = first === last ? { number: first } : { range: { start: first, end: last } };
  return { [protocol]: { destinationPort: port } };
}

const rawPeer = (peer: TierPeer): object => ('networks' in peer ? peer : podsOf(peer));

function podsOf({ ns, app }: PodsFixture): object {
  const labels = (name: string, value: string | undefined): object =>
    value === undefined ? {} : { matchLabels: { [name]: value } };
  const namespaces = labels('kubernetes.io/metadata.name', ns);
  if (app === undefined) return { namespaces };
  return { pods: { podSelector: labels('app', app), namespaceSelector: namespaces } };
}

/** The judge of the DNS servers of one pod. */
export function judgeOf(
  policies: readonly PolicyFixture[],
  tiers: readonly TierFixture[],
  pod: number,
): DnsJudge {
  const cluster = clusterOfTiers(policies, tiers);
  const object = [...cluster.pods.values()].find(({ name }) => name === `p${pod}`);
  assert(object !== undefined);
  const table = new SpecTable();
  const asked = table.update(cluster, new PortNumbers());
  const namespace = cluster.namespaces.get(`/${object.namespace}`);
  const identity = podIdentity(object, namespace, node.clusterName, asked);
  const local = { pod: object, identity, addresses: [], isDisputed: false };
  return new DnsJudge(table.draft([local]).draftOf(local).statements);
}

/* ---- the evaluator ---- */

/** Answer of all policies to a packet: rule after rule of the Admin tier, the other kinds, the Baseline tier. */
export function readTiers(
  policies: readonly PolicyFixture[],
  tiers: readonly TierFixture[],
  packet: Packet,
  learned: ReadonlyMap<string, ReadonlySet<string>>,
): Answer {
  const self = pods[packet.pod] as PodFixture;
  const firstOf = (tier: TierFixture['tier']): TierRule['action'] | null => {
    const inOrder = tiers
      .filter((each) => each.tier === tier && isPod(each.subject, self))
      .toSorted((one, two) => one.priority - two.priority || (one.name < two.name ? -1 : 1));
    for (const { rules } of inOrder) {
      for (const rule of rules) if (matches(rule, packet)) return rule.action;
    }
    return null;
  };
  const admin = firstOf('admin');
  if (admin === 'Accept') return 'allow';
  if (admin === 'Deny') return 'deny';
  const selecting = policies.filter(
    ({ namespace, app, elements }) =>
      (namespace === '' || namespace === self.namespace) &&
      (app === null || app === self.app) &&
      elements.some(({ section }) => section.startsWith(packet.direction)),
  );
  const isolating = selecting.some(
    ({ noDefaultDeny }) => !noDefaultDeny.includes(packet.direction),
  );
  if (isolating) return read(policies, packet, learned);
  // Nothing isolates: what the others allow or deny by a rule holds, and of the rest the Baseline tier decides.
  const closed = selecting.map((policy) => ({ ...policy, noDefaultDeny: [] }));
  const network = selecting.length === 0 ? 'none' : read(closed, packet, new Map());
  if (network !== 'none') return network;
  return firstOf('baseline') === 'Deny' ? 'deny' : 'allow';
}

function matches({ direction, peers, ports }: TierRule, packet: Packet): boolean {
  const numbers = { tcp: 6, udp: 17, sctp: 132 };
  const isPort = ({ protocol, first, last }: TierPorts): boolean =>
    numbers[protocol] === packet.protocol && first <= packet.port && packet.port <= last;
  if (direction !== packet.direction || (ports !== null && !ports.some(isPort))) return false;
  const owner = pods.find(({ ips }) => ips.includes(packet.peer));
  const isPeer = (peer: TierPeer): boolean =>
    'networks' in peer
      ? peer.networks.some((text) => prefixContains(prefix(text), address(packet.peer)))
      : owner !== undefined && isPod(peer, owner);
  return peers === 'all' || peers.some(isPeer);
}

function isPod({ ns, app }: PodsFixture, pod: PodFixture): boolean {
  return (ns === undefined || ns === pod.namespace) && (app === undefined || app === pod.app);
}
