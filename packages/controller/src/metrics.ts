// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Metrics of the controller. Those of the leader's work are absent while it does not lead. */

import type { MetricSample, Metrics } from '@tandem/runtime/metrics';
import {
  type DefinitionKeeper,
  type DefinitionState,
  definitionStates,
} from './definition-keeper.ts';
import type { Lease } from './lease.ts';
import type { Term } from './term.ts';
import {
  type WriteCounts,
  type WriteResult,
  type WriteTarget,
  writeResults,
  writeTargets,
} from './writer.ts';

export interface MetricHelp {
  readonly name: string;
  readonly help: string;
  readonly labels: readonly string[];
}

export type MetricName =
  | 'leader'
  | 'lease'
  | 'writes'
  | 'queue'
  | 'queueTurns'
  | 'policies'
  | 'tainted'
  | 'definitions'
  | 'lists';

/** For the reference page too. */
export const controllerMetrics: Readonly<Record<MetricName, MetricHelp>> = {
  leader: {
    name: 'tandem_controller_leader',
    help: '1 while this process holds the lease and writes to the API server',
    labels: [],
  },
  lease: {
    name: 'tandem_controller_lease_total',
    help: 'operations on the lease by result: renewed, failed (no answer, or forbidden), taken, lost',
    labels: ['turn'],
  },
  writes: {
    name: 'tandem_controller_writes_total',
    help: `writes to the API server by target and result. ${Object.entries(writeResults)
      .map(([result, help]) => `${result}: ${help}`)
      .join('; ')}`,
    labels: ['target', 'result'],
  },
  queue: {
    name: 'tandem_controller_queue_length',
    help: 'objects queued for a write, by kind',
    labels: ['kind'],
  },
  queueTurns: {
    name: 'tandem_controller_queue_total',
    help: 'operations on the queues while this process leads: added, refused (no room; a new list finds the object again), retried, paused (the API server refuses the kind, or asks to retry later)',
    labels: ['kind', 'turn'],
  },
  policies: {
    name: 'tandem_controller_policies',
    help: 'policy objects by kind and validity',
    labels: ['kind', 'valid'],
  },
  tainted: {
    name: 'tandem_controller_tainted_nodes',
    help: 'nodes with the startup taint',
    labels: [],
  },
  definitions: {
    name: 'tandem_controller_definitions',
    help: `1 for the state of each definition of Cilium's kinds. ${Object.entries(definitionStates)
      .map(([state, help]) => `${state}: ${help}`)
      .join('; ')}`,
    labels: ['definition', 'state'],
  },
  lists: {
    name: 'tandem_controller_list_failures_total',
    help: 'lists and watches that failed while this process leads, by kind; they are tried again',
    labels: ['kind'],
  },
};

/** The parts of the controller that count. */
export interface Counting {
  readonly lease: Lease;
  readonly writes: WriteCounts;
  readonly keeper: DefinitionKeeper;
  /** The leader's work; null while it does not lead. */
  readonly term: Term | null;
}

export function addControllerMetrics(metrics: Metrics, controller: Counting): void {
  const { lease, writes, keeper } = controller;
  const m = controllerMetrics;
  metrics.gauge(m.leader, () => (lease.isLeader ? 1 : 0));
  metrics.counters(m.lease, m.lease.labels, () =>
    Object.entries(lease.counters).map(([turn, value]) => ({ labels: { turn }, value })),
  );
  metrics.counters(m.writes, m.writes.labels, () =>
    writeTargets.flatMap((target: WriteTarget) =>
      Object.entries(writes[target]).map(([result, value]: [string, number]) => ({
        labels: { target, result: result as WriteResult },
        value,
      })),
    ),
  );
  metrics.gauges(m.queue, m.queue.labels, () =>
    [...(controller.term?.queues ?? [])].map(([kind, queue]) => ({
      labels: { kind },
      value: queue.length,
    })),
  );
  metrics.counters(m.queueTurns, m.queueTurns.labels, () =>
    [...(controller.term?.queues ?? [])].flatMap(([kind, { counters }]) =>
      Object.entries(counters).map(([turn, value]) => ({ labels: { kind, turn }, value })),
    ),
  );
  metrics.gauges(m.policies, m.policies.labels, () =>
    (controller.term?.statuses ?? []).flatMap((status): readonly MetricSample[] => {
      const { kind } = status;
      return [
        { labels: { kind, valid: 'true' }, value: status.validObjects },
        { labels: { kind, valid: 'false' }, value: status.invalidObjects },
      ];
    }),
  );
  metrics.gauges(m.tainted, m.tainted.labels, () =>
    controller.term === null ? [] : [{ value: controller.term.taint.tainted }],
  );
  metrics.gauges(m.definitions, m.definitions.labels, () =>
    [...keeper.states].map(([definition, state]: [string, DefinitionState]) => ({
      labels: { definition, state },
      value: 1,
    })),
  );
  metrics.counters(m.lists, m.lists.labels, () =>
    [...(controller.term?.lists ?? [])].map(([kind, { counters }]) => ({
      labels: { kind },
      value: counters.failures,
    })),
  );
}
