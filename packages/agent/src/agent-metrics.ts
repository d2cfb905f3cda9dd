// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Metrics that only the agent has, of its policy. Names are API; docs/reference is generated from them. */

import { addFields } from '@tandem/dns-proxy/metrics/node-metrics';
import type { Metrics } from '@tandem/runtime/metrics';

/** Of the policy snapshot on disk. */
export function addSnapshotMetrics(metrics: Metrics, read: () => object): void {
  const help = {
    written: 'policy snapshots written to disk',
    failed: 'attempts to write the policy snapshot that failed; each is made again',
    synced: 'times that what was written was made to survive a loss of power',
  };
  addFields(metrics, 'tandem_snapshot', help, read);
}

/** Of the policy controller. */
export function addPolicyMetrics(metrics: Metrics, read: () => object): void {
  const help = {
    applied: 'changes that were put in force, of policies and of pods',
    predecessorsForgotten:
      'former policies over the limit of one policy: addresses that pods heard under them are refused',
    mapsMended:
      'comparisons of the kernel maps that found an entry of another writer: the maps were written again',
  };
  addFields(metrics, 'tandem_policy', help, read);
}
