// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import {
  createSharedRing,
  SharedRingReader,
  SharedRingWriter,
  sharedRingBytesMin,
  sharedRingRecordBytesMax,
} from './shared-ring.ts';

function pair(capacityBytes: number): { writer: SharedRingWriter; reader: SharedRingReader } {
  const ring = createSharedRing(capacityBytes);
  return { writer: new SharedRingWriter(ring), reader: new SharedRingReader(ring) };
}

test('a record comes out as it went in, with its kind', () => {
  const { writer, reader } = pair(1024);
  const payload = Uint8Array.of(9, 1, 2, 3, 9);
  assert.equal(writer.write(0xffff_fffe, payload, 1, 4), true);
  assert.equal(writer.write(7, payload, 0, 0), true);
  const seen: [number, number[]][] = [];
  const count = reader.drain((kind, bytes, offset, length) => {
    assert.equal(offset % 8, 0);
    seen.push([kind, [...bytes.subarray(offset, offset + length)]]);
  }, 10);
  assert.equal(count, 2);
  assert.deepEqual(seen, [
    [0xffff_fffe, [1, 2, 3]],
    [7, []],
  ]);
  assert.equal(reader.usedBytes, 0);
});

test('a full ring refuses and counts, and takes records again after a drain', () => {
  const { writer, reader } = pair(sharedRingBytesMin);
  const payload = new Uint8Array(24);
  let taken = 0;
  while (writer.write(1, payload, 0, payload.length)) taken++;
  assert.equal(taken, sharedRingBytesMin / 32);
  assert.equal(reader.refused, 1);
  assert.equal(
    reader.drain(() => {}, 1),
    1,
  );
  assert.equal(writer.write(1, payload, 0, payload.length), true);
  assert.equal(writer.write(1, payload, 0, payload.length), false);
  assert.equal(writer.refused, 2);
});

test('the longest record fits wherever the positions stand; a longer one never does', () => {
  const ring = createSharedRing(1024);
  const writer = new SharedRingWriter(ring);
  const reader = new SharedRingReader(ring);
  const lengthMax = sharedRingRecordBytesMax(ring);
  const payload = new Uint8Array(lengthMax + 1);
  for (let shift = 0; shift < 300; shift++) {
    assert.equal(writer.write(1, payload, 0, (shift * 7) % 50), true);
    reader.drain(() => {}, 10);
    assert.equal(writer.write(1, payload, 0, lengthMax), true, `at shift ${shift}`);
    reader.drain(() => {}, 10);
  }
  assert.equal(writer.write(1, payload, 0, lengthMax + 1), false);
  assert.equal(writer.reserve(1, -1), -1);
});

test('commit takes a shorter length, and refuses without a reservation', () => {
  const { writer, reader } = pair(1024);
  const offset = writer.reserve(3, 100);
  writer.bytes[offset] = 42;
  assert.equal(writer.commit(101), false);
  assert.equal(writer.commit(1), true);
  assert.equal(writer.commit(1), false);
  reader.drain((_kind, bytes, at, length) => {
    assert.equal(length, 1);
    assert.equal(bytes[at], 42);
  }, 1);
});

test('a visitor that throws loses only its own record', () => {
  const { writer, reader } = pair(1024);
  for (const kind of [1, 2]) writer.write(kind, new Uint8Array(8), 0, 8);
  assert.throws(() => {
    reader.drain(() => {
      throw new Error('visitor');
    }, 10);
  }, /visitor/);
  const kinds: number[] = [];
  reader.drain((kind) => kinds.push(kind), 10);
  assert.deepEqual(kinds, [2]);
});

test('positions wrap at 2^32', () => {
  const ring = createSharedRing(1024);
  const words = new Int32Array(ring);
  words[0] = -512; // write and read position, 512 bytes before the wrap
  words[16] = -512;
  const writer = new SharedRingWriter(ring);
  const reader = new SharedRingReader(ring);
  for (let i = 0; i < 100; i++) {
    assert.equal(writer.write(i, new Uint8Array(40), 0, 40), true);
    assert.equal(reader.usedBytes >= 48, true);
    let seen = -1;
    reader.drain((kind) => {
      seen = kind;
    }, 1);
    assert.equal(seen, i);
  }
  assert.equal(new SharedRingReader(ring).usedBytes, 0);
});

/** Writes records of a known pattern as fast as it can; retries what was refused. */
const writerThread = `
import { workerData, parentPort } from 'node:worker_threads';
const { SharedRingWriter } = await import(workerData.module);
const writer = new SharedRingWriter(workerData.ring);
let retries = 0;
for (let i = 0; i < workerData.records; i++) {
  const length = (i * 37) % 200;
  let offset = writer.reserve(i, length);
  while (offset < 0) { retries++; offset = writer.reserve(i, length); }
  writer.bytes.fill(i & 0xff, offset, offset + length);
  writer.commit(length);
}
parentPort.postMessage({ retries, refused: writer.refused });
`;

test('between two threads nothing is lost, mixed or reordered', async () => {
  const records = 50_000;
  const ring = createSharedRing(1 << 14);
  const reader = new SharedRingReader(ring);
  const worker = new Worker(writerThread, {
    eval: true,
    workerData: { ring, records, module: new URL('./shared-ring.ts', import.meta.url).href },
  });
  let next = 0;
  const takeSome = (): number =>
    reader.drain((kind, bytes, offset, length) => {
      assert.equal(kind, next);
      assert.equal(length, (next * 37) % 200);
      for (let i = 0; i < length; i++)
        if (bytes[offset + i] !== (next & 0xff)) assert.fail('mixed');
      next++;
    }, 64);
  try {
    const summary = once(worker, 'message');
    const deadline = performance.now() + 20_000;
    for (let taken = 0; taken < records; taken += takeSome()) {
      assert.ok(performance.now() < deadline, `record ${next} within 20 s`);
      await setImmediate();
    }
    const [{ retries, refused }] = (await summary) as [{ retries: number; refused: number }];
    assert.equal(refused, retries);
    assert.equal(reader.refused, refused);
  } finally {
    await worker.terminate();
  }
});
