// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Counters of a node's members that explain losses, as differences over a run: shown for runs in which a query was lost. */

import { tryRun } from '@tandem/testing/process';
import { inNode, nodeInitPid } from '../node.ts';
import type { ClusterStage } from './stage.ts';

const ports = { agent: 9964, 'dns-proxy': 9965 } as const;
const timeoutMs = 3000;
const told =
  /^(tandem_dns_(?:queries_(?:adopted|asked_again|claimed|replayed|torn)|peer_hangs|reply_send_errors|replies_(?:mismatched|unsolicited|malformed)|upstream_\w+|journal_full|flow_table_flushes|queue_drops)_total|tandem_dns_latency_seconds_(?:bucket(?=.*le="1")|count)|tandem_dns_queries_total|tandem_datapath_(?:dropped_packets|selected_stale)_total)(\{[^}]*\})? (\S+)$/;

export type Counters = ReadonlyMap<string, number>;

/** By program and series. A member that does not answer has none. */
export async function readCounters({ layout }: ClusterStage, node: number): Promise<Counters> {
  const counters = new Map<string, number>();
  // A node that is off has no counters.
  if ((await nodeInitPid(layout, node)) === null) return counters;
  for (const [program, port] of Object.entries(ports)) {
    const get = ['busybox', 'wget', '-qO-', `http://127.0.0.1:${port}/metrics`];
    const { stdout } = await tryRun(...(await inNode(layout, node, get)), { timeoutMs });
    for (const line of stdout.split('\n')) {
      const [, series = '', labels = '', value] = told.exec(line) ?? [];
      if (series !== '') counters.set(`${program} ${series}${labels}`, Number(value));
    }
  }
  return counters;
}

/** Counters that have grown, and by how much; those of a restarted program begin at 0. */
export function grown(before: Counters, after: Counters): string {
  const words: string[] = [];
  for (const [series, value] of after) {
    const since = before.get(series) ?? 0;
    const more = value >= since ? value - since : value;
    if (more > 0) words.push(`${series.replace('tandem_', '')} +${more}`);
  }
  return words.join(', ');
}
