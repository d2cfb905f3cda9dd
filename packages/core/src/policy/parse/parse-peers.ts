// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The L3 part of a rule element. At most one kind of peer list may hold something; an absent list is any
 * peer, a list without items selects no peer (Cilium #6292: it must never mean any peer).
 */

import {
  at,
  type Fields,
  isFields,
  nameOf,
  readFields,
  readList,
  readText,
  readTexts,
} from '../../k8s/shape.ts';
import {
  formatPrefix,
  hostPrefix,
  isIpv4,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixCovers,
} from '../../net/ip.ts';
import { cidrPeer, type Peer, type PeerEntity, peerEntities } from '../model/peer.ts';
import type { ParseContext } from './parse-context.ts';
import { parsePeerSelector } from './parse-selector.ts';

/** Field names of the peer lists of one direction. */
export interface PeerFields {
  readonly endpoints: string;
  readonly cidr: string;
  readonly cidrSet: string;
  readonly entities: string;
  /** L3 kinds that we refuse, and toFQDNs: they count when kinds are combined. */
  readonly others: readonly string[];
}

export const egressPeers: PeerFields = {
  endpoints: 'toEndpoints',
  cidr: 'toCIDR',
  cidrSet: 'toCIDRSet',
  entities: 'toEntities',
  others: ['toFQDNs', 'toServices', 'toGroups', 'toNodes'],
};

export const ingressPeers: PeerFields = {
  endpoints: 'fromEndpoints',
  cidr: 'fromCIDR',
  cidrSet: 'fromCIDRSet',
  entities: 'fromEntities',
  others: ['fromGroups', 'fromNodes'],
};

/** Entities of Cilium's own endpoints, which no address has here. */
const absentEntities: readonly string[] = ['init', 'health', 'ingress', 'unmanaged', 'none'];

/** The peers of one rule element; toFQDNs aside, whose presence makes the rest empty. `isAdmitting`: it allows ingress. */
export function parsePeers(
  fields: Fields,
  names: PeerFields,
  path: string,
  context: ParseContext,
  isAdmitting = false,
): 'any' | readonly Peer[] {
  checkKinds(fields, names, path, context);
  const peers: Peer[] = [];
  for (const [value, itemPath] of items(fields, names.endpoints, path, context)) {
    const selector = parsePeerSelector(value, itemPath, context);
    if (selector !== null) peers.push({ kind: 'labels', selector });
  }
  for (const [value, itemPath] of items(fields, names.cidr, path, context)) {
    const prefix = parseCidr(value, itemPath, context);
    if (prefix !== null) peers.push(cidrPeer(prefix, []));
  }
  for (const [value, itemPath] of items(fields, names.cidrSet, path, context)) {
    const peer = parseCidrRule(value, itemPath, context);
    if (peer !== null) peers.push(peer);
  }
  let isAny = false;
  for (const [value, itemPath] of items(fields, names.entities, path, context)) {
    const entity = parseEntity(value, itemPath, context, isAdmitting);
    if (entity === 'all') isAny = true;
    else if (entity !== null) peers.push({ kind: 'entity', entity });
  }
  const kinds = [names.endpoints, names.cidr, names.cidrSet, names.entities, 'toFQDNs'];
  const isAbsent = kinds.every((name) => fields[name] === undefined);
  return isAny || isAbsent ? 'any' : peers;
}

function checkKinds(fields: Fields, names: PeerFields, path: string, context: ParseContext): void {
  const all = [names.endpoints, names.cidr, names.cidrSet, names.entities, ...names.others];
  const present = all.filter((name) => fields[name] !== undefined);
  const [first, second] = present;
  if (first === undefined || second === undefined) return;
  const filled = present.filter((name) => !isEmptyList(fields[name]));
  if (filled.length >= 2) {
    const [left, right] = filled;
    context.error(path, `combining ${left} and ${right} is not supported: write a rule for each`);
    return;
  }
  const empty = present.find((name) => isEmptyList(fields[name])) ?? second;
  context.error(at(path, empty), 'is empty beside another kind of peer: remove it');
}

function isEmptyList(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}

function items(
  fields: Fields,
  name: string,
  path: string,
  context: ParseContext,
): readonly (readonly [unknown, string])[] {
  if (fields[name] === null) return [];
  const listPath = at(path, name);
  const list = context.take(readList(fields, name, path, context.errors), listPath);
  return list.map((value, index) => [value, `${listPath}[${index}]`] as const);
}

/** toCIDR: an address or a prefix. */
function parseCidr(value: unknown, path: string, context: ParseContext): Prefix | null {
  if (typeof value !== 'string') {
    const fix = isFields(value) ? ': mappings with cidr are for toCIDRSet and fromCIDRSet' : '';
    context.error(path, `is ${nameOf(value)}, but must be an address or a prefix as text${fix}`);
    return null;
  }
  if (value.includes('/')) return parseWholePrefix(value, path, context);
  const address = parseAddress(value);
  if (address === null || (isIpv4(address) && value.includes(':'))) {
    const fix = isNameOfHost(value) ? ': names are for toFQDNs' : '';
    context.error(path, `${JSON.stringify(value)} is neither an IP address nor a prefix${fix}`);
    return null;
  }
  return hostPrefix(address);
}

const isNameOfHost = (text: string): boolean => /^[-a-z0-9.*]+$/i.test(text) && /[a-z]/i.test(text);

/** A prefix, and nothing else. */
export function parseWholePrefix(text: string, path: string, context: ParseContext): Prefix | null {
  const prefix = parsePrefix(text);
  if (prefix === null) {
    const address = parseAddress(text);
    const isName = isNameOfHost(text);
    const form = 'write it like 192.0.2.0/24 or 2001:db8::/32';
    const fix =
      address === null
        ? `${form}${isName ? '; names are for toFQDNs of a CiliumNetworkPolicy' : ''}`
        : `write ${formatPrefix(hostPrefix(address))} for that address alone`;
    context.error(path, `${JSON.stringify(text)} is no prefix: ${fix}`);
  }
  return prefix;
}

function parseCidrRule(value: unknown, path: string, context: ParseContext): Peer | null {
  const before = context.errors.count;
  if (typeof value === 'string') {
    context.error(path, `is ${nameOf(value)}, but must be a mapping: write {cidr: ${value}}`);
    return null;
  }
  const fields = readFields(value, path, context.errors);
  if (fields === null) return null;
  const advice = 'list the prefixes in cidr';
  context.checkFields(fields, path, ['cidr', 'except'], {
    cidrGroupRef: advice,
    cidrGroupSelector: advice,
  });
  const sources = ['cidr', 'cidrGroupRef', 'cidrGroupSelector'];
  const given = sources.filter((name) => fields[name] !== undefined);
  if (given.length !== 1) {
    context.error(path, `must have exactly one of ${sources.join(', ')}, has ${given.length}`);
  }
  const text = readText(fields, 'cidr', path, context.errors);
  const cidr = text === undefined ? null : parseWholePrefix(text, at(path, 'cidr'), context);
  if (cidr === null || context.errors.count !== before) return null;
  return cidrPeer(cidr, parseExcept(fields, path, cidr, context));
}

/** `except` of a CIDR peer: prefixes inside its own. `check` has more to say of each. */
export function parseExcept(
  fields: Fields,
  path: string,
  cidr: Prefix,
  context: ParseContext,
  check: (prefix: Prefix, text: string, path: string) => void = () => {},
): readonly Prefix[] {
  const except: Prefix[] = [];
  const texts = readTexts(fields, 'except', path, context.errors);
  for (const [index, text] of context.take(texts, at(path, 'except')).entries()) {
    const exceptPath = `${path}.except[${index}]`;
    const prefix = parseWholePrefix(text, exceptPath, context);
    if (prefix === null) continue;
    check(prefix, text, exceptPath);
    if (prefixCovers(cidr, prefix)) except.push(prefix);
    else context.error(exceptPath, `${text} is not inside ${formatPrefix(cidr)}`);
  }
  return except;
}

function parseEntity(
  value: unknown,
  path: string,
  context: ParseContext,
  isAdmitting: boolean,
): PeerEntity | 'all' | null {
  if (value === 'all') return 'all';
  const entity = peerEntities.find((name) => name === value);
  if (entity !== undefined) return entity;
  if (typeof value === 'string' && absentEntities.includes(value)) {
    const also =
      isAdmitting && value === 'ingress'
        ? ", so traffic that Cilium's Ingress or Gateway brings is not allowed"
        : '';
    if (value !== 'none') context.warn(path, `entity ${value} matches nothing here${also}`);
    return null;
  }
  const known = ['all', ...peerEntities, ...absentEntities].join(', ');
  const why = value === 'cluster-mesh' ? 'is not supported' : 'is no known entity';
  context.error(path, `${nameOf(value)} ${why}: use one of ${known}`);
  return null;
}
