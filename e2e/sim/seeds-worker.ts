// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A thread that runs ranges of seeds as they are handed to it. */

import { parentPort } from 'node:worker_threads';
import { runSeeds } from './run.ts';

export interface SeedRange {
  readonly from: number;
  readonly to: number;
  readonly steps: number;
}

parentPort?.on('message', ({ from, to, steps }: SeedRange) =>
  parentPort?.postMessage(runSeeds(from, to, steps)),
);
