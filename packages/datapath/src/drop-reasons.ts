// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Drop reasons: the names and meanings of the ABI (`enum td_counter`), with what the operator does about each. */

import type { CodeSeverity, CodeTable } from '@tandem/core/codes/code';
import { tdCounterHelp } from './abi.gen.ts';

/** "drop_no_match", as events have it. Metrics leave out "drop_". */
export type DropReason = Extract<keyof typeof tdCounterHelp, `drop_${string}`>;

const fixes: Readonly<Record<DropReason, readonly [CodeSeverity, string]>> = {
  drop_policy_deny: [
    'info',
    'none if it is intended; else narrow the deny rule that the event names',
  ],
  drop_no_match: [
    'info',
    'none if it is intended; else allow the peer and port. For a name, allow it in rules.dns and in toFQDNs, and resolve it again',
  ],
  drop_fqdn_expired: [
    'info',
    'have the client resolve the name again when its TTL ends, or raise fqdnGraceSeconds',
  ],
  drop_hold: [
    'warning',
    'wait until the policy of a new pod is computed; if it lasts, look for diagnostics of the pod in `tandem status`',
  ],
  drop_unknown_pod: [
    'warning',
    'look for `interface-unknown`, `interface-not-found` and `interface-refused` in `tandem status`',
  ],
  drop_not_redirected: [
    'error',
    'look for `network-rules`, `no-member-serves` and programs ahead of from_pod: `tandem doctor`',
  ],
  drop_spoofed: [
    'warning',
    'have the pod send from its own address and MAC address; a pod that forwards for others is not supported',
  ],
  drop_unverified: [
    'warning',
    'look for a second path to the pod or asymmetric routing; `tandem endpoint list` has the interface of each pod',
  ],
  drop_parse: ['info', 'none; correct the sender of malformed packets'],
  drop_fragment: ['info', 'send DNS queries in one packet, or over TCP'],
  drop_options: ['info', 'send DNS queries without IP options and extension headers'],
  drop_vlan: ['info', 'send untagged frames: VLANs in pods are not supported'],
  drop_ethertype: ['info', 'none: pods may send IPv4, IPv6 and ARP'],
  drop_nd: ['warning', 'find the pod that sends router advertisements or redirects'],
  drop_not_for_pod: ['info', 'look for a wrong route to the interface of the pod'],
  drop_tunnel: ['warning', 'find the pod that sends packets to the overlay network of the nodes'],
  drop_icmp_error: ['info', 'none'],
  drop_port: ['info', 'ask the DNS server, not port P of the node'],
  drop_no_member: ['critical', 'start the agent or the DNS proxy: `tandem status`'],
  drop_no_program: ['critical', 'restart the agent, which fills the slot'],
  drop_connect_rate: [
    'warning',
    'use UDP or keep the connection open for several queries; tcpConnectsPerSecond sets the rate',
  ],
  drop_query_rate: [
    'warning',
    'find the pod that sends so many queries and reduce its lookups, or raise queriesPerSecond',
  ],
};

export const dropReasonCodes: CodeTable<DropReason> = Object.fromEntries(
  Object.entries(fixes).map(([reason, [severity, fix]]) => [
    reason,
    { severity, fix, meaning: tdCounterHelp[reason as DropReason] },
  ]),
) as CodeTable<DropReason>;
