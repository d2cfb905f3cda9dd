// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy -> rules, for the subset that we enforce.
 * An unknown field or value is an error that names the field: an object with one error is invalid as
 * a whole, because enforcing the rest would be another policy than the one written. An invalid object
 * still says which pods it meant, so that these can be denied (policy-hold.ts).
 *
 * Source: Cilium pkg/policy/api (Rule.Sanitize), pkg/k8s/apis/cilium.io/utils. Differences: docs/compatibility.md.
 */

import type { PolicyObject } from '../../k8s/objects.ts';
import { specFields } from '../../k8s/parse-policy-object.ts';
import { at, type Fields, readFields, readFlag, readList } from '../../k8s/shape.ts';
import { err, ok, type Result } from '../../result.ts';
import { Direction } from '../model/kernel-numbers.ts';
import type { InvalidPolicy, Policy, PolicyRef, PolicyRule, PolicySpec } from '../model/rule.ts';
import { ParseContext } from './parse-context.ts';
import { parseFqdns } from './parse-names.ts';
import { egressPeers, ingressPeers, type PeerFields, parsePeers } from './parse-peers.ts';
import { type PortSection, parsePorts } from './parse-ports.ts';
import { parseSubject } from './parse-selector.ts';
import { holdOfObject } from './policy-hold.ts';

const sections: readonly PortSection[] = ['ingress', 'ingressDeny', 'egress', 'egressDeny'];

const unsupportedFields: Readonly<Record<string, string>> = {
  toServices:
    'select the pods of the Service with toEndpoints, the API server with toEntities kube-apiserver, and a Service without selector with toCIDR',
  toGroups: 'cloud groups are not looked up, use toCIDRSet or toFQDNs',
  fromGroups: 'cloud groups are not looked up, use fromCIDRSet',
  toNodes: 'use toEntities host or remote-node',
  fromNodes: 'use fromEntities host or remote-node',
  toRequires: 'Cilium removed it in 1.19, write the labels into each selector',
  fromRequires: 'Cilium removed it in 1.19, write the labels into each selector',
  icmps:
    'a rule for ICMP alone cannot be written. A rule without toPorts allows ICMP, with every port of its peers',
  authentication: 'Tandem has no mutual authentication',
  // Of NetworkPolicy, and out of place.
  to: 'write toEndpoints, toCIDR or toEntities',
  from: 'write fromEndpoints, fromCIDR or fromEntities',
  ports: 'write toPorts, with ports under it',
  ipBlock: 'write toCIDRSet or fromCIDRSet',
  fromFQDNs: 'names are supported for egress only: write fromCIDR',
  rules: 'it belongs to an item of toPorts, beside ports',
};
/** Fields of a NetworkPolicy's spec, with the field to write here. */
const foreignSpecFields: Readonly<Record<string, string>> = {
  podSelector: 'write endpointSelector',
  policyTypes: 'the sections that are present decide it',
};

/** The rules of a policy object, or why it has none and whom to hold meanwhile. */
export function parseCiliumPolicy(object: PolicyObject): Result<Policy, InvalidPolicy> {
  const { kind, namespace, name } = object;
  const ref: PolicyRef = { kind, namespace, name };
  if (object.damage !== null) {
    return err({ ref, errors: [{ path: '', message: object.damage }], ...holdOfObject(object) });
  }
  const context = new ParseContext(namespace);
  const specs: PolicySpec[] = [];
  for (const { path, message } of object.faults) context.error(path, message);
  for (const [path, body] of readBodies(object, context)) {
    const spec = parseSpec(body, path, context);
    if (spec !== null) specs.push(spec);
  }
  const warnings = context.warnings.list();
  if (!context.errors.any) return ok({ ref, specs, warnings });
  return err({ ref, errors: context.errors.list(), ...holdOfObject(object) });
}

/** spec and specs, each with its path. */
function readBodies(
  object: PolicyObject,
  context: ParseContext,
): readonly (readonly [string, unknown])[] {
  const bodies: (readonly [string, unknown])[] = [];
  if (object.spec !== undefined) bodies.push(['spec', object.spec]);
  if (object.specs !== undefined) {
    const list = readList({ specs: object.specs }, 'specs', '', context.errors);
    for (const [index, body] of context.take(list, 'specs').entries()) {
      bodies.push([`specs[${index}]`, body]);
    }
  }
  if (bodies.length === 0) context.error('spec', 'is missing: give spec or specs');
  return bodies;
}

function parseSpec(body: unknown, path: string, context: ParseContext): PolicySpec | null {
  const fields = readFields(body, path, context.errors);
  if (fields === null) return null;
  context.checkFields(fields, path, specFields, foreignSpecFields);
  const subject = parseSubjects(fields, path, context);
  const elements = new Map<PortSection, number>();
  const rules: PolicyRule[] = [];
  for (const section of sections) {
    const sectionPath = at(path, section);
    const list =
      fields[section] === null
        ? []
        : context.take(readList(fields, section, path, context.errors), sectionPath);
    elements.set(section, list.length);
    for (const [index, element] of list.entries()) {
      const rule = parseElement(element, section, `${sectionPath}[${index}]`, context);
      if (rule !== null) rules.push(rule);
    }
  }
  const hasSection = (name: PortSection): boolean => (elements.get(name) ?? 0) > 0;
  const hasIngress = hasSection('ingress') || hasSection('ingressDeny');
  const hasEgress = hasSection('egress') || hasSection('egressDeny');
  if (!hasIngress && !hasEgress) {
    context.error(
      path,
      'rule must have at least one of Ingress, IngressDeny, Egress, EgressDeny: an empty list is none, default deny is [{}]',
    );
  }
  const wish = parseDefaultDeny(fields, path, context);
  if (subject === null) return null;
  return {
    subject,
    hasIngress: hasIngress || wish.ingress === true,
    hasEgress: hasEgress || wish.egress === true,
    denyIngress: wish.ingress ?? hasIngress,
    denyEgress: wish.egress ?? hasEgress,
    rules,
  };
}

function parseSubjects(
  fields: Fields,
  path: string,
  context: ParseContext,
): PolicySpec['subject'] | null {
  const hasEndpoints = fields['endpointSelector'] !== undefined;
  const hasNodes = fields['nodeSelector'] !== undefined;
  if (hasEndpoints && hasNodes) {
    context.error(path, 'rule cannot have both EndpointSelector and NodeSelector');
  } else if (hasNodes) {
    const isClusterwide = context.namespace === '';
    const why = isClusterwide
      ? 'only pods are policed, and no node: remove the object'
      : 'only clusterwide policies have it: select pods with endpointSelector';
    context.error(at(path, 'nodeSelector'), `is not supported: ${why}`);
  } else if (!hasEndpoints) {
    context.error(path, 'rule must have one of EndpointSelector or NodeSelector');
  }
  if (!hasEndpoints || fields['endpointSelector'] === null) return null;
  return parseSubject(fields['endpointSelector'], at(path, 'endpointSelector'), context);
}

function parseDefaultDeny(
  fields: Fields,
  path: string,
  context: ParseContext,
): { readonly ingress?: boolean | undefined; readonly egress?: boolean | undefined } {
  const value = fields['enableDefaultDeny'];
  if (value === undefined || value === null) return {};
  const wishPath = at(path, 'enableDefaultDeny');
  const wish = readFields(value, wishPath, context.errors);
  if (wish === null) return {};
  context.checkFields(wish, wishPath, ['ingress', 'egress']);
  const read = (name: string): boolean | undefined =>
    wish[name] === null ? undefined : readFlag(wish, name, wishPath, context.errors);
  return { ingress: read('ingress'), egress: read('egress') };
}

/** One element of a section; null when it says nothing beyond default deny, or is in error. */
function parseElement(
  value: unknown,
  section: PortSection,
  path: string,
  context: ParseContext,
): PolicyRule | null {
  const fields = readFields(value, path, context.errors);
  if (fields === null) return null;
  const isEgress = section === 'egress' || section === 'egressDeny';
  const action = section === 'ingressDeny' || section === 'egressDeny' ? 'deny' : 'allow';
  const names = isEgress ? egressPeers : ingressPeers;
  const known = [names.endpoints, names.cidr, names.cidrSet, names.entities, 'toPorts'];
  const advice = {
    ...unsupportedFields,
    ...fieldsOfOther(isEgress ? ingressPeers : egressPeers, names),
    ...(section === 'egressDeny'
      ? { toFQDNs: 'a deny rule cannot name FQDNs, use toCIDRSet' }
      : {}),
  };
  context.checkFields(fields, path, section === 'egress' ? [...known, 'toFQDNs'] : known, advice);
  if (fields['icmps'] !== undefined && fields['toPorts'] !== undefined) {
    context.error(path, 'icmps may only be present without toPorts: define a separate rule');
  }
  const peers = parsePeers(fields, names, path, context, section === 'ingress');
  const fqdns = section === 'egress' ? parseFqdns(fields, path, context) : null;
  const ports = parsePorts(fields, section, path, context);
  const hasDns = ports !== 'any' && ports.some(({ dns }) => dns !== null);
  if (fqdns !== null && hasDns) {
    context.error(path, 'toFQDNs cannot name DNS servers for rules.dns: use toEndpoints or toCIDR');
  }
  if (peers === 'any' && ports === 'any' && !hasPeerField(fields, known)) {
    if (action === 'deny') context.warn(path, 'an empty deny rule denies nothing');
    return null;
  }
  if (peers !== 'any' && peers.length === 0 && fqdns === null) {
    context.warn(path, 'selects no peer, so the rule has no effect');
  }
  const direction = isEgress ? Direction.egress : Direction.ingress;
  return { direction, action, peers, fqdns: fqdns ?? [], ports, path };
}

/** Peers of the other direction, with those to write. */
function fieldsOfOther(other: PeerFields, own: PeerFields): Readonly<Record<string, string>> {
  const kinds = ['endpoints', 'cidr', 'cidrSet', 'entities'] as const;
  return Object.fromEntries(
    kinds.map((kind) => [other[kind], `it is for the other direction: write ${own[kind]}`]),
  );
}

/** Tells `toEntities: [all]` from an element that names no peer. */
function hasPeerField(fields: Fields, known: readonly string[]): boolean {
  return known.some((name) => name !== 'toPorts' && fields[name] !== undefined);
}
