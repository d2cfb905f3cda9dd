// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Rules without rules.dns that let pods ask a DNS server for every name, while another rule of the files filters the names of the
 * same pods there: rules add up, as in Cilium. A rule counts if it names exactly the server's port, in the Admin tier also if its
 * ports hold that port, or it has none (core/policy/dns/dns-judge). Rules for only some of the pods may be exceptions, and have no hint.
 */

import {
  isPolicyObject,
  type K8sObject,
  type PolicyKind,
  type PolicyObject,
} from '@tandem/core/k8s/objects';
import { prefixCovers } from '@tandem/core/net/ip';
import { Direction } from '@tandem/core/policy/model/kernel-numbers';
import { namespaceLabelsPrefix, podNamespaceLabel } from '@tandem/core/policy/model/labels';
import { type Peer, peerKey } from '@tandem/core/policy/model/peer';
import {
  formatPolicyRef,
  type Policy,
  type PolicyRule,
  type PolicySpec,
  type PortRange,
} from '@tandem/core/policy/model/rule';
import type { LabelRequirement, LabelSelector } from '@tandem/core/policy/model/selector';
import { parsePolicy } from '@tandem/core/policy/parse/parse-policy';
import type { Hint } from './network-policy-hints.ts';

/** Beside its selector, by the kind of the object. */
const otherFixes: Partial<Readonly<Record<PolicyKind, string>>> = {
  NetworkPolicy: ', or leave out its ports, because a rule without ports lifts nothing',
  CiliumNetworkPolicy: ', or give this rule rules.dns',
  CiliumClusterwideNetworkPolicy: ', or give this rule rules.dns',
};

const namespaceNameLabel = `${namespaceLabelsPrefix}kubernetes.io/metadata.name`;

/** A rule that filters the names of some pods at some servers. */
interface NameFilter {
  readonly policy: Policy;
  readonly subject: LabelSelector;
  readonly peers: PolicyRule['peers'];
  readonly ranges: readonly PortRange[];
}

export class LiftedNameHints {
  readonly #filters: readonly NameFilter[];

  constructor(objects: readonly K8sObject[]) {
    this.#filters = objects.flatMap((object) => {
      const policy = policyOf(object);
      return policy === null ? [] : policy.specs.flatMap((spec) => filtersOf(policy, spec));
    });
  }

  of(object: PolicyObject): readonly Hint[] {
    const policy = policyOf(object);
    if (policy === null) return [];
    return policy.specs.flatMap((spec) =>
      egressAllowed(spec).flatMap((rule) => this.#hint(object.kind, spec, rule)),
    );
  }

  #hint(kind: PolicyKind, spec: PolicySpec, rule: PolicyRule): readonly Hint[] {
    const isOrdered = spec.tier !== undefined;
    if (spec.tier?.name === 'baseline') return [];
    const lifted = this.#filters.find(
      ({ subject, peers, ranges }) =>
        isWider(spec.subject, subject) &&
        coversPeers(rule.peers, peers) &&
        ranges.some((range) => lifts(rule, range, isOrdered)),
    );
    if (lifted === undefined) return [];
    const message =
      `lets these pods ask the DNS server for every name, which rules.dns of ${formatPolicyRef(lifted.policy.ref)} is to prevent for ` +
      `pods that both select: rules add up. Leave these pods out of the selector here${otherFixes[kind] ?? ''}`;
    return [{ path: rule.path, message }];
  }
}

function policyOf(object: K8sObject): Policy | null {
  if (!isPolicyObject(object)) return null;
  const parsed = parsePolicy(object);
  return parsed.ok ? parsed.value : null;
}

const egressAllowed = ({ rules }: PolicySpec): readonly PolicyRule[] =>
  rules.filter(
    ({ direction, action, fqdns }) =>
      direction === Direction.egress && action === 'allow' && fqdns.length === 0,
  );

function filtersOf(policy: Policy, spec: PolicySpec): readonly NameFilter[] {
  return egressAllowed(spec).flatMap(({ peers, ports }) => {
    if (ports === 'any') return [];
    const filtering = ports.filter(({ dns }) => dns !== null && !dns.matchAll);
    const ranges = filtering.flatMap((each) => each.ports);
    return ranges.length === 0 ? [] : [{ policy, subject: spec.subject, peers, ranges }];
  });
}

/** Whether ports of the rule without rules.dns lift the names at a port of `filtered`. */
function lifts({ ports }: PolicyRule, filtered: PortRange, isOrdered: boolean): boolean {
  if (ports === 'any') return isOrdered;
  const plain = ports.flatMap((each) => (each.dns === null ? each.ports : []));
  return plain.some(({ protocol, first, last }) => {
    if (protocol !== filtered.protocol) return false;
    if (isOrdered) return first <= filtered.last && filtered.first <= last;
    return first === last && isWithin(first, filtered);
  });
}

const isWithin = (port: number, { first, last }: PortRange): boolean =>
  first <= port && port <= last;

/** Whether the first selects each pod that the second does, as far as their requirements show. */
function isWider(wide: LabelSelector, narrow: LabelSelector): boolean {
  return wide.requirements.every((each) => narrow.requirements.some((own) => implies(own, each)));
}

function implies(own: LabelRequirement, wanted: LabelRequirement): boolean {
  if (labelOf(own) !== labelOf(wanted)) return false;
  const values = new Set(wanted.values);
  switch (wanted.operator) {
    case 'Exists':
      return own.operator === 'In' || own.operator === 'Exists';
    case 'In':
      return own.operator === 'In' && values.isSupersetOf(new Set(own.values));
    case 'NotIn':
      return own.operator === 'In'
        ? values.isDisjointFrom(new Set(own.values))
        : own.operator === 'NotIn' && values.isSubsetOf(new Set(own.values));
    case 'DoesNotExist':
      return own.operator === 'DoesNotExist';
  }
}

/** A namespace by its name is written in two ways. */
const labelOf = ({ name }: LabelRequirement): string =>
  name === namespaceNameLabel ? podNamespaceLabel : name;

/** Whether the first holds one of the second's, as far as labels and prefixes show. */
function coversPeers(wide: PolicyRule['peers'], narrow: PolicyRule['peers']): boolean {
  if (wide === 'any') return true;
  if (narrow === 'any') return false;
  return narrow.some((peer) => wide.some((each) => coversPeer(each, peer)));
}

function coversPeer(wide: Peer, narrow: Peer): boolean {
  if (wide.kind === 'labels' && narrow.kind === 'labels')
    return isWider(wide.selector, narrow.selector);
  if (wide.kind === 'cidr' && narrow.kind === 'cidr') return prefixCovers(wide.cidr, narrow.cidr);
  return peerKey(wide) === peerKey(narrow);
}
