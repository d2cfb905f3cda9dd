// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The DNS worker's counters, read from the memory that it counts in. */

import type { QueryVerdictCode } from '@tandem/core/codes/events';
import type { Metrics } from '@tandem/runtime/metrics';
import {
  type CounterName,
  counter,
  counterHelp,
  counterNames,
  latencyBucketsUs,
  latencyOffset,
  latencySumIndex,
  queuedBytesIndex,
  queuedHeavyBytesIndex,
} from '../counters.ts';

/** Verdicts of queries: one metric, so that its rates add up. */
const verdicts: Partial<Record<CounterName, QueryVerdictCode>> = {
  allowed: 'allowed',
  denied: 'denied',
  formatErrors: 'malformed',
  droppedMalformed: 'no-query',
  unknownSource: 'unknown-source',
  unknownPolicy: 'unknown-policy',
  unknownServer: 'unknown-server',
  refusedSlots: 'over-in-flight',
  refusedEndpointRate: 'over-endpoint-rate',
  refusedEndpointInFlight: 'over-endpoint-in-flight',
  refusedPolicyInFlight: 'over-policy-in-flight',
  refusedOwners: 'over-owners',
  refusedUpstreamServers: 'over-upstream-servers',
  refusedUpstreamSockets: 'over-upstream-sockets',
  refusedServerDown: 'server-unreachable',
};
const protocols: Partial<Record<CounterName, string>> = { queriesUdp: 'udp', queriesTcp: 'tcp' };

/** `camelCase` as metrics are named. */
export function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

const queriesMetric = 'tandem_dns_queries_total';
const receivedMetric = 'tandem_dns_received_total';

/** The series of a counter as Prometheus names it, without the label `member`. */
export function dnsSeries(name: CounterName): string {
  const verdict = verdicts[name];
  if (verdict !== undefined) return `${queriesMetric}{verdict="${verdict}"}`;
  const protocol = protocols[name];
  if (protocol !== undefined) return `${receivedMetric}{protocol="${protocol}"}`;
  return `tandem_dns_${snakeCase(name)}_total`;
}

/** `role`: label `member` of every series. */
export function addDnsMetrics(metrics: Metrics, counters: Float64Array, role: string): void {
  addGroup(metrics, counters, role, 'verdict', verdicts, {
    name: queriesMetric,
    help: 'queries by verdict',
  });
  addGroup(metrics, counters, role, 'protocol', protocols, {
    name: receivedMetric,
    help: 'queries received',
  });
  for (const name of counterNames) {
    if (verdicts[name] !== undefined || protocols[name] !== undefined) continue;
    metrics.arrayCounter({ name: dnsSeries(name), help: counterHelp[name] }, counters, [
      { labels: { member: role }, index: counter[name] },
    ]);
  }
  metrics.gauges(
    {
      name: 'tandem_dns_queued_bytes',
      help: 'octets that wait in the receive buffers of the UDP listeners, with the overhead of the kernel, read every second; lane light: of pods that ask little',
    },
    ['member', 'lane'],
    () => [
      { labels: { member: role, lane: 'light' }, value: counters[queuedBytesIndex]! },
      { labels: { member: role, lane: 'heavy' }, value: counters[queuedHeavyBytesIndex]! },
    ],
  );
  metrics.arrayHistogram({
    name: 'tandem_dns_latency_seconds',
    help: 'time from receiving an allowed query to its reply',
    bounds: latencyBucketsUs.map((us) => us / 1e6),
    counts: counters,
    offset: latencyOffset,
    sum: () => counters[latencySumIndex]! / 1e6,
    labels: { member: role },
  });
}

function addGroup(
  metrics: Metrics,
  counters: Float64Array,
  role: string,
  label: string,
  values: Partial<Record<CounterName, string>>,
  spec: { readonly name: string; readonly help: string },
): void {
  const series = counterNames.flatMap((name) => {
    const value = values[name];
    return value === undefined
      ? []
      : [{ labels: { member: role, [label]: value }, index: counter[name] }];
  });
  metrics.arrayCounter(spec, counters, series);
}
