// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * ClusterNetworkPolicy of policy.networking.k8s.io -> ordered rules of a tier. It isolates no pod, and its first rule that matches
 * decides. A peer or protocol that is not known makes its rule fail closed, as the API demands: an Accept matches nothing, a
 * Deny or a Pass denies everything. The API server drops fields that its definition does not have, so an empty item is unknown too.
 *
 * Source: sigs.k8s.io/network-policy-api, apis/v1alpha2/clusternetworkpolicy_types.go and its definition.
 */

import type { PolicyObject } from '../../k8s/objects.ts';
import { tierSpecFields } from '../../k8s/parse-policy-object.ts';
import {
  at,
  type Fields,
  isFields,
  nameOf,
  readFields,
  readInteger,
  readList,
  readText,
  withoutNulls,
} from '../../k8s/shape.ts';
import { tierPriorityMax, tierRuleNameMax } from '../../limits.ts';
import type { Result } from '../../result.ts';
import { Direction } from '../model/kernel-numbers.ts';
import type { InvalidPolicy, Policy, PolicyRule, PolicySpec, SpecTier } from '../model/rule.ts';
import type { LabelSelector } from '../model/selector.ts';
import type { ParseContext } from './parse-context.ts';
import { parseOneSpec } from './parse-one-spec.ts';
import { parseNamespaces, parsePods, subjectFields } from './parse-pod-selector.ts';
import { parseTierPeer } from './parse-tier-peer.ts';
import { parseProtocols } from './parse-tier-protocols.ts';
import { takeItems } from './tier-items.ts';

type Section = 'ingress' | 'egress';

const actionOf = { Accept: 'allow', Deny: 'deny', Pass: 'pass' } as const;
type Action = keyof typeof actionOf;
const tierOf: Readonly<Record<string, SpecTier['name']>> = { Admin: 'admin', Baseline: 'baseline' };
/** Fields of the kinds that this one replaces, with the field to write here. */
const specAdvice: Readonly<Record<string, string>> = {
  podSelector: 'write subject: {pods: {namespaceSelector: {}, podSelector: ...}}',
  endpointSelector: 'write subject: {pods: {namespaceSelector: {}, podSelector: ...}}',
  namespaceSelector: 'write subject: {namespaces: ...}',
  policyTypes: 'a direction without rules is left as it is: remove it',
};
const underSelector = 'put it under namespaces, or under podSelector of pods';
const subjectAdvice: Readonly<Record<string, string>> = {
  podSelector: 'write pods: {podSelector: ...}',
  namespaceSelector: 'write namespaces: ..., or put it under pods',
  ...{ matchLabels: underSelector, matchExpressions: underSelector },
};
const portsAdvice = 'write protocols: [{tcp: {destinationPort: {number: 80}}}]';

export function parseClusterNetworkPolicy(object: PolicyObject): Result<Policy, InvalidPolicy> {
  return parseOneSpec(object, parseSpec);
}

function parseSpec(body: unknown, context: ParseContext): PolicySpec | null {
  const read = readFields(body, 'spec', context.errors);
  if (read === null) return null;
  const fields = context.presentFields(read, 'spec', tierSpecFields, specAdvice);
  const tier = parseTier(fields, context);
  const subject = parseSubject(fields['subject'], context);
  const ingress = parseRules(fields, 'ingress', context);
  const egress = parseRules(fields, 'egress', context);
  if (tier === null || subject === null) return null;
  if (ingress.count + egress.count === 0) {
    context.warn('spec', 'has no effect: it has neither ingress nor egress rules');
  }
  return {
    subject,
    hasIngress: ingress.count > 0,
    hasEgress: egress.count > 0,
    denyIngress: false,
    denyEgress: false,
    rules: [...ingress.rules, ...egress.rules],
    tier,
  };
}

function parseTier(fields: Fields, context: ParseContext): SpecTier | null {
  const text = readText(fields, 'tier', 'spec', context.errors);
  const name = text !== undefined && Object.hasOwn(tierOf, text) ? tierOf[text] : undefined;
  if (fields['tier'] === undefined)
    context.error('spec.tier', 'is missing: write Admin or Baseline');
  else if (text !== undefined && name === undefined)
    context.error('spec.tier', `is ${JSON.stringify(text)}, but must be Admin or Baseline`);
  const range = { min: 0, max: tierPriorityMax };
  const priority = readInteger(fields, 'priority', 'spec', range, context.errors);
  if (fields['priority'] === undefined) {
    const message = `is missing: give a number of 0 to ${tierPriorityMax}, of which the lowest is asked first`;
    context.error('spec.priority', message);
  }
  return name === undefined || priority === undefined ? null : { name, priority };
}

function parseSubject(value: unknown, context: ParseContext): LabelSelector | null {
  const path = 'spec.subject';
  const forms = 'write namespaces: {} for all pods, or pods with namespaceSelector and podSelector';
  if (value === undefined) {
    context.error(path, `is missing: ${forms}`);
    return null;
  }
  const read = readFields(value, path, context.errors);
  if (read === null) return null;
  const { namespaces, pods } = context.presentFields(read, path, subjectFields, subjectAdvice);
  if ((namespaces === undefined) === (pods === undefined)) {
    const what = pods === undefined ? 'selects nobody' : 'has both namespaces and pods';
    context.error(path, `${what}: ${forms}`);
    return null;
  }
  return pods === undefined
    ? parseNamespaces(namespaces, at(path, 'namespaces'), context)
    : parsePods(pods, at(path, 'pods'), context);
}

interface Rules {
  /** Items of the list, those included that match nothing. */
  readonly count: number;
  readonly rules: readonly PolicyRule[];
}

function parseRules(fields: Fields, section: Section, context: ParseContext): Rules {
  const path = `spec.${section}`;
  const list = takeItems(readList(fields, section, 'spec', context.errors), path, context);
  const rules = list.flatMap((value, index) => {
    const rule = parseRule(value, section, `${path}[${index}]`, context);
    return rule === null ? [] : [{ ...rule, index }];
  });
  return { count: list.length, rules };
}

/** Null: in error, or it matches nothing. */
function parseRule(
  value: unknown,
  section: Section,
  path: string,
  context: ParseContext,
): PolicyRule | null {
  const read = readFields(value, path, context.errors);
  if (read === null) return null;
  const [own, other] = section === 'ingress' ? ['from', 'to'] : ['to', 'from'];
  const asPeer = `put it in the list ${own}`;
  const fields = context.presentFields(read, path, ['name', 'action', own, 'protocols'], {
    ...{ [other]: `${section} rules have ${own}`, ports: portsAdvice },
    ...{ namespaces: asPeer, pods: asPeer, networks: asPeer },
  });
  const name = readText(fields, 'name', path, context.errors) ?? '';
  if (name.length > tierRuleNameMax)
    context.error(at(path, 'name'), `is longer than ${tierRuleNameMax} characters: shorten it`);
  const action = parseAction(fields, path, context);
  const listPath = at(path, own);
  const given = takeItems(readList(fields, own, path, context.errors), listPath, context);
  const isList = fields[own] === undefined || Array.isArray(fields[own]);
  if (given.length === 0 && isList) {
    const all =
      section === 'ingress'
        ? 'namespaces: {} is all pods'
        : 'networks: [0.0.0.0/0, "::/0"] is everybody';
    context.error(listPath, `names nobody: give at least one peer, ${all}`);
  }
  const parsed = given.map((peer, index) =>
    parseTierPeer(peer, section, `${listPath}[${index}]`, context),
  );
  const ports = parseProtocols(fields, path, context);
  const unknown = [...parsed, ports].flatMap((each) => ('unknown' in each ? [each] : []));
  if (action === null) return null;
  for (const each of unknown) {
    const effect =
      action === 'Accept' ? 'this rule accepts nothing' : 'this rule denies everything';
    context.warn(each.path, `${each.unknown}, so ${effect}: ${each.fix}`);
  }
  const direction = section === 'ingress' ? Direction.ingress : Direction.egress;
  if (unknown.length > 0 || 'unknown' in ports) {
    if (action === 'Accept') return null;
    return { direction, action: 'deny', peers: 'any', fqdns: [], ports: 'any', path };
  }
  if (ports.named.length > 0 && given.some((peer) => isFields(peer) && hasNetworks(peer))) {
    const message = 'has destinationNamedPort, but networks have no named ports: write the numbers';
    context.error(at(path, 'protocols'), message);
  }
  return {
    direction,
    action: actionOf[action],
    peers: parsed.flatMap((each) => ('peers' in each ? each.peers : [])),
    fqdns: [],
    ports: ports.ranges === 'any' ? 'any' : [{ ports: ports.ranges, dns: null }],
    ...(ports.named.length === 0 ? {} : { namedPorts: ports.named }),
    path,
  };
}

function hasNetworks(peer: Fields): boolean {
  return withoutNulls(peer, ['networks'])['networks'] !== undefined;
}

function parseAction(fields: Fields, path: string, context: ParseContext): Action | null {
  const { action } = fields;
  if (action === 'Accept' || action === 'Deny' || action === 'Pass') return action;
  const fix = action === 'Allow' ? ': write Accept' : '';
  const what = action === undefined ? 'missing' : nameOf(action);
  context.error(at(path, 'action'), `is ${what}, but must be Accept, Deny or Pass${fix}`);
  return null;
}
