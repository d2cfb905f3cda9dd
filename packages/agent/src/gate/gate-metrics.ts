// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Metrics of the CNI gate. Names are API; docs/reference is generated from them. */

import { addFields } from '@tandem/dns-proxy/metrics/node-metrics';
import type { Metrics } from '@tandem/runtime/metrics';
import { type WaitTimes, waitBounds } from './wait-times.ts';

const gateHelp = {
  admitted: 'pods whose start the CNI gate let go on, because their policy was enforced',
  refused:
    'pods whose start the CNI gate refused, because their policy was not enforced in time; kubelet tries again',
  malformed: 'calls of the CNI plugin that could not be read',
  overLimit: 'calls of the CNI plugin over the limit of calls at once; kubelet tries again',
  sandboxesRefused: 'pods over the limit of sandboxes: they do not start',
};

export function addGateMetrics(
  metrics: Metrics,
  read: () => object,
  waits: Pick<WaitTimes, 'counts' | 'sum'>,
): void {
  addFields(metrics, 'tandem_gate', gateHelp, read);
  metrics.arrayHistogram({
    name: 'tandem_gate_wait_seconds',
    help: 'how long the start of a pod waited in the CNI gate until its policy was enforced, or it was refused',
    bounds: waitBounds,
    counts: waits.counts,
    sum: () => waits.sum,
  });
}
