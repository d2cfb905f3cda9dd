// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Outcomes of DNS queries, and reasons for lost events, as `tandem observe` prints them. Drop reasons belong to the ABI: `datapath/drop-reasons`. */

import type { CodeTable } from './code.ts';

/** `outcome` of a DNS event. */
const dnsOutcomeRows = {
  allowed: {
    severity: 'info',
    meaning: 'policy allows the query, and the DNS server answered',
    fix: 'none',
  },
  denied: {
    severity: 'info',
    meaning:
      'no pattern of rules.dns matches the name: the pod gets REFUSED (or NXDOMAIN, see the option denial)',
    fix: 'add the name to rules.dns of a policy of the pod, if it should be allowed; names with suffixes of a search list are denied too, and harmless',
  },
  timeout: {
    severity: 'error',
    meaning: 'the DNS server that the pod asked did not answer in time',
    fix: 'check that server and the network to it',
  },
  'upstream-error': {
    severity: 'error',
    meaning:
      'the DNS server that the pod asked cannot be reached (ICMP error, refused or reset connection): the pod gets SERVFAIL',
    fix: 'check that server and the network to it',
  },
} as const;
export type DnsOutcomeCode = keyof typeof dnsOutcomeRows;
export const dnsOutcomeCodes: CodeTable<DnsOutcomeCode> = dnsOutcomeRows;

/** `reason` of a line `lost`. */
const lostEventRows = {
  'ring-full': {
    severity: 'info',
    meaning:
      'drop events found the ring buffer full, because no process read it or there were too many; packets are dropped and counted nevertheless',
    fix: 'start the process that is missing; look for many drops in tandem_datapath_dropped_packets_total',
  },
  'rate-limit': {
    severity: 'info',
    meaning:
      'drop events exceeded the rate that the kernel reports on a CPU (250 a second of one pod, 2000 of all); packets are dropped and counted nevertheless',
    fix: 'none; tandem_datapath_dropped_packets_total has the packets by reason',
  },
  'not-told': {
    severity: 'info',
    meaning:
      'the other process could not send events: they exceeded its rate, or its backlog was full',
    fix: 'none; the other process has them in its own list',
  },
} as const;
export type LostEventCode = keyof typeof lostEventRows;
export const lostEventCodes: CodeTable<LostEventCode> = lostEventRows;

const queryVerdictRows = {
  allowed: {
    severity: 'info',
    meaning: 'policy allows the query',
    fix: 'none',
  },
  denied: {
    severity: 'info',
    meaning: 'no pattern of rules.dns matches the name',
    fix: 'add the name to rules.dns of a policy of the pod, if it should be allowed',
  },
  malformed: {
    severity: 'warning',
    meaning:
      'the message is not a well-formed query with one question: the pod gets FORMERR or NOTIMP',
    fix: 'correct the DNS client in the pod',
  },
  'no-query': {
    severity: 'warning',
    meaning: 'the packet is not a DNS query: it is dropped',
    fix: 'find the program in the pod that sends other packets to port 53',
  },
  'unknown-source': {
    severity: 'warning',
    meaning: 'the source address belongs to no endpoint of this member: the query is dropped',
    fix: 'if it lasts, check that the agent runs and look for `policy-behind` in `tandem status`',
  },
  'unknown-policy': {
    severity: 'warning',
    meaning: 'this member does not have the policy of the pod yet: the pod gets SERVFAIL',
    fix: 'if it lasts, look for `policy-behind` and `no-policy` in `tandem status`',
  },
  'unknown-server': {
    severity: 'warning',
    meaning:
      "the programs steer the pod's queries to a member whose policy does not have this server as one of a DNS rule: the pod gets SERVFAIL. Queries to servers that no DNS rule names are not steered",
    fix: 'if it lasts, look for `policy-behind` in `tandem status`',
  },
  'over-in-flight': {
    severity: 'error',
    meaning: 'the node has too many queries in flight: the pod gets SERVFAIL',
    fix: 'check why DNS servers answer slowly',
  },
  'over-endpoint-rate': {
    severity: 'warning',
    meaning: 'the pod exceeds queriesPerSecond: it gets SERVFAIL',
    fix: 'reduce its lookups (a search list multiplies them), or raise queriesPerSecond',
  },
  'over-endpoint-in-flight': {
    severity: 'warning',
    meaning: 'the pod has too many queries in flight: it gets SERVFAIL',
    fix: 'check why the DNS servers of the pod answer slowly',
  },
  'over-policy-in-flight': {
    severity: 'warning',
    meaning: 'the pods of one policy have too many queries in flight: they get SERVFAIL',
    fix: 'check why their DNS servers answer slowly',
  },
  'over-owners': {
    severity: 'error',
    meaning: 'the limiter has no free slot for the pod: it gets SERVFAIL',
    fix: 'run fewer pods on the node',
  },
  'over-upstream-servers': {
    severity: 'warning',
    meaning:
      'the pod, its policy or the node asks too many different DNS servers at a time: it gets SERVFAIL',
    fix: 'let pods ask the DNS server of the cluster; narrow DNS rules for any server',
  },
  'over-upstream-sockets': {
    severity: 'error',
    meaning: 'no socket to the DNS server could be opened: the pod gets SERVFAIL',
    fix: 'raise the limit of open files of the process; check its log',
  },
  'server-unreachable': {
    severity: 'error',
    meaning:
      'only ICMP errors come from the server, at least three in a row, the last one within 2 s: the pod gets SERVFAIL',
    fix: 'check that server and the network to it',
  },
} as const;
/** Label `verdict` of `tandem_dns_queries_total`. */
export type QueryVerdictCode = keyof typeof queryVerdictRows;
export const queryVerdictCodes: CodeTable<QueryVerdictCode> = queryVerdictRows;
