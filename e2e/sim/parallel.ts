// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Schedules on several threads. What they find does not depend on how many there are. */

import { Worker } from 'node:worker_threads';
import { add, emptyTotals, failuresMax, type Totals } from './run.ts';
import type { SeedRange } from './seeds-worker.ts';

const rangeSeeds = 500;

export interface ParallelOptions {
  readonly from: number;
  readonly to: number;
  readonly steps: number;
  readonly threads: number;
  readonly onProgress?: (totals: Totals) => void;
}

export async function runParallel({
  from,
  to,
  steps,
  threads,
  onProgress,
}: ParallelOptions): Promise<Totals> {
  const totals = emptyTotals();
  let next = from;
  const take = (): SeedRange | null => {
    if (next >= to || totals.failures.length >= failuresMax) return null;
    const range = { from: next, to: Math.min(to, next + rangeSeeds), steps };
    next = range.to;
    return range;
  };
  const work = async (): Promise<void> => {
    const worker = new Worker(new URL('./seeds-worker.ts', import.meta.url));
    try {
      await new Promise<void>((resolve, reject) => {
        const hand = (): void => {
          const range = take();
          if (range === null) resolve();
          else worker.postMessage(range);
        };
        worker.on('error', reject);
        worker.on('message', (part: Totals) => {
          add(totals, part);
          onProgress?.(totals);
          hand();
        });
        hand();
      });
    } finally {
      await worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: threads }, work));
  totals.failures.sort((a, b) => a.seed - b.seed);
  return totals;
}
