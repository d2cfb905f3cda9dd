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

/** Adds the metrics of the rules, routes and the nft table of the shared socket. */
export function addNetworkMetrics(metrics: Metrics, read: () => object): void {
  const help = {
    routingRestored:
      'restorations of rules or routes to the shared socket that another process had removed or changed',
    tableRestored: 'writes of the nft table tandem after another process had removed or changed it',
    tableDelayed:
      'changes of the nft table tandem that waited for a second, because it changed again and again',
    failed: 'failed attempts to set up routing of a family or the nft table; the agent tries again',
  };
  addFields(metrics, 'tandem_network_rules', help, read);
}
