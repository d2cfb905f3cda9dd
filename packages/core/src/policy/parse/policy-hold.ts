// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The substitute for a policy object that cannot be enforced: a denial for the pods that it means, in the directions that it
 * means, as far as this can be known; where it cannot, more pods and both directions.
 *
 * Whom: a selector that cannot be read whole selects at most what the rest of it selects, and an object of
 * a namespace at most the pods of that. What a clusterwide object without a readable selector means may be
 * every pod of the cluster, the DNS servers among them: it is left out and named, and nothing is denied.
 *
 * Of a text that is no YAML a part may be lost: no section of it and no selector counts as whole.
 *
 * How: rules of other objects go on allowing what they allow, unless the object may have narrowed them, by
 * a deny section, by rules for names, or by something unknown: then everything is denied.
 */

import type { PolicyKind, PolicyObject } from '../../k8s/objects.ts';
import { networkSpecFields, specFields } from '../../k8s/parse-policy-object.ts';
import { type Fields, isFields } from '../../k8s/shape.ts';
import { Direction } from '../model/kernel-numbers.ts';
import type { HoldScope, InvalidPolicy, Policy, PolicyRule, PolicySpec } from '../model/rule.ts';
import type { LabelSelector } from '../model/selector.ts';
import { salvagePodSubject } from './parse-pod-selector.ts';
import { salvageSubject } from './parse-selector.ts';
import { holdOfTier, tierHoldOfSpec } from './tier-hold.ts';

export interface Hold {
  readonly hold: readonly PolicySpec[];
  readonly holdScope: HoldScope;
}

/** For an object that cannot be read. */
export function holdOfObject(object: PolicyObject): Hold {
  const { spec, specs, strays } = object;
  const listed: readonly unknown[] =
    specs === undefined ? [] : Array.isArray(specs) ? specs : [specs];
  const bodies = spec === undefined ? listed : [spec, ...listed];
  // Without a body, what stands beside it is one.
  const given = bodies.length === 0 ? [{}] : bodies;
  const holds = given.map((body) => holdOfBody(isFields(body) ? body : null, strays, object));
  return {
    hold: holds.flatMap(({ hold }) => hold),
    holdScope: worst(holds.map(({ holdScope }) => holdScope)),
  };
}

/** For an object whose rules are not to be looked at: everything is denied, for whom its selectors name. */
export function coarseHoldOf(object: PolicyObject): Hold {
  const coarse = (body: unknown): unknown =>
    isFields(body)
      ? {
          ...{ unread: true },
          ...selectorOf(object.kind, body),
        }
      : body;
  const { spec, specs } = object;
  return holdOfObject({
    ...object,
    spec: coarse(spec),
    specs: Array.isArray(specs) ? specs.map(coarse) : specs,
  });
}

function selectorOf(kind: PolicyKind, body: Fields): Fields {
  switch (kind) {
    case 'NetworkPolicy':
      return { podSelector: body['podSelector'] ?? {} };
    case 'ClusterNetworkPolicy':
      return { tier: body['tier'], priority: body['priority'], subject: body['subject'] };
    default:
      return { endpointSelector: body['endpointSelector'] };
  }
}

function holdOfAll(objects: readonly PolicyObject[]): Hold {
  const holds = objects.map(holdOfObject);
  return {
    hold: holds.flatMap(({ hold }) => hold),
    holdScope: worst(holds.map(({ holdScope }) => holdScope)),
  };
}

/** Several objects of one name that differ: none of them may win. `places`: where they are written. */
export function duplicatePolicy(
  [first, ...others]: readonly [PolicyObject, ...PolicyObject[]],
  places: readonly string[],
): InvalidPolicy {
  const { kind, namespace, name } = first;
  return {
    ref: { kind, namespace, name },
    errors: [{ path: 'metadata.name', message: duplicateText(places) }],
    ...holdOfAll([first, ...others]),
  };
}

export function duplicateText(places: readonly string[]): string {
  return `is defined in ${places.join(' and ')} with different contents: remove all but one, or give them other names`;
}

/** For a policy that can be read, but not carried. */
export function holdOfPolicy({ specs }: Policy): Hold {
  const hold = specs.flatMap((spec) => {
    if (spec.tier !== undefined) return tierHoldOfSpec(spec, spec.tier);
    const { subject, hasIngress, hasEgress, rules } = spec;
    const narrows = (direction: Direction): boolean =>
      rules.some((rule) => rule.direction === direction && mayNarrow(rule));
    return denial(subject, {
      ingress: hasIngress,
      egress: hasEgress,
      closesIngress: narrows(Direction.ingress),
      closesEgress: narrows(Direction.egress),
    });
  });
  return { hold, holdScope: 'selected' };
}

function mayNarrow({ action, ports }: PolicyRule): boolean {
  return action === 'deny' || (ports !== 'any' && ports.some(({ dns }) => dns !== null));
}

const scopes: readonly HoldScope[] = ['none', 'accepts', 'selected', 'superset', 'unknown'];

function worst(found: readonly HoldScope[]): HoldScope {
  return found.reduce((left, right) => {
    return scopes.indexOf(left) >= scopes.indexOf(right) ? left : right;
  }, 'none');
}

/** `body` null: it is no mapping. */
function holdOfBody(body: Fields | null, strays: Fields, object: PolicyObject): Hold {
  const fields = { ...strays, ...body };
  if (object.kind === 'NetworkPolicy') return holdOfNetworkPolicy(fields, body !== null, object);
  if (object.kind === 'ClusterNetworkPolicy') return holdOfTier(fields, body !== null, object);
  const hasSelector = Object.hasOwn(fields, 'endpointSelector');
  if (!hasSelector && Object.hasOwn(fields, 'nodeSelector')) return { hold: [], holdScope: 'none' };
  // An object without a namespace may be in any, like a clusterwide one.
  const namespace = object.isPlaced ? object.namespace : '';
  const { subject, isWhole: isReadable } = salvageSubject(fields['endpointSelector'], namespace);
  // A damaged text may lack a part.
  const isIntact = object.damage === null;
  const isWhole = isReadable && isIntact;
  const isBounded = subject.requirements.length > 0;
  if (!isBounded && !(isWhole && object.isPlaced)) return { hold: [], holdScope: 'unknown' };
  const isClear =
    isIntact && body !== null && Object.keys(fields).every((field) => specFields.includes(field));
  const spec = denial(subject, directionsOf(fields, isClear));
  return { hold: [spec], holdScope: isWhole && object.isPlaced ? 'selected' : 'superset' };
}

/** It only allows: what other objects allow goes on, unless something in it is not known. */
function holdOfNetworkPolicy(fields: Fields, isBody: boolean, object: PolicyObject): Hold {
  const namespace = object.isPlaced ? object.namespace : '';
  const { podSelector = {}, policyTypes, egress } = fields;
  const { subject, isWhole: isReadable } = salvagePodSubject(podSelector, namespace);
  const isIntact = isBody && object.damage === null;
  const isWhole = isReadable && isIntact;
  if (subject.requirements.length === 0) return { hold: [], holdScope: 'unknown' };
  const isClear = isIntact && Object.keys(fields).every((each) => networkSpecFields.includes(each));
  const given = policyTypes ?? [];
  // A text in place of the list names its direction all the same.
  const types: readonly unknown[] = Array.isArray(given) ? given : [given];
  const areTyped = types.every((type) => type === 'Ingress' || type === 'Egress');
  const isUnclear = !isClear || !areTyped;
  const hasRules = (section: unknown): boolean => !Array.isArray(section) || section.length > 0;
  const names = (type: 'Ingress' | 'Egress', isDefault: boolean): boolean =>
    isUnclear || (types.length > 0 ? types.includes(type) : isDefault);
  const spec = denial(subject, {
    ingress: names('Ingress', true),
    egress: names('Egress', egress !== undefined && egress !== null && hasRules(egress)),
    closesIngress: isUnclear,
    closesEgress: isUnclear,
  });
  return { hold: [spec], holdScope: isWhole && object.isPlaced ? 'selected' : 'superset' };
}

interface Denied {
  readonly ingress: boolean;
  readonly egress: boolean;
  /** Denies also what other objects allow. */
  readonly closesIngress: boolean;
  readonly closesEgress: boolean;
}

function directionsOf(fields: Fields, isClear: boolean): Denied {
  const has = (name: string): boolean => Object.hasOwn(fields, name);
  const { enableDefaultDeny } = fields;
  const namesIngress =
    has('ingress') || has('ingressDeny') || mayDeny(enableDefaultDeny, 'ingress');
  const namesEgress = has('egress') || has('egressDeny') || mayDeny(enableDefaultDeny, 'egress');
  const isUnclear = !isClear || (!namesIngress && !namesEgress);
  return {
    ingress: isUnclear || namesIngress,
    egress: isUnclear || namesEgress,
    closesIngress: isUnclear || has('ingressDeny') || hasNarrowRules(fields['ingress']),
    closesEgress: isUnclear || has('egressDeny') || hasNarrowRules(fields['egress']),
  };
}

/** Whether `enableDefaultDeny` asks for the direction, with or without a section of it. What is not understood may. */
function mayDeny(wish: unknown, direction: 'ingress' | 'egress'): boolean {
  const isClear =
    isFields(wish) && Object.keys(wish).every((each) => each === 'ingress' || each === 'egress');
  const given = isClear ? wish[direction] : wish;
  return given !== undefined && given !== null && given !== false;
}

/** Fields of an element that allow and can do nothing else. Not `fromRequires`, nor `authentication`. */
const allowFields: ReadonlySet<string> = new Set([
  ...['toEndpoints', 'toCIDR', 'toCIDRSet', 'toEntities', 'toGroups', 'toNodes'],
  ...['fromEndpoints', 'fromCIDR', 'fromCIDRSet', 'fromEntities', 'fromGroups', 'fromNodes'],
  ...['toFQDNs', 'toServices', 'icmps', 'toPorts'],
]);

/** Whether elements of an allow section have more than peers and ports, or cannot be read. */
function hasNarrowRules(section: unknown): boolean {
  if (section === undefined || section === null) return false;
  if (!Array.isArray(section)) return true;
  return section.some((element: unknown) => {
    if (!hasOnly(element, (field) => allowFields.has(field))) return true;
    const { toPorts = [] } = element as Fields;
    const isPlain = (item: unknown): boolean => hasOnly(item, (field) => field === 'ports');
    return !Array.isArray(toPorts) || !toPorts.every(isPlain);
  });
}

function hasOnly(value: unknown, isKnown: (field: string) => boolean): boolean {
  return isFields(value) && Object.keys(value).every(isKnown);
}

function denial(subject: LabelSelector, denied: Denied): PolicySpec {
  const { ingress, egress, closesIngress, closesEgress } = denied;
  const rules: PolicyRule[] = [];
  if (ingress && closesIngress) rules.push(denyAll(Direction.ingress));
  if (egress && closesEgress) rules.push(denyAll(Direction.egress));
  return {
    subject,
    hasIngress: ingress,
    hasEgress: egress,
    denyIngress: ingress,
    denyEgress: egress,
    rules,
  };
}

function denyAll(direction: Direction): PolicyRule {
  return { direction, action: 'deny', peers: 'any', fqdns: [], ports: 'any', path: '(held)' };
}
