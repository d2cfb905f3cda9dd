// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Many schedules, on one thread: counts, and the first that breaks something. */

import { type Outcome, runSchedule } from './schedule.ts';
import { type Excuse, excuses } from './sim-query.ts';
import type { Invariant } from './violation.ts';

export interface Failure {
  readonly seed: number;
  readonly invariant: Invariant;
  readonly text: string;
}

export interface Totals {
  schedules: number;
  virtualMs: number;
  asked: number;
  answered: number;
  refused: number;
  failed: number;
  again: number;
  silent: number;
  excused: Record<Excuse, number>;
  readonly failures: Failure[];
}

export const failuresMax = 20;

export function emptyTotals(): Totals {
  return {
    schedules: 0,
    virtualMs: 0,
    asked: 0,
    answered: 0,
    refused: 0,
    failed: 0,
    again: 0,
    silent: 0,
    excused: Object.fromEntries(excuses.map((excuse) => [excuse, 0])) as Record<Excuse, number>,
    failures: [],
  };
}

export function count(
  totals: Totals,
  { seed, violation, counts, excused, virtualMs }: Outcome,
): void {
  totals.schedules += 1;
  totals.virtualMs += virtualMs;
  for (const name of ['asked', 'answered', 'refused', 'failed', 'again', 'silent'] as const)
    totals[name] += counts[name];
  for (const [excuse, times] of excused) totals.excused[excuse] += times;
  if (violation !== null && totals.failures.length < failuresMax)
    totals.failures.push({ seed, ...violation });
}

export function add(totals: Totals, other: Totals): void {
  totals.schedules += other.schedules;
  totals.virtualMs += other.virtualMs;
  for (const name of ['asked', 'answered', 'refused', 'failed', 'again', 'silent'] as const)
    totals[name] += other[name];
  for (const excuse of excuses) totals.excused[excuse] += other.excused[excuse];
  totals.failures.push(...other.failures.slice(0, failuresMax - totals.failures.length));
}

/** Seeds `from` to `to` - 1. Ends early at `failuresMax` failures, or after the first if so wished. */
export function runSeeds(from: number, to: number, steps: number, isFirstEnough = false): Totals {
  const totals = emptyTotals();
  for (let seed = from; seed < to; seed++) {
    count(totals, runSchedule({ seed, steps }));
    if (totals.failures.length >= (isFirstEnough ? 1 : failuresMax)) break;
  }
  return totals;
}
