// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Named ports of NetworkPolicies: a name is another number for each pod that the packet goes to. So a rule with one is
 * taken apart by number: of egress its peers, of ingress its own pods, are those that have the name for this number. A pod's
 * identity says so by the label `port:TCP/http`, as far as a policy in force asks for it. Only the numbers of namespaces
 * that the rule may mean count: what pods of another one declare costs nobody else anything.
 */
import type { Pod } from '../k8s/objects.ts';
import type { ClusterState } from './cluster-state.ts';
import { Direction } from './kernel-numbers.ts';
import {
  type Identity,
  isNamespaceLabel,
  namespaceIdentity,
  namespaceLabelPrefix,
  podLabelPrefix,
  portLabelPrefix,
} from './labels.ts';
import type { Peer } from './peer.ts';
import type { NamedPort, PolicyRule, PolicySpec } from './rule.ts';
import {
  type LabelRequirement,
  type LabelSelector,
  makeSelector,
  selectorMatches,
} from './selector.ts';

/** What policies in force ask of pods beyond their identity labels. */
export interface AskedOfPods {
  /** Names of labels. */
  readonly labels: ReadonlySet<string>;
  /** Names of labels of their namespaces. */
  readonly namespaceLabels: ReadonlySet<string>;
  /** By protocol and name, `TCP/http`, and by namespace: the numbers that its pods have for it. */
  readonly numbers: ReadonlyMap<string, ReadonlyMap<string, ReadonlySet<number>>>;
  /** What selectors see of those namespaces. */
  readonly namespaces: ReadonlyMap<string, Identity>;
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
  const numbers = numbersOf(names, cluster.pods.values());
  const namespaces = new Map<string, Identity>();
  for (const name of [...numbers.values()].flatMap((byNamespace) => [...byNamespace.keys()])) {
    const found = cluster.namespaces.get(`/${name}`);
    namespaces.set(name, namespaceIdentity(name, found, namespaceLabels));
  }
  return { labels, namespaceLabels, numbers, namespaces };
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

/** Of pods that packets can go to. */
function numbersOf(names: ReadonlySet<string>, pods: Iterable<Pod>): AskedOfPods['numbers'] {
  const numbers = new Map([...names].map((name) => [name, new Map<string, Set<number>>()]));
  if (names.size === 0) return numbers;
  for (const { namespace, namedPorts, addresses, hostNetwork, isFinished } of pods) {
    if (namedPorts === undefined || addresses.length === 0 || hostNetwork || isFinished) continue;
    for (const [name, number] of namedPorts) {
      const byNamespace = numbers.get(name);
      if (byNamespace === undefined) continue;
      const found = byNamespace.get(namespace);
      if (found === undefined) byNamespace.set(namespace, new Set([number]));
      else found.add(number);
    }
  }
  return numbers;
}

/** Those of namespaces that one of the selectors may mean, ascending; null: of all. */
function numbersIn(
  name: string,
  selectors: readonly LabelSelector[] | null,
  { numbers, namespaces }: AskedOfPods,
): readonly number[] {
  const ofNamespaces = selectors?.map(({ requirements }) => ({
    requirements: requirements.filter((each) => isNamespaceLabel(each.name)),
  }));
  const found = new Set<number>();
  for (const [namespace, its] of numbers.get(name) ?? []) {
    const identity = namespaces.get(namespace) as Identity;
    if (ofNamespaces?.some((each) => selectorMatches(each, identity)) === false) continue;
    for (const number of its) found.add(number);
  }
  return [...found].sort((left, right) => left - right);
}

/** Null: the rule may mean pods of any namespace. */
function selectorsOf(
  spec: PolicySpec,
  { direction, peers }: PolicyRule,
): readonly LabelSelector[] | null {
  if (direction === Direction.ingress) return [spec.subject];
  if (peers === 'any' || peers.some(({ kind }) => kind === 'cidr')) return null;
  return peers.flatMap((peer) => (peer.kind === 'labels' ? [peer.selector] : []));
}

/** The spec as it is without named ports; itself where it has none. */
export function withoutNamedPorts(spec: PolicySpec, asked: AskedOfPods): readonly PolicySpec[] {
  if (spec.rules.every(({ namedPorts }) => namedPorts === undefined)) return [spec];
  const rules: PolicyRule[] = [];
  const more: PolicySpec[] = [];
  for (const { namedPorts = [], ...rule } of spec.rules) {
    if (rule.ports === 'any' || rule.ports.some(({ ports }) => ports.length > 0)) rules.push(rule);
    const selectors = namedPorts.length === 0 ? [] : selectorsOf(spec, rule);
    for (const named of namedPorts) {
      for (const number of numbersIn(named.name, selectors, asked)) {
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
