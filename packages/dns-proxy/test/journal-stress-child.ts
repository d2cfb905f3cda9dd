// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One side of the stress, as a process over a pinned map or as a thread over shared memory. */

import { parentPort, workerData } from 'node:worker_threads';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { serve, takeOver } from './journal-stress.ts';

const [side, milliseconds, pin] = parentPort === null ? process.argv.slice(2) : workerData.args;
const buffer = parentPort === null ? BpfMap.openPinned(pin).mmap() : workerData.memory;
const result = (side === 'owner' ? serve : takeOver)(buffer, Number(milliseconds));
if (parentPort === null) process.stdout.write(JSON.stringify(result));
else parentPort.postMessage(result);
