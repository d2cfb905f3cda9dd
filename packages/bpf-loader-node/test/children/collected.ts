// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// What garbage collection does: mappings go with their ArrayBuffer, forgotten fds are closed, links
// and open rings stay; and the hot calls give it nothing to do. Needs --expose-gc and a namespace with veth0.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

import { attachTcx, queryTcx } from '../../src/link.ts';
import { BpfMap, mapFlag, mapType } from '../../src/map.ts';
import { ifindex } from '../../src/netns.ts';
import { BpfObject } from '../../src/object.ts';
import { RingBuffer } from '../../src/ringbuf.ts';
import { countFds, objectPath, u32, u64 } from '../fixture.ts';

const mapBytes = 1 << 20;

function mappings(): number {
  return readFileSync('/proc/self/maps', 'utf8').split('bpf-map').length - 1;
}

async function collectUntil(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, what);
    globalThis.gc?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function makeMap(): BpfMap {
  return BpfMap.create({
    type: mapType.array,
    name: 'test_collect',
    keySize: 4,
    valueSize: 8,
    maxEntries: mapBytes / 8,
    flags: mapFlag.mmapable,
  });
}

async function mappingsEnd(): Promise<void> {
  const before = mappings();
  using map = makeMap();
  (function forget(): void {
    for (let i = 0; i < 20; i++) new BigUint64Array(map.mmap())[i] = BigInt(i);
    assert.equal(mappings(), before + 20);
  })();
  await collectUntil(() => mappings() === before, 'mappings are not unmapped');
  assert.deepEqual(map.lookup(u32(7)), u64(7n));
}

async function mappingsInUseStay(): Promise<void> {
  const view = (function make(): BigUint64Array {
    using map = makeMap();
    // Only the view is kept: not the map, not the buffer.
    return new BigUint64Array(map.mmap(), 8);
  })();
  for (let i = 0; i < 20; i++) {
    globalThis.gc?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  view.fill(3n);
  assert.equal(view.at(-1), 3n);
}

async function forgottenFdsAreClosed(): Promise<void> {
  const before = countFds();
  (function forget(): void {
    for (let i = 0; i < 20; i++) {
      makeMap();
      const object = BpfObject.open(objectPath('loader'));
      object.load();
      object.map('table');
      object.program('compute');
    }
    assert.ok(countFds() > before + 60);
  })();
  await collectUntil(() => countFds() === before, 'forgotten fds are not closed');
}

async function ringsAndLinksStay(): Promise<void> {
  const veth = ifindex('veth0');
  using object = BpfObject.open(objectPath('loader'));
  object.load();
  let records = 0;
  (function forget(): void {
    attachTcx({ program: object.program('count_packet'), ifindex: veth, direction: 'ingress' });
    new RingBuffer(object.map('events'), (_bytes, _lengths, count) => {
      records += count;
    }).setKeepsAlive(false);
  })();
  for (let i = 0; i < 20; i++) {
    globalThis.gc?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.equal(queryTcx(veth, 'ingress').programs.length, 1);
  object.program('emit').runSyscall(u32(3, 0));
  await collectUntil(() => records === 2, 'the ring was collected');
}

function hotCallsAllocateNothing(): void {
  const calls = 50_000;
  const bytesPerCallMax = 1;
  using object = BpfObject.open(objectPath('loader'));
  object.load();
  const table = object.map('table');
  const compute = object.program('compute');
  const key = u32(1);
  const value = new Uint8Array(table.valueBytes);
  const job = u32(1, 2, 0, 0);
  const call = (): void => {
    for (let i = 0; i < calls; i++) {
      table.lookupInto(key, value);
      table.update(key, value);
      compute.runSyscall(job);
    }
  };
  call();
  globalThis.gc?.();
  const before = process.memoryUsage().heapUsed;
  call();
  const allocated = process.memoryUsage().heapUsed - before;
  assert.ok(allocated < calls * bytesPerCallMax, `${allocated} bytes for ${calls} calls`);
}

assert.ok(globalThis.gc !== undefined, 'run with --expose-gc');
await mappingsEnd();
await mappingsInUseStay();
await forgottenFdsAreClosed();
await ringsAndLinksStay();
hotCallsAllocateNothing();
