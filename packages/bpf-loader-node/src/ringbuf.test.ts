// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { countFds, objectPath, readU32, runChild, u32 } from '../test/fixture.ts';
import { BpfError } from './errors.ts';
import { BpfObject } from './object.ts';
import { RingBuffer } from './ringbuf.ts';

const small = 0;
const large = 1;

interface Received {
  readonly numbers: number[];
  readonly batches: number[];
}

/** Checks each record and keeps its number. */
function collect(into: Received): (bytes: Uint8Array, lengths: Uint32Array, count: number) => void {
  return (bytes, lengths, count) => {
    into.batches.push(count);
    let at = 0;
    for (let i = 0; i < count; i++) {
      const length = lengths[i] ?? 0;
      assert.ok(length === 12 || length === 4096);
      const number = readU32(bytes, at / 4);
      const check = length === 12 ? at / 4 + 1 : at / 4 + 1023;
      assert.equal(readU32(bytes, check), ~number >>> 0);
      into.numbers.push(number);
      at += (length + 7) & ~7;
    }
  };
}

function loaded(): BpfObject {
  const object = BpfObject.open(objectPath('loader'));
  object.load();
  return object;
}

function emit(object: BpfObject, count: number, kind: number): number {
  return object.program('emit').runSyscall(u32(count, kind));
}

/** Turns of the event loop until the condition holds; each wake of a ring needs one. */
async function turnsUntil(condition: () => boolean): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, 'the records did not come');
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** The numbers that `emit` submits; it discards every third. */
function submitted(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i).filter((i) => i % 3 !== 2);
}

test('records arrive on the event loop, in order, in batches, without those discarded', async () => {
  using object = loaded();
  const received: Received = { numbers: [], batches: [] };
  using ring = new RingBuffer(object.map('events'), collect(received));
  assert.equal(emit(object, 300, small), 300);
  assert.equal(received.numbers.length, 0, 'not before the loop turns');
  await turnsUntil(() => received.numbers.length >= 200);
  assert.deepEqual(received.numbers, submitted(300));
  assert.deepEqual(received.batches, [200], 'one call for one wake');
  const { records, batches, oversized } = ring.stats();
  assert.deepEqual({ records, batches, oversized }, { records: 200, batches: 1, oversized: 0 });
});

test('many rounds wrap around the ring and lose nothing', async () => {
  using object = loaded();
  const received: Received = { numbers: [], batches: [] };
  using ring = new RingBuffer(object.map('events'), collect(received));
  const rounds = 40;
  for (let round = 1; round <= rounds; round++) {
    assert.equal(emit(object, 1500, small), 1500);
    await turnsUntil(() => received.numbers.length >= 1000 * round);
  }
  const round = submitted(1500);
  assert.deepEqual(received.numbers, Array.from({ length: rounds }, () => round).flat());
  assert.equal(ring.stats().records, 1000 * rounds);
});

test('a full ring is emptied and used again', async () => {
  using object = loaded();
  const received: Received = { numbers: [], batches: [] };
  using ring = new RingBuffer(object.map('events'), collect(received));
  const sent = emit(object, 100, large);
  assert.ok(sent > 10 && sent < 16, `a ring of 64 KiB takes ${sent} records of 4 KiB`);
  assert.equal(ring.consume(), sent);
  assert.equal(ring.consume(), 0);
  assert.equal(emit(object, 100, large), sent);
  await turnsUntil(() => received.numbers.length === 2 * sent);
});

test('a ring opened late reads what is there; a closed one leaves the rest', async () => {
  using object = loaded();
  const map = object.map('events');
  emit(object, 3, small);
  const received: Received = { numbers: [], batches: [] };
  const ring = new RingBuffer(map, collect(received));
  await turnsUntil(() => received.numbers.length === 2);
  ring.close();
  ring.close();
  emit(object, 6, small);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(received.numbers.length, 2, 'no call after close');
  assert.throws(
    () => ring.consume(),
    (error: unknown) => error instanceof BpfError && error.code === 'TANDEM_BPF_CLOSED',
  );
  using again = new RingBuffer(map, collect(received));
  assert.equal(again.consume(), 4);
  assert.deepEqual(received.numbers, [0, 1, 0, 1, 3, 4]);
});

test('closing and consuming inside the callback', async () => {
  using object = loaded();
  let calls = 0;
  const ring = new RingBuffer(object.map('events'), () => {
    calls += 1;
    assert.throws(() => ring.consume(), BpfError);
    ring.close();
    assert.throws(() => ring.consume(), BpfError);
  });
  emit(object, 2, small);
  await turnsUntil(() => calls === 1);
  emit(object, 2, small);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(calls, 1);
});

test('an exception of the callback comes out of consume', () => {
  using object = loaded();
  using ring = new RingBuffer(object.map('events'), () => {
    throw new Error('from the callback');
  });
  emit(object, 1, small);
  assert.throws(() => ring.consume(), /from the callback/);
  assert.equal(ring.consume(), 0, 'the batch counts as delivered');
});

test('an exception on the event loop is an uncaught exception', () => {
  const { code, output } = runChild('ring-exception');
  assert.equal(code, 0, output);
});

test('records longer than a batch are counted, and the ring goes on', () => {
  using object = loaded();
  const received: Received = { numbers: [], batches: [] };
  using ring = new RingBuffer(object.map('events'), collect(received), { batchBytes: 4088 });
  emit(object, 5, large);
  emit(object, 2, small);
  assert.equal(ring.consume(), 2);
  const { records, batches, oversized } = ring.stats();
  assert.deepEqual({ records, batches, oversized }, { records: 2, batches: 1, oversized: 5 });
});

test('a batch is bounded by records and by bytes; the rest comes at the next turns', async () => {
  using object = loaded();
  const received: Received = { numbers: [], batches: [] };
  using byRecords = new RingBuffer(object.map('events'), collect(received), { batchRecords: 10 });
  emit(object, 33, small);
  await turnsUntil(() => received.numbers.length === 22);
  assert.deepEqual(received.batches, [10, 10, 2]);
  byRecords.close();
  using byBytes = new RingBuffer(object.map('events'), collect(received), { batchBytes: 8192 });
  emit(object, 5, large);
  await turnsUntil(() => received.numbers.length === 27);
  assert.deepEqual(received.batches.slice(3), [2, 2, 1]);
  const map = object.map('events');
  for (const batchBytes of [0, 4, 12, 65_544]) {
    assert.throws(() => new RingBuffer(map, () => undefined, { batchBytes }), RangeError);
  }
  assert.throws(() => new RingBuffer(map, () => undefined, { batchRecords: 0 }), RangeError);
  assert.equal(byBytes.stats().batches, 3);
});

test('a batch that the callback gave away is an error, not a fault', () => {
  using object = loaded();
  let moved: ArrayBuffer | undefined;
  using ring = new RingBuffer(object.map('events'), (bytes) => {
    moved = structuredClone(bytes.buffer as ArrayBuffer, {
      transfer: [bytes.buffer as ArrayBuffer],
    });
  });
  emit(object, 1, small);
  assert.equal(ring.consume(), 1);
  assert.ok(moved !== undefined);
  emit(object, 1, small);
  assert.throws(() => ring.consume(), /detached/);
});

test('only a ring buffer map is a ring', () => {
  using object = loaded();
  assert.throws(() => new RingBuffer(object.map('table'), () => undefined), BpfError);
  assert.throws(() => object.map('events').mmap(), BpfError);
});

test('opening and closing rings leaves no fd', async () => {
  using object = loaded();
  const map = object.map('events');
  new RingBuffer(map, () => undefined).close();
  await new Promise((resolve) => setImmediate(resolve));
  const before = countFds();
  for (let i = 0; i < 100; i++) new RingBuffer(map, () => undefined).close();
  await turnsUntil(() => countFds() === before);
});
