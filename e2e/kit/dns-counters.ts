// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The members' counters that tests of attacks and of failing servers look at: their names, in one place. */

import { counterOf } from './admin.ts';
import type { ProcessName, TandemNode } from './tandem-node.ts';

const metrics = {
  /** Times that a member took the other one for hung. */
  hangs: 'tandem_dns_peer_hangs_total',
  /** Silent servers given up for others of the same pod. */
  serversGivenUp: 'tandem_dns_upstream_servers_given_up_total',
} as const;

export type WatchedCounter = keyof typeof metrics;

export const processes: readonly ProcessName[] = ['agent', 'proxy'];

/** The sum over both processes. */
export async function bothCount(tandem: TandemNode, counter: WatchedCounter): Promise<number> {
  const counts = await Promise.all(
    processes.map((name) => counterOf(tandem, name, metrics[counter])),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}
