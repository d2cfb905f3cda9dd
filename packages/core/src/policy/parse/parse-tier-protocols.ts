// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `protocols` of a rule of a ClusterNetworkPolicy: ports by number, range or name. */

import {
  at,
  type Fields,
  nameOf,
  readFields,
  readInteger,
  readList,
  readText,
  withoutNulls,
} from '../../k8s/shape.ts';
import { Protocol } from '../model/kernel-numbers.ts';
import type { NamedPort, PortRange } from '../model/rule.ts';
import type { ParseContext } from './parse-context.ts';
import { portFix, portName } from './parse-network-policy.ts';
import type { UnknownItem } from './parse-tier-peer.ts';
import { takeItems } from './tier-items.ts';

export interface TierPorts {
  readonly ranges: 'any' | readonly PortRange[];
  readonly named: readonly NamedPort[];
}

const protocolOf: Readonly<Record<string, Protocol>> = {
  tcp: Protocol.tcp,
  udp: Protocol.udp,
  sctp: Protocol.sctp,
};
const knownFields: readonly string[] = [...Object.keys(protocolOf), 'destinationNamedPort'];
const ofNumber = 'write tcp: {destinationPort: {number: 80}}, udp or sctp';
const ofRange = 'write tcp: {destinationPort: {range: {start: 80, end: 90}}}, udp or sctp';
const icmpFix = 'the API cannot select ICMP, which a rule without protocols includes';
const fixes: Readonly<Record<string, string>> = {
  ...{ portNumber: ofNumber, port: ofNumber, protocol: ofNumber, destinationPort: ofNumber },
  ...{ portRange: ofRange, endPort: ofRange, namedPort: 'write destinationNamedPort' },
  ...{ icmp: icmpFix, ICMP: icmpFix, icmpv4: icmpFix, icmpv6: icmpFix },
  ...{ TCP: 'write tcp', UDP: 'write udp', SCTP: 'write sctp' },
};
const portNumbers = { min: 1, max: 65_535 };

/** Absent: every port of every protocol. */
export function parseProtocols(
  fields: Fields,
  path: string,
  context: ParseContext,
): UnknownItem | TierPorts {
  const listPath = at(path, 'protocols');
  const list = takeItems(readList(fields, 'protocols', path, context.errors), listPath, context);
  if (fields['protocols'] === undefined) return { ranges: 'any', named: [] };
  if (Array.isArray(fields['protocols']) && list.length === 0)
    context.error(listPath, 'is empty: remove it for every port');
  const ranges: PortRange[] = [];
  const named: NamedPort[] = [];
  for (const [index, value] of list.entries()) {
    const parsed = parseProtocol(value, `${listPath}[${index}]`, context);
    if (parsed === null) continue;
    if ('unknown' in parsed) return parsed;
    if ('first' in parsed) ranges.push(parsed);
    else named.push(...parsed.named);
  }
  return { ranges, named };
}

type Parsed = PortRange | { readonly named: readonly NamedPort[] } | UnknownItem | null;

function parseProtocol(value: unknown, path: string, context: ParseContext): Parsed {
  if (typeof value === 'string' || typeof value === 'number') {
    context.error(path, `is ${nameOf(value)}, but must be a mapping: ${ofNumber}`);
    return null;
  }
  const read = readFields(value, path, context.errors);
  if (read === null) return null;
  const fields = withoutNulls(read, knownFields);
  const [field, other] = Object.keys(fields);
  const unknown = unknownOf(fields, knownFields, path, ofNumber);
  if (field === undefined || unknown !== null) return unknown;
  if (other !== undefined) {
    context.error(path, `has ${field} and ${other}: write an item for each`);
    return null;
  }
  if (field === 'destinationNamedPort') return parseName(fields, path, context);
  return parseTransport(fields[field], protocolOf[field] as Protocol, at(path, field), context);
}

/** Without a field, or with one that is not known. Null: all are known. */
function unknownOf(
  fields: Fields,
  known: readonly string[],
  path: string,
  usual: string,
): UnknownItem | null {
  const given = Object.keys(fields);
  const other = given.find((field) => !known.includes(field));
  if (other !== undefined) {
    const fix = (Object.hasOwn(fixes, other) ? fixes[other] : undefined) ?? usual;
    return { path: at(path, other), unknown: 'is no field that this version enforces', fix };
  }
  if (given.length > 0) return null;
  const unknown = 'has no field, or one that the definition in the cluster does not have';
  return { path, unknown, fix: usual };
}

function parseTransport(
  value: unknown,
  protocol: Protocol,
  path: string,
  context: ParseContext,
): Parsed {
  const read = readFields(value, path, context.errors);
  if (read === null) return null;
  const fields = withoutNulls(read, ['destinationPort']);
  const unknown = unknownOf(fields, ['destinationPort'], path, ofNumber);
  if (unknown !== null) return unknown;
  const portPath = at(path, 'destinationPort');
  const { destinationPort } = fields;
  if (typeof destinationPort === 'number') {
    const fix = `write {number: ${destinationPort}}`;
    context.error(portPath, `is ${nameOf(destinationPort)}, but must be a mapping: ${fix}`);
    return null;
  }
  const given = readFields(destinationPort, portPath, context.errors);
  if (given === null) return null;
  const port = withoutNulls(given, ['number', 'range']);
  const unknownPort = unknownOf(port, ['number', 'range'], portPath, ofNumber);
  if (unknownPort !== null) return unknownPort;
  if (port['range'] === undefined) {
    const number = readInteger(port, 'number', portPath, portNumbers, context.errors);
    return number === undefined ? null : { protocol, first: number, last: number };
  }
  if (port['number'] !== undefined) {
    context.error(portPath, 'has number and range: write an item for each');
    return null;
  }
  return parseRange(port['range'], protocol, at(portPath, 'range'), context);
}

function parseRange(
  value: unknown,
  protocol: Protocol,
  path: string,
  context: ParseContext,
): PortRange | null {
  const read = readFields(value, path, context.errors);
  if (read === null) return null;
  const fields = context.presentFields(read, path, ['start', 'end']);
  const first = readInteger(fields, 'start', path, portNumbers, context.errors);
  const last = readInteger(fields, 'end', path, portNumbers, context.errors);
  for (const field of ['start', 'end']) {
    if (fields[field] === undefined) context.error(at(path, field), 'is missing: give a port');
  }
  if (first === undefined || last === undefined) return null;
  if (last <= first) {
    context.error(path, `must end above its start: for port ${first} alone write number: ${first}`);
    return null;
  }
  return { protocol, first, last };
}

/** The protocol is the one with which a pod has the name. */
function parseName(fields: Fields, path: string, context: ParseContext): Parsed {
  const text = readText(fields, 'destinationNamedPort', path, context.errors);
  if (text === undefined) return null;
  if (!portName.test(text)) {
    const message = `${JSON.stringify(text)} is no name of a port: ${nameFix(text)}`;
    context.error(at(path, 'destinationNamedPort'), message);
    return null;
  }
  const named = Object.entries(protocolOf).map(([name, protocol]) => ({
    protocol,
    name: `${name.toUpperCase()}/${text}`,
  }));
  return { named };
}

function nameFix(text: string): string {
  return /^[0-9]+$/.test(text) ? `write tcp: {destinationPort: {number: ${text}}}` : portFix(text);
}
