// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * NetworkPolicy of networking.k8s.io/v1 -> rules. It only allows: a selected pod is denied, in the directions of the
 * policyTypes, all traffic that no policy allows. Similar fields differ in meaning from Cilium's: an absent or an
 * empty `from` selects every peer, an empty list of rules none.
 *
 * Source: k8s.io/api/networking/v1 types.go, its defaults and validation (kubernetes/pkg/apis/networking).
 */

import type { PolicyObject } from '../../k8s/objects.ts';
import { networkSpecFields } from '../../k8s/parse-policy-object.ts';
import {
  at,
  type Fields,
  nameOf,
  readFields,
  readInteger,
  readList,
  readText,
} from '../../k8s/shape.ts';
import type { Result } from '../../result.ts';
import { Direction, Protocol } from '../model/kernel-numbers.ts';
import type { Peer } from '../model/peer.ts';
import type {
  InvalidPolicy,
  NamedPort,
  Policy,
  PolicyRule,
  PolicySpec,
  PortRange,
} from '../model/rule.ts';
import type { ParseContext } from './parse-context.ts';
import { parseIpBlock } from './parse-ip-block.ts';
import { parseOneSpec } from './parse-one-spec.ts';
import { parsePodPeer, parsePodSubject } from './parse-pod-selector.ts';

type Section = 'ingress' | 'egress';

const byNames = 'a NetworkPolicy has no field for names: write a CiliumNetworkPolicy with toFQDNs';
const byNamespace =
  'select namespaces by a label: namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: NAME}}';
const underSelector = 'put it under podSelector or namespaceSelector';
/** Fields that are often written in place of a known one, with the known one. */
const ruleAdvice: Readonly<Record<string, string>> = {
  action: 'a NetworkPolicy only allows: write a CiliumNetworkPolicy with ingressDeny or egressDeny',
  port: 'put it in the list ports',
  protocol: 'put it in the list ports',
};
const peerAdvice: Readonly<Record<string, string>> = {
  ...{ matchLabels: underSelector, matchExpressions: underSelector },
  ...{ cidr: 'put it under ipBlock', except: 'put it under ipBlock' },
  ...{ namespace: byNamespace, namespaces: byNamespace },
  ...{ fqdn: byNames, host: byNames, matchName: byNames, toFQDNs: byNames },
  ports: 'it stands one level up, beside the list of peers',
  service: 'select the pods behind the Service',
  serviceName: 'select the pods behind the Service',
};
const portMax = 65_535;
const directions = 2;
const protocolOf: Readonly<Record<string, Protocol>> = {
  TCP: Protocol.tcp,
  UDP: Protocol.udp,
  SCTP: Protocol.sctp,
};
const protocolAdvice: Readonly<Record<string, string>> = {
  ANY: 'write an item for each, or leave ports out',
  ICMP: 'rules without ports allow it',
  ICMPv6: 'rules without ports allow it',
};
/** IANA_SVC_NAME of RFC 6335. */
export const portName: RegExp = /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/;

export function parseNetworkPolicy(object: PolicyObject): Result<Policy, InvalidPolicy> {
  return parseOneSpec(object, parseSpec);
}

function parseSpec(body: unknown, context: ParseContext): PolicySpec | null {
  const fields = readFields(body, 'spec', context.errors);
  if (fields === null) return null;
  const given = context.presentFields(fields, 'spec', networkSpecFields);
  const subject = parsePodSubject(given['podSelector'] ?? {}, 'spec.podSelector', context);
  const ingress = parseRules(given, 'ingress', context);
  const egress = parseRules(given, 'egress', context);
  const types = parseTypes(given, egress.length > 0, context);
  if (subject === null || types === null) return null;
  for (const [section, direction, rules] of [
    ['ingress', 'Ingress', ingress],
    ['egress', 'Egress', egress],
  ] as const) {
    if (rules.length > 0 && !types.has(direction)) {
      context.warn(`spec.${section}`, `has no effect: policyTypes does not name ${direction}`);
    }
  }
  const hasIngress = types.has('Ingress');
  const hasEgress = types.has('Egress');
  return {
    subject,
    hasIngress,
    hasEgress,
    denyIngress: hasIngress,
    denyEgress: hasEgress,
    rules: [...(hasIngress ? ingress : []), ...(hasEgress ? egress : [])],
  };
}

/** Absent: Ingress, and Egress if there are rules of it. */
function parseTypes(
  fields: Fields,
  hasEgressRules: boolean,
  context: ParseContext,
): ReadonlySet<string> | null {
  const list = readList(fields, 'policyTypes', 'spec', context.errors);
  if (list.length === 0) return new Set(hasEgressRules ? ['Ingress', 'Egress'] : ['Ingress']);
  const types = new Set<string>();
  for (const [index, type] of list.entries()) {
    if (type === 'Ingress' || type === 'Egress') types.add(type);
    else {
      const path = `spec.policyTypes[${index}]`;
      const fix = typesFix(type);
      context.error(path, `is ${JSON.stringify(type)}, but must be Ingress or Egress${fix}`);
    }
  }
  if (list.length > directions) {
    context.error('spec.policyTypes', 'names a direction twice: name Ingress and Egress once each');
  }
  return context.errors.any ? null : types;
}

/** For one in other letters, and several in one text. */
function typesFix(type: unknown): string {
  const words = typeof type === 'string' ? type.split(/[\s,]+/) : [];
  const meant = words.map((word) => word.slice(0, 1).toUpperCase() + word.slice(1).toLowerCase());
  const isClear =
    meant.length > 0 && meant.every((word) => word === 'Ingress' || word === 'Egress');
  return isClear ? `: write [${meant.join(', ')}]` : '';
}

function parseRules(fields: Fields, section: Section, context: ParseContext): PolicyRule[] {
  const path = `spec.${section}`;
  const list = context.take(readList(fields, section, 'spec', context.errors), path);
  return list.flatMap((value, index) => {
    const rule = parseRule(value, section, `${path}[${index}]`, context);
    return rule === null ? [] : [rule];
  });
}

/**
 * An item of a list. The API server takes one with nothing behind its dash for an empty one, which allows everything:
 * an author who means that can write {}.
 */
function readItem(value: unknown, path: string, context: ParseContext): Fields | null {
  if (value !== null) return readFields(value, path, context.errors);
  context.error(path, 'has nothing behind its dash: remove it, or write {} for an empty item');
  return null;
}

function parseRule(
  value: unknown,
  section: Section,
  path: string,
  context: ParseContext,
): PolicyRule | null {
  const read = readItem(value, path, context);
  if (read === null) return null;
  const [own, other] = section === 'ingress' ? ['from', 'to'] : ['to', 'from'];
  const asPeer = `put it in the list ${own}`;
  const advice = {
    ...{ ...ruleAdvice, [other]: `${section} rules have ${own}` },
    ...{ podSelector: asPeer, namespaceSelector: asPeer, ipBlock: asPeer },
  };
  const fields = context.presentFields(read, path, [own, 'ports'], advice);
  const peerList = context.take(readList(fields, own, path, context.errors), at(path, own));
  const peers = peerList.flatMap((peer, index) => {
    const parsed = parsePeer(peer, `${at(path, own)}[${index}]`, context);
    return parsed === null ? [] : [parsed];
  });
  const ports = parsePorts(fields, path, context);
  return {
    direction: section === 'ingress' ? Direction.ingress : Direction.egress,
    action: 'allow',
    // A list whose items were all in error must not select every peer: the object is invalid then.
    peers: peerList.length === 0 ? 'any' : peers,
    fqdns: [],
    ports: ports === 'any' ? 'any' : [{ ports: ports.ranges, dns: null }],
    ...(ports === 'any' || ports.named.length === 0 ? {} : { namedPorts: ports.named }),
    path,
  };
}

const peerFields: readonly string[] = ['podSelector', 'namespaceSelector', 'ipBlock'];

function parsePeer(value: unknown, path: string, context: ParseContext): Peer | null {
  const read = readItem(value, path, context);
  if (read === null) return null;
  const fields = context.presentFields(read, path, peerFields, peerAdvice);
  const { podSelector, namespaceSelector, ipBlock } = fields;
  const hasSelector = podSelector !== undefined || namespaceSelector !== undefined;
  if (ipBlock !== undefined && hasSelector) {
    context.error(path, 'ipBlock cannot be combined with selectors: write a peer for each');
    return null;
  }
  if (ipBlock !== undefined) return parseIpBlock(ipBlock, at(path, 'ipBlock'), context);
  if (!hasSelector) {
    const given = Object.keys(read);
    const [empty] = given;
    const what =
      empty === undefined ? 'names nobody' : `selects no peer, because ${empty} has no value`;
    // A value in place of a peer is an error of its own.
    if (given.every((field) => peerFields.includes(field))) {
      context.error(path, `${what}: give podSelector, namespaceSelector or ipBlock, {} for all`);
    }
    return null;
  }
  const selector = parsePodPeer({ podSelector, namespaceSelector }, path, context);
  return selector === null ? null : { kind: 'labels', selector };
}

interface Ports {
  readonly ranges: readonly PortRange[];
  readonly named: readonly NamedPort[];
}

/** Absent or empty: every port of every protocol. */
function parsePorts(fields: Fields, path: string, context: ParseContext): 'any' | Ports {
  const listPath = at(path, 'ports');
  const list = context.take(readList(fields, 'ports', path, context.errors), listPath);
  if (list.length === 0) return 'any';
  const ranges: PortRange[] = [];
  const named: NamedPort[] = [];
  for (const [index, value] of list.entries()) {
    const port = parsePort(value, `${listPath}[${index}]`, context);
    if (port === null) continue;
    if ('name' in port) named.push(port);
    else ranges.push(port);
  }
  return { ranges, named };
}

function parsePort(
  value: unknown,
  path: string,
  context: ParseContext,
): PortRange | NamedPort | null {
  if (typeof value === 'string' || typeof value === 'number') {
    context.error(path, `is ${nameOf(value)}, but must be a mapping: write {port: ${value}}`);
    return null;
  }
  const read = readItem(value, path, context);
  if (read === null) return null;
  const fields = context.presentFields(read, path, ['port', 'endPort', 'protocol']);
  const text = readText(fields, 'protocol', path, context.errors) ?? 'TCP';
  const protocol = Object.hasOwn(protocolOf, text) ? protocolOf[text] : undefined;
  if (protocol === undefined) {
    const fix = Object.hasOwn(protocolAdvice, text) ? `: ${protocolAdvice[text]}` : '';
    context.error(at(path, 'protocol'), `${JSON.stringify(text)} is not TCP, UDP or SCTP${fix}`);
    return null;
  }
  const { port } = fields;
  if (port === undefined) {
    if (fields['endPort'] !== undefined) context.error(at(path, 'endPort'), 'needs a port');
    return { protocol, first: 0, last: portMax };
  }
  if (typeof port === 'string') {
    return parsePortName(port, `${text}/${port}`, protocol, fields, path, context);
  }
  if (Array.isArray(port)) {
    context.error(at(path, 'port'), 'is a list, but must be one port: write an item for each');
    return null;
  }
  const range = { min: 1, max: portMax };
  const first = readInteger(fields, 'port', path, range, context.errors);
  const last = readInteger(fields, 'endPort', path, range, context.errors) ?? first;
  if (first === undefined || last === undefined) return null;
  if (last < first) {
    context.error(at(path, 'endPort'), `${last} is below port ${first}`);
    return null;
  }
  return { protocol, first, last };
}

function parsePortName(
  text: string,
  name: string,
  protocol: Protocol,
  fields: Fields,
  path: string,
  context: ParseContext,
): NamedPort | null {
  if (!portName.test(text)) {
    context.error(
      at(path, 'port'),
      `${JSON.stringify(text)} is no name of a port: ${portFix(text)}`,
    );
    return null;
  }
  if (fields['endPort'] !== undefined) {
    context.error(at(path, 'endPort'), 'goes with a number: a named port is no range');
    return null;
  }
  return { protocol, name };
}

export function portFix(text: string): string {
  if (/^[0-9]+$/.test(text)) return `write ${text} without quotes`;
  const [, first, last] = /^([0-9]+)[-:]([0-9]+)$/.exec(text) ?? [];
  if (first !== undefined) return `write port: ${first} and endPort: ${last}`;
  if (text === '*') return 'leave port out for every port';
  if (text.includes(',')) return 'write an item for each';
  return 'write a number, or at most 15 lower-case letters, digits and - with a letter among them';
}
