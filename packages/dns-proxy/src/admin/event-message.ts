// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A stored event as an observer gets it. */

import { TD_EGRESS } from '@tandem/datapath/abi.gen';
import { DnsVerdict, type ObserveResponseInit } from '@tandem/proto/gen/messages';
import { boottimeToWallMs, type Clock } from '@tandem/runtime/system-clock';
import { decodeDnsEvent, dnsVerdict } from '../records/dns-event.ts';
import { decodeDrop, dropReasonName } from '../records/drop-event.ts';
import { decodeLoss, lossReasonOf } from '../records/loss-record.ts';
import { eventKindDns, eventKindLoss } from '../store/event-store.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { PeerNames } from '../store/peer-names.ts';
import type { AdminContext } from './context.ts';
import { dnsEventVerdict, dropEventVerdict } from './event-filter.ts';

const verdicts: Readonly<Record<number, DnsVerdict>> = {
  [dnsVerdict.allowed]: DnsVerdict.DNS_VERDICT_ALLOWED,
  [dnsVerdict.denied]: DnsVerdict.DNS_VERDICT_DENIED,
  [dnsVerdict.timeout]: DnsVerdict.DNS_VERDICT_TIMEOUT,
  [dnsVerdict.failed]: DnsVerdict.DNS_VERDICT_UPSTREAM_ERROR,
};

/** Sources of the fields that a record lacks: names of pods and peers, wall time, rules. */
export interface EventSurroundings {
  readonly store: NodeStore;
  readonly names: PeerNames;
  readonly clock: Clock;
  readonly ruleOf: AdminContext['ruleOf'];
}

/** Null: the record is none of ours. */
export function eventMessage(
  { store, names, clock, ruleOf }: EventSurroundings,
  event: number,
): ObserveResponseInit | null {
  const { events } = store;
  const at = events.offsetOf(event);
  const kind = events.kindOf(event);
  if (kind === eventKindLoss) return lossMessage(store, at, clock);
  return kind === eventKindDns
    ? dnsMessage(store, at, clock)
    : dropMessage(store, at, names, clock, ruleOf);
}

function lossMessage(store: NodeStore, at: number, clock: Clock): ObserveResponseInit | null {
  const reason = lossReasonOf(store.events.bytes, at);
  if (reason === null) return null;
  const { timeNs, count } = decodeLoss(store.events.bytes, at, reason);
  return { timeUnixMs: wallMs(clock, timeNs), lostEvents: { timeNs, count, reason } };
}

function dnsMessage(store: NodeStore, at: number, clock: Clock): ObserveResponseInit | null {
  const event = decodeDnsEvent(store.events.bytes, at);
  if (event === null) return null;
  const timeNs = Math.round(event.timeUs * 1000);
  const expires = event.addresses.map((entry) => entry.expires);
  const lifetime = expires.length === 0 ? 0 : Math.min(...expires) - Math.floor(event.timeUs / 1e6);
  return {
    timeUnixMs: wallMs(clock, timeNs),
    pod: store.endpoints.podOf(event.endpointId),
    peerPod: store.endpoints.podAt(event.server),
    verdict: dnsEventVerdict(event.verdict),
    dns: {
      timeNs,
      member: event.member,
      endpointId: event.endpointId,
      source: event.client,
      name: event.name,
      qtype: event.qtype,
      rcode: event.rcode,
      verdict: verdicts[event.verdict] ?? DnsVerdict.DNS_VERDICT_UNSPECIFIED,
      server: event.server,
      protocol: event.protocol,
      latencyUs: event.latencyUs,
      addresses: event.addresses.map(({ address }) => address),
      addressCount: event.addresses.length,
      lifetimeS: Math.max(0, lifetime),
    },
  };
}

function dropMessage(
  store: NodeStore,
  at: number,
  names: PeerNames,
  clock: Clock,
  ruleOf: AdminContext['ruleOf'],
): ObserveResponseInit {
  const drop = decodeDrop(store.events.bytes, at);
  const peer = drop.direction === TD_EGRESS ? drop.destination : drop.source;
  const own = drop.direction === TD_EGRESS ? drop.source : drop.destination;
  const rule = drop.ruleId === 0 ? undefined : ruleOf(drop.ruleId);
  return {
    timeUnixMs: wallMs(clock, drop.timeNs),
    pod: store.endpoints.podOf(drop.endpointId) || store.endpoints.podAt(own),
    peerPod: store.endpoints.podAt(peer),
    verdict: dropEventVerdict(drop.verdict),
    drop,
    dropReason: dropReasonName(drop.reason),
    peerNames: [...names.of(peer)],
    rule: rule?.text ?? '',
    ruleTier: rule?.tier ?? '',
  };
}

function wallMs(clock: Clock, timeNs: number): number {
  return Math.max(0, Math.round(boottimeToWallMs(clock, timeNs)));
}
