// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The L4 and L7 part of a rule element: toPorts with rules.dns. A named port is refused: it would mean a
 * different number for each peer.
 *
 * Source: Cilium pkg/policy/api/rule_validation.go, pkg/policy/api/l4.go.
 */

import {
  at,
  type Fields,
  readFields,
  readInteger,
  readList,
  readRequiredText,
  readText,
} from '../../k8s/shape.ts';
import { portsPerRuleMax } from '../../limits.ts';
import { Protocol } from '../model/kernel-numbers.ts';
import type { DnsNames, PortRange, PortRule } from '../model/rule.ts';
import type { ParseContext } from './parse-context.ts';
import { parseDnsNames } from './parse-names.ts';

const portMax = 65_535;
const transport: Readonly<Record<string, readonly Protocol[]>> = {
  TCP: [Protocol.tcp],
  UDP: [Protocol.udp],
  SCTP: [Protocol.sctp],
  ANY: [Protocol.tcp, Protocol.udp, Protocol.sctp],
  '': [Protocol.tcp, Protocol.udp, Protocol.sctp],
};

const inPorts = 'it belongs to an item of ports';
const underRules = 'put it under rules';
/** Fields of an item of ports, or of rules, beside these. */
const misplacedFields = {
  ...{ port: inPorts, endPort: inPorts, protocol: inPorts },
  ...{ dns: underRules, http: underRules },
};
const unsupportedPortFields = {
  ...misplacedFields,
  terminatingTLS: 'TLS is not terminated here',
  originatingTLS: 'TLS is not originated here',
  serverNames: 'TLS is not read: remove it, and on egress name the host in toFQDNs',
  listener: 'there is no Envoy here',
};

/** Section of the rule: DNS rules stand in `egress` only, deny rules have ports only. */
export type PortSection = 'ingress' | 'ingressDeny' | 'egress' | 'egressDeny';

/** toPorts of one element; 'any' when absent or empty, as in Cilium. */
export function parsePorts(
  fields: Fields,
  section: PortSection,
  path: string,
  context: ParseContext,
): 'any' | readonly PortRule[] {
  if (fields['toPorts'] === undefined || fields['toPorts'] === null) return 'any';
  const listPath = at(path, 'toPorts');
  const list = context.take(readList(fields, 'toPorts', path, context.errors), listPath);
  if (list.length === 0) return 'any';
  const rules: PortRule[] = [];
  for (const [index, value] of list.entries()) {
    const rule = parsePortRule(value, section, `${listPath}[${index}]`, context);
    if (rule !== null) rules.push(rule);
  }
  return rules;
}

function parsePortRule(
  value: unknown,
  section: PortSection,
  path: string,
  context: ParseContext,
): PortRule | null {
  const fields = readFields(value, path, context.errors);
  if (fields === null) return null;
  const isDeny = section === 'ingressDeny' || section === 'egressDeny';
  const deny = 'a deny rule can name ports only';
  const unsupported = isDeny
    ? {
        ...misplacedFields,
        rules: deny,
        terminatingTLS: deny,
        originatingTLS: deny,
        serverNames: deny,
        listener: deny,
      }
    : unsupportedPortFields;
  context.checkFields(fields, path, isDeny ? ['ports'] : ['ports', 'rules'], unsupported);
  const dns = isDeny ? null : parseLayer7(fields, section, path, context);
  const listPath = at(path, 'ports');
  const list = fields['ports'] === null ? [] : readList(fields, 'ports', path, context.errors);
  if (list.length === 0) {
    const what = dns === null ? 'names no port: list ports' : 'must name a port for DNS rules';
    context.error(listPath, `${what}, or remove the element`);
    return null;
  }
  if (list.length > portsPerRuleMax) {
    context.error(listPath, `has ${list.length} ports, at most ${portsPerRuleMax} are possible`);
    return null;
  }
  const ports: PortRange[] = [];
  for (const [index, port] of context.take(list, listPath).entries()) {
    ports.push(...parsePort(port, dns !== null, `${listPath}[${index}]`, context));
  }
  return { ports, dns };
}

function parsePort(
  value: unknown,
  hasDns: boolean,
  path: string,
  context: ParseContext,
): readonly PortRange[] {
  const fields = readFields(value, path, context.errors);
  if (fields === null) return [];
  context.checkFields(fields, path, ['port', 'endPort', 'protocol']);
  const protocols = parseProtocol(fields, hasDns, path, context);
  const port = parsePortNumber(fields, path, context);
  const range = { min: 0, max: portMax };
  const endPort = readInteger(fields, 'endPort', path, range, context.errors) ?? 0;
  if (port === null) return [];
  if (hasDns && port === 0) context.error(at(path, 'port'), 'must not be 0 for DNS rules');
  if (hasDns && endPort > port) {
    context.error(at(path, 'endPort'), 'DNS rules do not support port ranges: list the ports');
  }
  if (endPort !== 0 && (port === 0 || endPort < port)) {
    context.error(at(path, 'endPort'), `${endPort} must not be below port, which must not be 0`);
    return [];
  }
  const isWildcard = port === 0;
  return protocols.map((protocol) => ({
    protocol,
    first: port,
    last: isWildcard ? portMax : Math.max(port, endPort),
  }));
}

function parsePortNumber(fields: Fields, path: string, context: ParseContext): number | null {
  const before = context.errors.count;
  const text = readRequiredText(fields, 'port', path, context.errors);
  if (context.errors.count !== before) return null;
  if (/^(0|[1-9][0-9]{0,4})$/.test(text) && Number(text) <= portMax) return Number(text);
  const isName = /[a-zA-Z]/.test(text);
  context.error(
    at(path, 'port'),
    isName
      ? `named port ${JSON.stringify(text)} is not supported: write its number`
      : `${JSON.stringify(text)} is no port number: ${portFix(text)}`,
  );
  return null;
}

function portFix(text: string): string {
  const [, first, last] = /^([0-9]+)\s*[-:]\s*([0-9]+)$/.exec(text) ?? [];
  if (first !== undefined) return `write port: "${first}" and endPort: ${last}`;
  if (text.includes(',')) return 'write an item for each';
  return text === '*'
    ? 'write "0" for every port'
    : `write one of 0 to ${portMax} without leading zeros`;
}

function parseProtocol(
  fields: Fields,
  hasDns: boolean,
  path: string,
  context: ParseContext,
): readonly Protocol[] {
  const written = readText(fields, 'protocol', path, context.errors) ?? '';
  const text = written.toUpperCase();
  const protocols = Object.hasOwn(transport, text) ? transport[text] : undefined;
  if (protocols === undefined) {
    const fix = text.startsWith('ICMP')
      ? 'ICMP rules are not supported'
      : 'use TCP, UDP, SCTP or ANY';
    context.error(at(path, 'protocol'), `${JSON.stringify(text)} is no protocol here: ${fix}`);
    return [];
  }
  if (written !== text) {
    const message = `${JSON.stringify(written)} is refused by an API server: write ${text}`;
    context.warn(at(path, 'protocol'), message);
  }
  if (!hasDns) return protocols;
  if (text === 'SCTP') context.error(at(path, 'protocol'), 'DNS rules are for TCP, UDP or ANY');
  return protocols.filter((protocol) => protocol !== Protocol.sctp);
}

/** The DNS names of `rules`; null for plain L4. */
function parseLayer7(
  fields: Fields,
  section: PortSection,
  path: string,
  context: ParseContext,
): DnsNames | null {
  if (fields['rules'] === undefined || fields['rules'] === null) return null;
  const rulesPath = at(path, 'rules');
  const rules = readFields(fields['rules'], rulesPath, context.errors);
  if (rules === null) return null;
  const advice =
    'DNS is the only L7 protocol that is filtered: remove rules, and the port is allowed whole';
  context.checkFields(rules, rulesPath, ['dns'], {
    http: advice,
    kafka: advice,
    l7: advice,
    l7proto: advice,
  });
  const kinds = ['dns', 'http', 'kafka', 'l7proto'].filter((kind) => rules[kind] !== undefined);
  if (kinds.length > 1) {
    context.error(rulesPath, `has ${kinds.join(' and ')}, but one L7 protocol is possible`);
  }
  if (rules['dns'] === undefined || rules['dns'] === null) return null;
  if (section !== 'egress') {
    context.error(at(rulesPath, 'dns'), 'DNS rules are not allowed on ingress');
  }
  return parseDnsNames(rules, rulesPath, context);
}
