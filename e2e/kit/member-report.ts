// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Counters of both members while a test ran, and their degradations: printed when the test fails, because
 * a SERVFAIL that a pod got names its cause in these counters alone.
 */

import { degradedOf, metricsOf } from './admin.ts';
import { processes } from './dns-counters.ts';
import type { ProcessName, TandemNode } from './tandem-node.ts';

type Counts = ReadonlyMap<string, number>;

/** Runs `work`; when it throws, prints what the members' DNS counters grew by, and their degradations. */
export async function withMemberReport<T>(tandem: TandemNode, work: () => Promise<T>): Promise<T> {
  const before = await countsOfBoth(tandem);
  const kernelBefore = tandem.counters();
  try {
    return await work();
  } catch (error) {
    const lines = await Promise.all(
      processes.map((name, i) => describeMember(tandem, name, before[i] as Counts)),
    );
    const kernel = grown(tandem.counters(), new Map(Object.entries(kernelBefore)));
    console.log([...lines, `kernel: ${kernel}`].join('\n'));
    throw error;
  }
}

async function countsOfBoth(tandem: TandemNode): Promise<Counts[]> {
  return Promise.all(processes.map((name) => countsOf(tandem, name)));
}

async function describeMember(
  tandem: TandemNode,
  name: ProcessName,
  before: Counts,
): Promise<string> {
  try {
    const counts = grown(Object.fromEntries(await countsOf(tandem, name)), before);
    const degraded = [...(await degradedOf(tandem, name))].map(
      ([code, text]) => `${code}: ${text}`,
    );
    return `${name}: ${counts}; degraded: ${degraded.join('; ') || 'nothing'}`;
  } catch (error) {
    return `${name}: ${String(error)}`;
  }
}

/** DNS counters by their series, without the prefix and the label `member`. */
async function countsOf(tandem: TandemNode, name: ProcessName): Promise<Counts> {
  const counts = new Map<string, number>();
  for (const line of (await metricsOf(tandem, name)).split('\n')) {
    const [, series, value] = /^tandem_dns_(\S+_total\S*) (\S+)$/.exec(line) ?? [];
    if (series !== undefined)
      counts.set(series.replace(/,?member="[^"]*",?|\{\}/g, ''), Number(value));
  }
  return counts;
}

function grown(now: Readonly<Record<string, number>>, before: Counts): string {
  const changes = Object.entries(now)
    .map(([series, count]) => [series, count - (before.get(series) ?? 0)] as const)
    .filter(([, change]) => change !== 0);
  return changes.map(([series, change]) => `${series} +${change}`).join(', ') || 'nothing counted';
}
