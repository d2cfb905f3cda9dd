// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Named ports of NetworkPolicies: a name is another number at each destination pod. So a rule with a name is split by number:
 * each part selects, as peers (egress) or as own pods (ingress), the pods that have the name for its number. The identity of a pod
 * shows the name by the label `port:TCP/http`, if a policy in force asks for it. Only numbers in namespaces
 * that the rule may select count, so ports that pods of other namespaces declare cost no entry.
 */

import type { ClusterState, PolicyState } from './cluster-state.ts';
import { Direction } from './kernel-numbers.ts';
import {
  type AskedOfPods,
  type Identity,
  identityKey,
  isNamespaceLabel,
  namespaceIdentity,
  portLabelPrefix,
} from './labels.ts';
import type { Peer } from './peer.ts';
import type { PortNumbers } from './port-numbers.ts';
import type { NamedPort, PolicyRule, PolicySpec } from './rule.ts';
import {
  type LabelRequirement,
  type LabelSelector,
  makeSelector,
  selectorMatches,
} from './selector.ts';
import { type NamesAsked, specFacts } from './spec-facts.ts';

/** Facts that policies ask for, by policy. `ports`: of all pods. */
export function askedOfPods(
  asking: Iterable<NamesAsked>,
  ports: PortNumbers,
  namespaces: ClusterState['namespaces'],
): AskedOfPods {
  const labels = new Set<string>();
  const namespaceLabels = new Set<string>();
  const numbers = new Map<string, ReadonlyMap<string, ReadonlySet<number>>>();
  for (const names of asking) {
    for (const name of names.labels) labels.add(name);
    for (const name of names.namespaceLabels) namespaceLabels.add(name);
    for (const name of names.ports) numbers.set(name, ports.of(name));
  }
  const identities = new Map<string, Identity>();
  for (const name of [...numbers.values()].flatMap((byNamespace) => [...byNamespace.keys()])) {
    const found = namespaces.get(`/${name}`);
    identities.set(name, namespaceIdentity(name, found, namespaceLabels));
  }
  return { labels, namespaceLabels, numbers, namespaces: identities };
}

/** Canonical text of what the specs with named ports depend on. */
export function numbersText({ numbers, namespaces }: AskedOfPods): string {
  const texts: string[] = [];
  for (const [name, byNamespace] of numbers) {
    for (const [namespace, found] of byNamespace) {
      const list = [...found].sort((left, right) => left - right);
      texts.push(`${name} ${namespace} ${list.join(' ')}`);
    }
  }
  for (const [name, identity] of namespaces) texts.push(`${name} ${identityKey(identity)}`);
  return texts.sort().join('\n');
}

/** Names that the specs of a policy ask for; most ask for none. */
export function namesAsked({ inForce, invalid }: PolicyState): readonly NamesAsked[] {
  return (inForce?.specs ?? invalid?.hold ?? []).flatMap((spec) => specFacts(spec).asked ?? []);
}

/** Numbers in the namespaces that one of the selectors may select, ascending; null: in all namespaces. */
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
    const isMeant = ofNamespaces?.some((each) => selectorMatches(each, identity)) ?? true;
    if (!isMeant && identity.unknown === undefined) continue;
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
  if (!specFacts(spec).hasNamedPorts) return [spec];
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
