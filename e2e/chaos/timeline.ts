// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A run over time, small enough to be kept: the slowest answer of each interval, and what was lost. */

import type { AskedLoad } from './oracle.ts';

const bucketsMax = 250;

export interface Mark {
  /** Milliseconds since the start of the run. */
  readonly atMs: number;
  readonly what: string;
}

export interface Timeline {
  readonly bucketMs: number;
  /** Of the queries sent in each interval, the slowest answer in milliseconds; null: none was sent. */
  readonly slowestMs: readonly (number | null)[];
  /** Queries without answer, by the number of their interval. */
  readonly lost: Readonly<Record<number, number>>;
  readonly marks: readonly Mark[];
}

export function timelineOf(
  loads: readonly AskedLoad[],
  startedMs: number,
  marks: readonly Mark[],
): Timeline {
  const records = loads.flatMap((load) => load.records);
  const lastMs = records.reduce((last, { sentMs }) => Math.max(last, sentMs), startedMs);
  const bucketMs = Math.max(10, Math.ceil((lastMs - startedMs + 1) / bucketsMax));
  const slowestMs: (number | null)[] = [];
  const lost: Record<number, number> = {};
  for (const { sentMs, latencyMs } of records) {
    const bucket = Math.max(0, Math.floor((sentMs - startedMs) / bucketMs));
    while (slowestMs.length <= bucket) slowestMs.push(null);
    if (latencyMs === null) lost[bucket] = (lost[bucket] ?? 0) + 1;
    else slowestMs[bucket] = Math.max(slowestMs[bucket] ?? 0, Math.round(latencyMs * 10) / 10);
  }
  return { bucketMs, slowestMs, lost, marks };
}

/** Answers that take longer than this say that something was wrong; the upstream takes 20 ms. */
export const slowMs = 60;

/** From the fault to the answer of the last query that was slow, sent before or after; 0: none was. */
export function recoveryMs(loads: readonly AskedLoad[], faultMs: number): number {
  let last = faultMs;
  for (const { records } of loads) {
    for (const { sentMs, latencyMs } of records) {
      if (latencyMs === null || latencyMs <= slowMs) continue;
      last = Math.max(last, sentMs + latencyMs);
    }
  }
  return last - faultMs;
}
