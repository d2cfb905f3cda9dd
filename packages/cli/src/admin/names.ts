// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Words for numbers of the admin API, the same in tables and in JSON. */

import type { CodeTable } from '@tandem/core/codes/code';
import type { DnsOutcomeCode } from '@tandem/core/codes/events';
import { dropReasonCodes } from '@tandem/datapath/drop-reasons';
import {
  DnsVerdict,
  EventVerdict,
  MemberRole,
  MemberState,
  Severity,
} from '@tandem/proto/gen/messages';
import type { ProcessName } from './connection.ts';

/** IANA "Resource Record (RR) TYPEs": those that pods ask for. */
const qtypes: Readonly<Record<number, string>> = {
  1: 'A',
  2: 'NS',
  5: 'CNAME',
  6: 'SOA',
  12: 'PTR',
  15: 'MX',
  16: 'TXT',
  28: 'AAAA',
  33: 'SRV',
  35: 'NAPTR',
  43: 'DS',
  46: 'RRSIG',
  48: 'DNSKEY',
  64: 'SVCB',
  65: 'HTTPS',
  252: 'AXFR',
  255: 'ANY',
};

/** IANA "DNS RCODEs". */
const rcodes: Readonly<Record<number, string>> = {
  0: 'NOERROR',
  1: 'FORMERR',
  2: 'SERVFAIL',
  3: 'NXDOMAIN',
  4: 'NOTIMP',
  5: 'REFUSED',
  9: 'NOTAUTH',
  16: 'BADVERS',
  23: 'BADCOOKIE',
};

const protocols: Readonly<Record<number, string>> = {
  1: 'icmp',
  6: 'tcp',
  17: 'udp',
  58: 'icmpv6',
  132: 'sctp',
};

/** enum td_hook of the programs. */
const hooks = [
  'from_pod',
  'to_pod',
  'local-in',
  'post-routing',
  'pre-routing',
  'guard_exit',
] as const;

/** RFC 3597 form for those without a name here. */
export const qtypeName = (qtype: number): string => qtypes[qtype] ?? `TYPE${qtype}`;
export const rcodeName = (rcode: number): string => rcodes[rcode] ?? `RCODE${rcode}`;
export const protocolName = (protocol: number): string =>
  protocols[protocol] ?? `proto-${protocol}`;
export const directionName = (direction: number): 'ingress' | 'egress' =>
  direction === 0 ? 'ingress' : 'egress';
export const hookName = (hook: number): string => hooks[hook] ?? `hook-${hook}`;

export function roleName(role: MemberRole): ProcessName {
  return role === MemberRole.MEMBER_ROLE_AGENT ? 'agent' : 'dns-proxy';
}

export function stateName(state: MemberState): 'none' | 'live' | 'drain' | 'dead' {
  if (state === MemberState.MEMBER_STATE_LIVE) return 'live';
  if (state === MemberState.MEMBER_STATE_DRAIN) return 'drain';
  return state === MemberState.MEMBER_STATE_DEAD ? 'dead' : 'none';
}

export function severityName(severity: Severity): 'warning' | 'error' {
  return severity === Severity.SEVERITY_ERROR ? 'error' : 'warning';
}

export const eventVerdicts = ['allowed', 'denied', 'error', 'audit'] as const;
export type EventVerdictName = (typeof eventVerdicts)[number];

const eventVerdictNumbers: Readonly<Record<EventVerdictName, EventVerdict>> = {
  allowed: EventVerdict.EVENT_VERDICT_ALLOWED,
  denied: EventVerdict.EVENT_VERDICT_DENIED,
  error: EventVerdict.EVENT_VERDICT_ERROR,
  audit: EventVerdict.EVENT_VERDICT_AUDIT,
};

export const eventVerdictNumber = (name: EventVerdictName): EventVerdict =>
  eventVerdictNumbers[name];

export function eventVerdictName(verdict: EventVerdict): EventVerdictName | 'unknown' {
  return eventVerdicts.find((name) => eventVerdictNumbers[name] === verdict) ?? 'unknown';
}

const dnsVerdicts: Readonly<Record<number, DnsOutcomeCode>> = {
  [DnsVerdict.DNS_VERDICT_ALLOWED]: 'allowed',
  [DnsVerdict.DNS_VERDICT_DENIED]: 'denied',
  [DnsVerdict.DNS_VERDICT_TIMEOUT]: 'timeout',
  [DnsVerdict.DNS_VERDICT_UPSTREAM_ERROR]: 'upstream-error',
};

/** Outcome of a query, finer than the verdict of its event. */
export const dnsVerdictName = (verdict: DnsVerdict): DnsOutcomeCode | 'unknown' =>
  dnsVerdicts[verdict] ?? 'unknown';

/** Meaning of a drop reason; empty for a reason of a newer version. */
export function dropReasonHelp(reason: string): string {
  const codes: CodeTable = dropReasonCodes;
  return Object.hasOwn(codes, reason) ? (codes[reason]?.meaning ?? '') : '';
}
