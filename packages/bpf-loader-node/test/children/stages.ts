// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Comes as far as a stage and then ends in the given manner, with everything left open: this process,
// or for a manner of workers one worker after the other for each stage given. Exit code 7 for an
// exception, 0 otherwise; a crash shows as a signal.

import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

import { attachTcx } from '../../src/link.ts';
import { ifindex } from '../../src/netns.ts';
import { BpfObject } from '../../src/object.ts';
import { RingBuffer } from '../../src/ringbuf.ts';
import { objectPath, u32 } from '../fixture.ts';

const [manner = '', ...stages] = isMainThread
  ? process.argv.slice(2)
  : (workerData as readonly string[]);
const [stage = ''] = stages;

/** Everything that must stay reachable until the end. */
const kept: unknown[] = [];

function leave(): void {
  if (manner.endsWith('exit')) process.exit(0);
  if (manner === 'throw') throw new Error('on purpose');
}

function openRing(object: BpfObject, isInside: boolean): void {
  const ring = new RingBuffer(object.map('events'), () => {
    if (isInside) leave();
  });
  kept.push(ring);
  object.program('emit').runSyscall(u32(9, 0));
  // An open ring keeps the process alive; a process that returns has to say that it may end.
  if (manner.endsWith('return')) ring.setKeepsAlive(false);
}

function reach(): void {
  if (stage === 'imported') return;
  const object = BpfObject.open(objectPath(stage === 'refused' ? 'refused' : 'loader'));
  kept.push(object);
  if (stage === 'opened') return;
  if (stage === 'refused') {
    try {
      object.load();
    } catch {
      return;
    }
  }
  object.load();
  kept.push(object.map('table'), object.program('compute'));
  if (stage === 'loaded') return;
  const words = new BigUint64Array(object.map('shared').mmap());
  words[0] = 1n;
  kept.push(words);
  if (stage === 'mapped') return;
  if (stage === 'link') {
    const program = object.program('count_packet');
    kept.push(attachTcx({ program, ifindex: ifindex('veth0'), direction: 'ingress' }));
    return;
  }
  openRing(object, stage === 'batch');
}

async function endWorker(workerStage: string): Promise<void> {
  const worker = new Worker(new URL(import.meta.url), { workerData: [manner, workerStage] });
  const exited = once(worker, 'exit');
  await Promise.race([once(worker, 'message'), exited]);
  if (manner === 'worker-terminate') await worker.terminate();
  await exited;
}

process.on('uncaughtException', () => process.exit(7));

if (isMainThread && manner.startsWith('worker')) {
  for (const workerStage of stages) await endWorker(workerStage);
} else {
  reach();
  parentPort?.postMessage('reached');
  // A worker that is to be terminated waits for it.
  if (manner === 'worker-terminate') setInterval(() => kept.length, 1000);
  if (stage !== 'batch') leave();
}
