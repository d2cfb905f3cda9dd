// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A thread that has nothing but a tick, and the end that `workerData.end` names. */

import { parentPort, workerData } from 'node:worker_threads';
import { startTick, stopTick } from '../src/tick.ts';

const { end } = workerData as { end: string };

startTick(1, () => {
  if (end === 'stop') stopTick();
  else if (end === 'exit') process.exit(0);
  else parentPort?.postMessage('tick');
});
