// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * All metrics of agent and DNS proxy, by the code that registers them. Nothing is read: what a metric reads from is
 * asked for at a scrape alone.
 */

import {
  addNetworkMetrics,
  addPolicyMetrics,
  addSnapshotMetrics,
} from '@tandem/agent/agent-metrics';
import { addGateMetrics } from '@tandem/agent/gate/gate-metrics';
import { addRedirectMetrics, type RedirectStack } from '@tandem/agent/redirect/redirect-stack';
import { addKubeMetrics, type KubeFacts } from '@tandem/agent/source/kube-metrics';
import { createSharedCounters } from '@tandem/dns-proxy/counters';
import {
  addMemberMetrics,
  type MemberMetricsOptions,
} from '@tandem/dns-proxy/metrics/member-metrics';
import { type MetricDescription, Metrics } from '@tandem/runtime/metrics';

export interface ProductMetric extends MetricDescription {
  readonly processes: readonly string[];
}

const roles = ['agent', 'dns-proxy'] as const;

/** Sorted by name. */
export function metricsOfProduct(): readonly ProductMetric[] {
  const found = new Map<string, { metric: MetricDescription; processes: string[] }>();
  for (const role of roles) {
    for (const metric of metricsOf(role).describe()) {
      const known = found.get(metric.name);
      if (known === undefined) found.set(metric.name, { metric, processes: [role] });
      else known.processes.push(role);
    }
  }
  return [...found.values()]
    .map(({ metric, processes }) => ({ ...metric, processes }))
    .toSorted((left, right) => (left.name < right.name ? -1 : 1));
}

function metricsOf(role: (typeof roles)[number]): Metrics {
  const metrics = new Metrics();
  const unread: unknown = { role, context: {}, member: { counters: createSharedCounters() } };
  addMemberMetrics(metrics, unread as MemberMetricsOptions);
  if (role === 'dns-proxy') return metrics;
  const nothing = (): object => ({});
  addSnapshotMetrics(metrics, nothing);
  addNetworkMetrics(metrics, nothing);
  addPolicyMetrics(metrics, nothing);
  addGateMetrics(metrics, nothing, { counts: new Float64Array(0), sum: 0 });
  addRedirectMetrics(metrics, {} as unknown as RedirectStack);
  addKubeMetrics(metrics, { lists: [], objectsOf: () => 0 } as unknown as KubeFacts);
  return metrics;
}
