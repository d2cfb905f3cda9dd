// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Metrics of the CNI gate. Names are API; docs/reference is generated from them. */

import { addFields } from '@tandem/dns-proxy/metrics/node-metrics';
import type { Metrics } from '@tandem/runtime/metrics';
import { type WaitTimes, waitBounds } from './wait-times.ts';

const gateHelp = {
  admitted: 'pods that the CNI gate let start, because their policy was enforced',
  refused:
    'pod starts that the CNI gate refused, because their policy was not enforced in time; kubelet tries again',
  malformed: 'calls of the CNI plugin refused as malformed',
  overLimit:
    'calls of the CNI plugin refused because of the limit of concurrent calls; kubelet tries again',
  sandboxesRefused: 'pod starts refused because of the limit of sandboxes',
};

export function addGateMetrics(
  metrics: Metrics,
  read: () => object,
  waits: Pick<WaitTimes, 'counts' | 'sum'>,
): void {
  addFields(metrics, 'tandem_gate', gateHelp, read);
  metrics.arrayHistogram({
    name: 'tandem_gate_wait_seconds',
    help: 'time that the start of a pod waited in the CNI gate, until its policy was enforced or it was refused',
    bounds: waitBounds,
    counts: waits.counts,
    sum: () => waits.sum,
  });
}
