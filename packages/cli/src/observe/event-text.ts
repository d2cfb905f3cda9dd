// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** An event of the node as one line for people and as one JSON document. */

import type { LostEventCode } from '@tandem/core/codes/events';
import { nameToText } from '@tandem/core/dns/name';
import { formatAddress } from '@tandem/core/net/ip';
import { memberName } from '@tandem/datapath/member';
import type { DnsEvent, DropEvent, LostEvents, ObserveResponse } from '@tandem/proto/gen/messages';
import {
  directionName,
  dnsVerdictName,
  dropReasonHelp,
  type EventVerdictName,
  eventVerdictName,
  hookName,
  protocolName,
  qtypeName,
  rcodeName,
} from '../admin/names.ts';
import type { Style, Text } from '../output/printer.ts';
import { formatDuration } from '../output/quantities.ts';

const verdictStyles: Readonly<Record<EventVerdictName | 'unknown', Style>> = {
  allowed: 'good',
  denied: 'bad',
  error: 'warning',
  audit: 'warning',
  unknown: 'dim',
};

/** An address of the other side, which may have sent none. */
const address = (bytes: Uint8Array): string => (bytes.length === 16 ? formatAddress(bytes) : '');
const name = (wire: Uint8Array): string => (wire.length === 0 ? '' : nameToText(wire));
const time = (event: ObserveResponse): string => {
  const date = new Date(event.timeUnixMs);
  return Number.isNaN(date.getTime()) ? '-' : date.toISOString();
};

/** "10.1.0.11:53", "[fd00::1]:53", or the address alone for protocols without ports. */
function endPoint(bytes: Uint8Array, port: number, protocol: number): string {
  const text = address(bytes);
  if (protocol !== 6 && protocol !== 17 && port === 0) return text;
  return text.includes(':') ? `[${text}]:${port}` : `${text}:${port}`;
}

/** TIME TYPE VERDICT POD and what happened. */
export function eventLine(event: ObserveResponse): readonly Text[] {
  if (event.lostEvents !== null) return [`${time(event)}  lost  `, lossText(event.lostEvents)];
  const verdict = eventVerdictName(event.verdict);
  const type = event.dns === null ? 'drop' : 'dns';
  const what =
    event.dns !== null
      ? dnsText(event.dns)
      : event.drop !== null
        ? dropText(event.drop, event)
        : '';
  return [
    `${time(event)}  ${type.padEnd(4)}  `,
    { text: verdict.padEnd(7), style: verdictStyles[verdict] },
    `  ${event.pod || '-'}  ${what}`,
  ];
}

const lossTexts: Readonly<Record<LostEventCode, string>> = {
  'ring-full': 'drop events, because the ring buffer was full',
  'rate-limit': 'drop events, over the rate that the kernel reports',
  'not-told': 'events that the other process could not send',
};

function lossText({ count, reason }: LostEvents): Text {
  const texts: Readonly<Record<string, string>> = lossTexts;
  return { text: `${count} ${texts[reason] ?? `events (${reason})`}`, style: 'warning' };
}

function dnsText(dns: DnsEvent): string {
  const question = `${qtypeName(dns.qtype)} ${name(dns.name) || '<no name>'}`;
  const verdict = dnsVerdictName(dns.verdict);
  const isPlain = verdict === 'allowed' || verdict === 'denied';
  const outcome = isPlain ? rcodeName(dns.rcode) : `${verdict} ${rcodeName(dns.rcode)}`;
  const more = dns.addressCount - dns.addresses.length;
  const addresses =
    dns.addresses.length === 0
      ? ''
      : ` ${dns.addresses.map(address).join(',')}${more > 0 ? ` (+${more})` : ''} for ${dns.lifetimeS} s`;
  const way = `${protocolName(dns.protocol)} ${address(dns.server)}`;
  const replayed = dns.replayed ? ', replayed' : '';
  return `${question} -> ${outcome}${addresses} (${way}, ${formatDuration(dns.latencyUs / 1000)}, ${memberName(dns.member)}${replayed})`;
}

function dropText(drop: DropEvent, event: ObserveResponse): string {
  const { protocol } = drop;
  const source = endPoint(drop.source, drop.sourcePort, protocol);
  const destination = endPoint(drop.destination, drop.destinationPort, protocol);
  const original =
    drop.originalDestination.length === 16
      ? ` (was ${endPoint(drop.originalDestination, drop.originalDestinationPort, protocol)})`
      : '';
  const names = event.peerNames.map(name).filter((text) => text !== '');
  const peers = [event.peerPod, ...names].filter((text) => text !== '');
  const peer = peers.length === 0 ? '' : ` [${peers.join(', ')}]`;
  const help = dropReasonHelp(event.dropReason);
  const reason = help === '' ? event.dropReason : `${event.dropReason}: ${help}`;
  const tier = event.ruleTier === '' ? '' : ` (${event.ruleTier})`;
  const rule = event.rule === '' ? '' : `, rule ${event.rule}${tier}`;
  return `${directionName(drop.direction)} ${protocolName(protocol)} ${source} -> ${destination}${original}${peer} ${reason}${rule} (${hookName(drop.hook)})`;
}

/** Fields are only ever added. Absent facts are null or empty. */
export function eventJson(event: ObserveResponse): object {
  if (event.lostEvents !== null) {
    const { count, reason } = event.lostEvents;
    return { time: time(event), type: 'lost', count, reason, lost: event.lost };
  }
  const common = {
    time: time(event),
    type: event.dns === null ? 'drop' : 'dns',
    verdict: eventVerdictName(event.verdict),
    pod: event.pod || null,
    lost: event.lost,
  };
  if (event.dns !== null) return { ...common, ...dnsJson(event.dns) };
  if (event.drop !== null) return { ...common, ...dropJson(event.drop, event) };
  return common;
}

function dnsJson(dns: DnsEvent): object {
  return {
    name: name(dns.name) || null,
    queryType: qtypeName(dns.qtype),
    outcome: dnsVerdictName(dns.verdict),
    rcode: rcodeName(dns.rcode),
    source: address(dns.source) || null,
    server: address(dns.server) || null,
    protocol: protocolName(dns.protocol),
    addresses: dns.addresses.map(address),
    addressCount: dns.addressCount,
    lifetimeSeconds: dns.lifetimeS,
    latencyUs: dns.latencyUs,
    member: memberName(dns.member),
    endpointId: dns.endpointId,
    replayed: dns.replayed,
  };
}

function dropJson(drop: DropEvent, event: ObserveResponse): object {
  return {
    direction: directionName(drop.direction),
    protocol: protocolName(drop.protocol),
    source: address(drop.source) || null,
    sourcePort: drop.sourcePort,
    destination: address(drop.destination) || null,
    destinationPort: drop.destinationPort,
    originalDestination: address(drop.originalDestination) || null,
    originalDestinationPort: drop.originalDestinationPort,
    reason: event.dropReason,
    hook: hookName(drop.hook),
    peerPod: event.peerPod || null,
    peerNames: event.peerNames.map(name),
    endpointId: drop.endpointId,
    peerClass: drop.peerClass,
    ruleId: drop.ruleId,
    rule: event.rule || null,
    ruleTier: event.ruleTier || null,
    ifindex: drop.ifindex,
  };
}
