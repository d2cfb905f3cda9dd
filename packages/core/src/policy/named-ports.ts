// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Named ports of NetworkPolicies: a name is another number for each pod that the packet goes to. So a rule with one is
 * taken apart by number: of egress its peers, of ingress its own pods, are those that have the name for this number. A pod's
 * identity says so by the label `port:TCP/http`, as far as a policy in force asks for it.
 */
import type { Pod } from '../k8s/objects.ts';
import type { ClusterState } from './cluster-state.ts';
import { Direction } from './kernel-numbers.ts';
import { namespaceLabelPrefix, podLabelPrefix, portLabelPrefix } from './labels.ts';
import type { Peer } from './peer.ts';
import type { NamedPort, PolicyRule, PolicySpec } from './rule.ts';
import { type LabelRequirement, makeSelector } from './selector.ts';

/** What policies in force ask of pods beyond their identity labels. */
export interface AskedOfPods {
  /** Names of labels. */
  readonly labels: ReadonlySet<string>;
  /** Names of labels of their namespaces. */
  readonly namespaceLabels: ReadonlySet<string>;
  /** By protocol and name, `TCP/http`: the numbers that pods have for it. */
  readonly numbers: ReadonlyMap<string, readonly number[]>;
}

export function askedOfPods(cluster: ClusterState): AskedOfPods {
  const labels = new Set<string>();
  const namespaceLabels = new Set<string>();
  const names = new Set<string>();
  for (const { inForce, invalid } of cluster.policies.values()) {
    for (const { subject, rules } of inForce?.specs ?? invalid?.hold ?? []) {
      addNames(subject.requirements, podLabelPrefix, labels);
      for (const { peers, namedPorts = [] } of rules) {
        for (const peer of peers === 'any' ? [] : peers) {
          if (peer.kind !== 'labels') continue;
          addNames(peer.selector.requirements, podLabelPrefix, labels);
          addNames(peer.selector.requirements, namespaceLabelPrefix, namespaceLabels);
        }
        for (const { name } of namedPorts) names.add(name);
      }
    }
  }
  return { labels, namespaceLabels, numbers: numbersOf(names, cluster.pods.values()) };
}

function addNames(
  requirements: readonly LabelRequirement[],
  prefix: string,
  names: Set<string>,
): void {
  for (const { name } of requirements) {
    if (name.startsWith(prefix)) names.add(name.slice(prefix.length));
  }
}

function numbersOf(
  names: ReadonlySet<string>,
  pods: Iterable<Pod>,
): ReadonlyMap<string, readonly number[]> {
  const numbers = new Map<string, Set<number>>([...names].map((name) => [name, new Set()]));
  if (names.size > 0) {
    for (const { namedPorts } of pods) {
      for (const [name, number] of namedPorts ?? []) numbers.get(name)?.add(number);
    }
  }
  return new Map([...numbers].map(([name, set]) => [name, [...set].sort((a, b) => a - b)]));
}

/** The spec as it is without named ports; itself where it has none. */
export function withoutNamedPorts(
  spec: PolicySpec,
  { numbers }: AskedOfPods,
): readonly PolicySpec[] {
  if (spec.rules.every(({ namedPorts }) => namedPorts === undefined)) return [spec];
  const rules: PolicyRule[] = [];
  const more: PolicySpec[] = [];
  for (const { namedPorts = [], ...rule } of spec.rules) {
    if (rule.ports === 'any' || rule.ports.some(({ ports }) => ports.length > 0)) rules.push(rule);
    for (const named of namedPorts) {
      for (const number of numbers.get(named.name) ?? []) {
        const numbered = withPort(rule, named, number);
        if (rule.direction === Direction.ingress)
          more.push(forOwners(spec, named, number, numbered));
        else rules.push(forPeers(numbered, named, number));
      }
    }
  }
  return [{ ...spec, rules }, ...more];
}

function withPort(rule: PolicyRule, { protocol }: NamedPort, number: number): PolicyRule {
  return { ...rule, ports: [{ ports: [{ protocol, first: number, last: number }], dns: null }] };
}

/** For those of its pods that have the name for this number. */
function forOwners(
  spec: PolicySpec,
  named: NamedPort,
  number: number,
  rule: PolicyRule,
): PolicySpec {
  const subject = makeSelector([...spec.subject.requirements, hasPort(named, number)]);
  return { ...spec, subject, rules: [rule] };
}

/** To pods that have the name for this number: those that a selector or an ipBlock names. Entities have no names of ports. */
function forPeers(rule: PolicyRule, named: NamedPort, number: number): PolicyRule {
  const asked = hasPort(named, number);
  const peers: readonly Peer[] =
    rule.peers === 'any'
      ? [{ kind: 'labels', selector: makeSelector([asked]) }]
      : rule.peers.flatMap((peer) => withPods(peer, asked));
  return { ...rule, peers };
}

function withPods(peer: Peer, asked: LabelRequirement): readonly Peer[] {
  if (peer.kind === 'cidr') return [{ ...peer, pods: makeSelector([asked]) }];
  if (peer.kind === 'entity') return [];
  const selector = makeSelector([...peer.selector.requirements, asked]);
  return [{ kind: 'labels', selector }];
}

function hasPort({ name }: NamedPort, number: number): LabelRequirement {
  return { source: 'k8s', name: portLabelPrefix + name, operator: 'In', values: [String(number)] };
}
