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
  /** Slowest answer to the queries sent in each interval, in ms; null: none was sent. */
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

/** Time without a slow answer after which the disturbance is over. */
const calmMs = 250;

/**
 * From the fault until the last slow answer of the disturbance that it made: queries sent so soon after it,
 * or after another slow one, that nothing calm lies between. 0: none was slow.
 */
export function recoveryMs(loads: readonly AskedLoad[], faultMs: number): number {
  const slow = loads
    .flatMap(({ records }) => records)
    .filter(({ sentMs, latencyMs }) => (latencyMs ?? 0) > slowMs && sentMs >= faultMs - calmMs)
    .toSorted((a, b) => a.sentMs - b.sentMs);
  let [lastSentMs, lastAnswerMs] = [faultMs, faultMs];
  for (const { sentMs, latencyMs } of slow) {
    if (sentMs - lastSentMs > calmMs) break;
    lastSentMs = Math.max(lastSentMs, sentMs);
    lastAnswerMs = Math.max(lastAnswerMs, sentMs + (latencyMs ?? 0));
  }
  return lastAnswerMs - faultMs;
}
