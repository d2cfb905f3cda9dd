// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Metrics of the node as either process sees it: the kernel's counters and maps, members, exchange, caches. */

import { tdCounterHelp } from '@tandem/datapath/abi.gen';
import type { LearnedSpace } from '@tandem/datapath/learned-spaces';
import type { MetricSample, Metrics } from '@tandem/runtime/metrics';
import type { AdminContext } from '../admin/context.ts';
import type { AdminCounters } from '../admin/service.ts';
import { degradations } from '../admin/status.ts';
import { backlogBytesMax } from '../sync/limits.ts';
import { snakeCase } from './dns-metrics.ts';

/** One reading of the kernel's counters serves all metrics of a scrape. */
const countersAgeMs = 100;
const dropPrefix = 'drop_';
const droppedMetric = 'tandem_datapath_dropped_packets_total';

/** The series of a counter of the datapath as Prometheus names it. */
export function datapathSeries(name: string): string {
  return name.startsWith(dropPrefix)
    ? `${droppedMetric}{reason="${name.slice(dropPrefix.length)}"}`
    : `tandem_datapath_${name}_total`;
}

/** Counters of an object that counts in fields: those that `help` names. */
export function addFields(
  metrics: Metrics,
  prefix: string,
  help: Readonly<Record<string, string>>,
  read: () => object,
): void {
  for (const [field, text] of Object.entries(help)) {
    metrics.counters({ name: `${prefix}_${snakeCase(field)}_total`, help: text }, [], () => [
      { value: Number((read() as Record<string, unknown>)[field] ?? 0) },
    ]);
  }
}

export function addNodeMetrics(
  metrics: Metrics,
  context: AdminContext,
  admin: { readonly counters: AdminCounters; readonly observers: number },
): void {
  addKernelMetrics(metrics, context);
  addLearnedMetrics(metrics, context);
  addMemberMetrics(metrics, context);
  addExchangeMetrics(metrics, context);
  addStoreMetrics(metrics, context);
  metrics.gauge(
    { name: 'tandem_observers', help: 'open observers of events' },
    () => admin.observers,
  );
  addFields(
    metrics,
    'tandem_admin',
    { observersRefused: 'observers refused because of the limit' },
    () => admin.counters,
  );
}

function addKernelMetrics(metrics: Metrics, { kernel, clock }: AdminContext): void {
  let counters: Readonly<Record<string, number>> = {};
  let readMs = -Infinity;
  const read = (): Readonly<Record<string, number>> => {
    const nowMs = clock.monotonicMs();
    if (nowMs - readMs > countersAgeMs) {
      counters = kernel.counters();
      readMs = nowMs;
    }
    return counters;
  };
  // What cannot be read has no sample: a counter that falls to 0 would count twice.
  const valueOf = (
    labels: NonNullable<MetricSample['labels']>,
    name: string,
  ): readonly MetricSample[] => {
    const value = read()[name];
    return value === undefined ? [] : [{ labels, value }];
  };
  const drops = Object.keys(tdCounterHelp).filter((name) => name.startsWith(dropPrefix));
  metrics.counters({ name: droppedMetric, help: 'packets dropped, by reason' }, ['reason'], () =>
    drops.flatMap((name) => valueOf({ reason: name.slice(dropPrefix.length) }, name)),
  );
  for (const [name, help] of Object.entries(tdCounterHelp)) {
    if (name.startsWith(dropPrefix)) continue;
    metrics.counters({ name: datapathSeries(name), help }, [], () => valueOf({}, name));
  }
  const perMap = (of: 'entries' | 'capacity'): readonly MetricSample[] =>
    kernel.mapFill().map((map) => ({ labels: { map: map.name }, value: map[of] }));
  metrics.gauges({ name: 'tandem_map_entries', help: 'entries of a BPF map' }, ['map'], () =>
    perMap('entries'),
  );
  metrics.gauges(
    { name: 'tandem_map_capacity', help: 'entries that a BPF map has room for' },
    ['map'],
    () => perMap('capacity'),
  );
}

/** The pool of offers, pairs that only policies of other namespaces than the asker's want, has an empty label. */
function addLearnedMetrics(metrics: Metrics, { kernel, store }: AdminContext): void {
  const perNamespace = (field: Exclude<keyof LearnedSpace, 'namespaceId'>): MetricSample[] =>
    kernel.learned().map((space) => ({
      labels: {
        namespace: space.namespaceId === 0 ? '' : store.endpoints.namespaceOf(space.namespaceId),
      },
      value: space[field],
    }));
  for (const [field, help] of Object.entries(learnedGauges)) {
    metrics.gauges({ name: `tandem_learned_${field}`, help }, ['namespace'], () =>
      perNamespace(field as keyof typeof learnedGauges),
    );
  }
  for (const [field, help] of Object.entries(learnedCounters)) {
    metrics.counters({ name: `tandem_learned_${field}_total`, help }, ['namespace'], () =>
      perNamespace(field as keyof typeof learnedCounters),
    );
  }
}

const learnedGauges = {
  used: 'learned (address, selector) pairs of a namespace',
  share: 'pairs of a namespace that are never evicted for other namespaces',
  limit: 'limit of pairs of a namespace; at the limit a new pair replaces the oldest',
} as const;
const learnedCounters = {
  replaced: 'pairs evicted for newer pairs of their own namespace',
  yielded:
    'pairs evicted for other namespaces, because their own had more than its share of all places or of those of one address',
  refused: 'pairs refused because there was no room, at all or at their address',
} as const;

function addMemberMetrics(metrics: Metrics, context: AdminContext): void {
  const { kernel } = context;
  const perMember = (
    value: (member: ReturnType<typeof kernel.members>[number]) => number,
  ): readonly MetricSample[] =>
    kernel.members().map((member) => ({ labels: { member: member.role }, value: value(member) }));
  metrics.gauges(
    { name: 'tandem_member_heartbeat_age_seconds', help: 'age of the last heartbeat of a member' },
    ['member'],
    () => perMember(({ beatAgeMs }) => Math.max(0, beatAgeMs) / 1000),
  );
  metrics.gauges(
    { name: 'tandem_member_serving', help: '1 when the member is LIVE and its heartbeat fresh' },
    ['member'],
    () => perMember((member) => (member.isServing ? 1 : 0)),
  );
  metrics.gauges(
    { name: 'tandem_member_policy_revision', help: 'policy revision that the member serves' },
    ['member'],
    () => perMember(({ revision }) => revision),
  );
  metrics.gauge(
    {
      name: 'tandem_policy_required_revision',
      help: 'policy revision that all members must serve',
    },
    () => kernel.requiredRevision(),
  );
  metrics.gauges(
    { name: 'tandem_degraded', help: '1 for each degradation in tandem status, by code' },
    ['code'],
    () =>
      [...new Set(degradations(context).map(({ code }) => code))].map((code) => ({
        labels: { code },
        value: 1,
      })),
  );
}

function addExchangeMetrics(metrics: Metrics, { exchange }: AdminContext): void {
  metrics.gauge(
    { name: 'tandem_exchange_connected', help: '1 while the other process is connected' },
    () => (exchange.isConnected ? 1 : 0),
  );
  metrics.gauge(
    {
      name: 'tandem_exchange_backlog_bytes',
      help: 'size of the records queued for the other process',
    },
    () => exchange.outbox.waitingBytes,
  );
  metrics.gauge(
    {
      name: 'tandem_exchange_backlog_capacity_bytes',
      help: 'size of the records that can be queued for the other process',
    },
    () => backlogBytesMax,
  );
  addFields(
    metrics,
    'tandem_exchange',
    {
      batchesSent: 'batches sent to the other process, those sent again included',
      batchesReceived: 'batches of the other process that were applied',
      batchesRepeated: 'batches of the other process that had been applied before',
      recordsRefused: 'records of the other process that are not well-formed',
      protocolErrors: 'streams closed because the other process violated the protocol',
      eventsLimited: 'events not sent to the other process because of the rate limit',
      peerEventsLost: 'events that the other process could not send to this one',
      peerDropsLost: 'drop events that the other process could not send to this one',
      peerMappingsLost:
        'events with names that the other process could not send to this one; a transfer of its whole cache replaces them',
      cachesReceived: 'transfers of the whole name cache from the other process',
    },
    () => exchange.counters,
  );
  addFields(
    metrics,
    'tandem_exchange',
    {
      eventsLost: 'events not sent to the other process because of any limit',
      mappingsLost:
        'events with names not sent to the other process because of any limit; a transfer of the whole cache replaces them',
      transfers: 'transfers of the whole name cache to the other process',
    },
    () => exchange.outbox,
  );
}

function addStoreMetrics(metrics: Metrics, { store }: AdminContext): void {
  metrics.counters(
    { name: 'tandem_events_total', help: 'DNS and drop events of the node kept for observers' },
    [],
    () => [{ value: store.events.next }],
  );
  metrics.counters(
    { name: 'tandem_events_overwritten_total', help: 'events overwritten by newer ones' },
    [],
    () => [{ value: store.events.first }],
  );
  metrics.gauge(
    { name: 'tandem_fqdn_cache_entries', help: 'addresses of names in the cache' },
    () => store.cache.size,
  );
  metrics.gauge(
    { name: 'tandem_fqdn_cache_names', help: 'names in the cache' },
    () => store.cache.nameCount,
  );
  addFields(
    metrics,
    'tandem_fqdn_cache',
    {
      added: 'mappings (name to address) added',
      extended: 'mappings whose expiry was extended',
      unchanged: 'mappings that changed nothing',
      expired: 'mappings that expired',
      evictedByName: 'oldest addresses evicted because their name was at its limit',
      evictedByNamespace: 'oldest mappings evicted because their namespace was at its limit',
      evictedByFull: 'oldest mappings of the querying namespace evicted because the cache was full',
      evictedByShare:
        'oldest mappings of the namespace with most of them evicted for another one because the cache was full',
      refusedFull: 'mappings refused because the cache was full',
      refusedNamespaces: 'mappings refused because of the limit of namespaces',
    },
    () => store.cache.counters,
  );
}
