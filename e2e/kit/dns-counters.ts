// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The members' counters that tests of attacks and of failing servers look at: their names, in one place. */

import { waitFor } from '@tandem/testing/wait';
import { metricsOf } from './admin.ts';
import type { ProcessName, TandemNode } from './tandem-node.ts';

const series = {
  /** Times that a member took the other one for hung. */
  hangs: 'tandem_dns_peer_hangs_total',
  /** Silent servers given up for others of the same pod. */
  serversGivenUp: 'tandem_dns_upstream_servers_given_up_total',
  /** Resolvers of the cluster that gave way to another server. */
  resolversEvicted: 'tandem_dns_upstream_resolvers_evicted_total',
  /** Queries answered with FORMERR or NOTIMP. */
  malformed: 'tandem_dns_queries_total{verdict="malformed"}',
  timeouts: 'tandem_dns_upstream_timeouts_total',
  upstreamErrors: 'tandem_dns_upstream_errors_total',
  /** Replies with more aliases than are followed. */
  aliasesOverLimit: 'tandem_dns_aliases_over_limit_total',
  /** Replies that were not delivered because another pod has the address. */
  repliesToGonePods: 'tandem_dns_replies_to_gone_pods_total',
  /** TCP connections to a server that sent what no query waits for. */
  junkConnections: 'tandem_dns_tcp_upstreams_junk_total',
  tcpConnections: 'tandem_dns_tcp_connections_total',
  /** TCP connections of pods that ended with the process's former run. */
  tcpConnectionsLost: 'tandem_dns_tcp_connections_lost_total',
} as const;

export type WatchedCounter = keyof typeof series;

export const processes: readonly ProcessName[] = ['agent', 'proxy'];

/** The sum over both processes. */
export async function bothCount(tandem: TandemNode, counter: WatchedCounter): Promise<number> {
  const counts = await Promise.all(processes.map((name) => countOf(tandem, name, counter)));
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Until the sum over both processes is `count`: a process tells what its worker counts with its main thread's next turn. */
export async function waitForCount(
  tandem: TandemNode,
  counter: WatchedCounter,
  count: number,
): Promise<void> {
  let last = Number.NaN;
  const isThere = async (): Promise<boolean> => {
    last = await bothCount(tandem, counter);
    return last === count;
  };
  await waitFor(isThere, { what: `${counter} to be ${count}`, state: () => `${last}` });
}

/** The count of one process. */
export async function countOf(
  tandem: TandemNode,
  name: ProcessName,
  counter: WatchedCounter,
): Promise<number> {
  const [metric = '', label = ''] = series[counter].split(/[{}]/);
  // A machine that is busy with other tests answers a call late.
  const what = `the metrics of the ${name}`;
  const text = await waitFor(() => metricsOf(tandem, name), { what });
  const lines = text.split('\n');
  const found = lines.filter((line) => line.startsWith(`${metric}{`) && line.includes(label));
  if (found.length !== 1) throw new Error(`${name} has ${found.length} series ${series[counter]}`);
  return Number(found[0]?.slice(found[0].lastIndexOf(' ')));
}
