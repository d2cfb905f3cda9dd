// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Metrics that only the agent has, of its policy. Names are API; docs/reference is generated from them. */

import { addFields } from '@tandem/dns-proxy/metrics/node-metrics';
import type { Metrics } from '@tandem/runtime/metrics';

/** Adds the metrics of the policy snapshot on disk. */
export function addSnapshotMetrics(metrics: Metrics, read: () => object): void {
  const help = {
    written: 'policy snapshots written to disk',
    failed: 'failed writes of the policy snapshot, which are tried again',
    synced: 'policy snapshots synced to disk (fsync)',
  };
  addFields(metrics, 'tandem_snapshot', help, read);
}

/** Adds the metrics of the policy controller. */
export function addPolicyMetrics(metrics: Metrics, read: () => object): void {
  const help = {
    applied: 'changes of policies and pods that were applied to the datapath',
    predecessorsForgotten:
      'former policies over the limit of one policy; addresses that pods learned under them are refused',
    mapsMended: 'repairs of kernel maps in which another process changed an entry',
  };
  addFields(metrics, 'tandem_policy', help, read);
}
