// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** CPU time of single threads of a process, from the scheduler's own accounts. */

import { readdirSync, readFileSync } from 'node:fs';

/** Nanoseconds on a CPU, of each thread by its id. */
export function threadTimesNs(pid: number): Map<number, number> {
  const times = new Map<number, number>();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      const text = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8');
      times.set(Number(thread), Number(text.split(' ')[0]));
    } catch {
      // It has ended since.
    }
  }
  return times;
}

/** The thread that worked most while `work` ran. */
export async function busiestThread(pid: number, work: () => Promise<unknown>): Promise<number> {
  const before = threadTimesNs(pid);
  await work();
  let best = { thread: -1, ns: -1 };
  for (const [thread, now] of threadTimesNs(pid)) {
    const ns = now - (before.get(thread) ?? 0);
    if (ns > best.ns) best = { thread, ns };
  }
  return best.thread;
}

/** Nanoseconds on a CPU of one thread. */
export function threadTimeNs(pid: number, thread: number): number {
  return Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]);
}
