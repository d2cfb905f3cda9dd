// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// Several threads use the addon at once: verifier logs do not mix, an fd of one thread opens the same
// map in another, and a worker's end, of itself or by force, releases its fds, mappings and rings.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

import { BpfError } from '../../src/errors.ts';
import { BpfMap } from '../../src/map.ts';
import { BpfObject } from '../../src/object.ts';
import { RingBuffer } from '../../src/ringbuf.ts';
import { countFds, objectPath, readU32, u32, u64 } from '../fixture.ts';

const workerCount = 4;
const rounds = 2;

interface Task {
  readonly sharedFd: number;
  readonly index: number;
  readonly stays: boolean;
}

function mappings(): number {
  return readFileSync('/proc/self/maps', 'utf8').split('bpf-map').length - 1;
}

/** One thread's load of a bad and of a good object, many times over. */
function loadBoth(index: number): void {
  for (let round = 0; round < rounds; round++) {
    using bad = BpfObject.open(objectPath('refused'));
    assert.throws(
      () => bad.load(),
      (error: unknown) =>
        error instanceof BpfError &&
        (error.verifierLog ?? '').split('invalid access to packet').length === 2 &&
        (error.libbpfLog ?? '').split('failed to load object').length === 2,
    );
    using good = BpfObject.open(objectPath('loader'));
    good.setRodata('config', u32(index, 0));
    good.load();
    const job = u32(1, 1, 0, 0);
    assert.equal(good.program('compute').runSyscall(job), 0);
    assert.equal(readU32(job, 3), index);
  }
}

async function work({ sharedFd, index, stays }: Task): Promise<void> {
  loadBoth(index);
  const map = BpfMap.fromFd(sharedFd);
  new BigUint64Array(map.mmap())[index] = BigInt(100 + index);
  // Left open on purpose: the thread's end must release all of it.
  const object = BpfObject.open(objectPath('loader'));
  object.load();
  const { promise: received, resolve } = Promise.withResolvers<void>();
  const ring = new RingBuffer(object.map('events'), () => resolve());
  object.program('emit').runSyscall(u32(3, 0));
  await received;
  if (!stays) ring.setKeepsAlive(false);
  parentPort?.postMessage('done');
}

async function runWorkers(sharedFd: number): Promise<void> {
  const workers = Array.from({ length: workerCount }, (_, index) => {
    const task: Task = { sharedFd, index, stays: index % 2 === 0 };
    return { worker: new Worker(new URL(import.meta.url), { workerData: task }), task };
  });
  await Promise.all(
    workers.map(async ({ worker, task }) => {
      const exited = once(worker, 'exit');
      await once(worker, 'message');
      if (task.stays) await worker.terminate();
      else assert.deepEqual(await exited, [0]);
    }),
  );
}

async function supervise(): Promise<void> {
  using object = BpfObject.open(objectPath('loader'));
  object.load();
  const shared = object.map('shared');
  // Once to let Node open what it keeps for all workers.
  await runWorkers(shared.fd);
  const fds = countFds();
  const mapped = mappings();
  for (let round = 0; round < 2; round++) {
    for (let index = 0; index < workerCount; index++) shared.update(u32(index), u64(0n));
    await runWorkers(shared.fd);
    for (let index = 0; index < workerCount; index++) {
      assert.equal(readU32(shared.lookup(u32(index)) ?? u32(0)), 100 + index);
    }
  }
  assert.equal(countFds(), fds);
  assert.equal(mappings(), mapped);
  // The print callback outlives the workers' copies of the addon.
  loadBoth(1);
}

if (isMainThread) await supervise();
else await work(workerData as Task);
