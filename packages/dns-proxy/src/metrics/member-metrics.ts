// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** All metrics that both processes have. */

import type { MemberName } from '@tandem/datapath/member';
import type { GrpcServer } from '@tandem/runtime/grpc-server';
import type { Logger } from '@tandem/runtime/log';
import type { Metrics } from '@tandem/runtime/metrics';
import type { AdminContext } from '../admin/context.ts';
import type { Admin } from '../admin/service.ts';
import type { DnsMember } from '../dns-member.ts';
import type { AddressesInUse } from '../store/addresses-in-use.ts';
import type { Backfill } from '../store/backfill.ts';
import type { KernelExpiry } from '../store/kernel-expiry.ts';
import { addDnsMetrics } from './dns-metrics.ts';
import { addDropMetrics } from './drop-metrics.ts';
import { addFields, addNodeMetrics } from './node-metrics.ts';

export interface MemberMetricsOptions {
  readonly role: MemberName;
  readonly context: AdminContext;
  readonly admin: Admin;
  readonly member: DnsMember;
  readonly backfill: Backfill;
  readonly expiry: KernelExpiry;
  readonly inUse: AddressesInUse;
  /** By the name of the socket; more may come later. */
  readonly servers: ReadonlyMap<string, GrpcServer>;
  readonly log: Logger;
}

export function addMemberMetrics(metrics: Metrics, options: MemberMetricsOptions): void {
  const { role, context, admin, member, backfill, expiry, inUse, servers, log } = options;
  metrics.addProcessMetrics();
  addDnsMetrics(metrics, member.counters, role);
  addNodeMetrics(metrics, context, admin);
  addDropMetrics(metrics, context);
  addFields(
    metrics,
    'tandem_backfill',
    {
      runs: 'runs that fill new FQDN selectors with addresses from the name cache',
      names: 'names checked against new FQDN selectors',
      added: 'addresses added to new FQDN selectors',
      refused: 'addresses for new FQDN selectors that the kernel refused',
      selectorsSkipped: 'names that match more new FQDN selectors than one run fills',
    },
    () => backfill.counters,
  );
  addFields(
    metrics,
    'tandem_fqdn_expiry',
    {
      looked: 'entries of the fqdn map checked for expiry',
      submitted: 'addresses found expired and unused',
      adopted:
        'learned addresses of a former version, added to the eviction order of their namespace',
      walks: 'walks of the whole fqdn map',
    },
    () => expiry,
  );
  addFields(
    metrics,
    'tandem_fqdn_live',
    {
      passed: 'new connections to an address whose name expired, while an open one uses it',
      full: 'uses of an address that were not recorded because the fqdn_live map is full',
      swept: 'entries of the fqdn_live map removed because no connection uses the address',
    },
    () => inUse,
  );
  metrics.counters(
    {
      name: 'tandem_grpc_connections_refused_total',
      help: 'connections refused by a unix socket: over its limit, or from a uid without access',
    },
    ['socket', 'reason'],
    () =>
      [...servers].flatMap(([socket, { stats }]) => [
        { labels: { socket, reason: 'uid' }, value: stats.refusedPeers },
        { labels: { socket, reason: 'limit' }, value: stats.refusedConnections },
      ]),
  );
  metrics.counters(
    {
      name: 'tandem_log_lines_suppressed_total',
      help: 'log lines not written because of the rate limit',
    },
    [],
    () => [{ value: log.suppressed }],
  );
  metrics.counters(
    {
      name: 'tandem_log_lines_repeated_total',
      help: 'repeated log lines about a failure, counted instead of written',
    },
    [],
    () => [{ value: log.repeated }],
  );
  metrics.counters(
    { name: 'tandem_log_lines_lost_total', help: 'log lines that could not be written' },
    [],
    () => [{ value: log.lost }],
  );
}
