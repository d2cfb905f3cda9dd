// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { array, assert as check, integer, property } from 'fast-check';
import {
  EventCursor,
  EventStore,
  eventKindDns,
  eventKindDrop,
  eventKindLoss,
} from './event-store.ts';

const seed = 20_261_121;

/** A record of `length` octets that says which it is. */
function record(length: number, number: number): Uint8Array {
  return new Uint8Array(length).fill(number & 0xff);
}

test('the last records are there, whole and in order, whatever their lengths', () => {
  const eventsMax = 16;
  const bytesMax = 512;
  check(
    property(array(integer({ min: 1, max: 200 }), { maxLength: 200 }), (lengths) => {
      const store = new EventStore({ eventsMax, bytesMax });
      lengths.forEach((length, i) => {
        store.append(i % 2 === 0 ? eventKindDns : eventKindDrop, record(length, i), 0, length);
        assert.ok(store.next - store.first <= eventsMax);
        let bytes = 0;
        for (let event = store.first; event < store.next; event++) {
          const at = store.offsetOf(event);
          const own = store.bytes.subarray(at, at + store.lengthOf(event));
          assert.equal(own.length, lengths[event]);
          assert.ok(own.every((octet) => octet === (event & 0xff)));
          assert.equal(store.kindOf(event), event % 2 === 0 ? eventKindDns : eventKindDrop);
          assert.equal(at % 8, 0);
          bytes += own.length;
        }
        assert.ok(bytes <= bytesMax);
        assert.equal(store.next, i + 1);
        assert.ok(store.first < store.next, 'the newest is kept');
      });
    }),
    { seed, numRuns: 200 },
  );
});

test('as much is kept as the limits allow', () => {
  const store = new EventStore({ eventsMax: 100, bytesMax: 1024 });
  for (let i = 0; i < 1000; i++) store.append(eventKindDns, record(16, i), 0, 16);
  assert.equal(store.next - store.first, 64);
  store.append(eventKindDns, record(2000, 0), 0, 2000);
  assert.equal(store.oversized, 1);
  assert.equal(store.next, 1000);
});

test('a slow reader is told how many it missed', () => {
  const store = new EventStore({ eventsMax: 8, bytesMax: 1024 });
  const cursor = new EventCursor(store);
  assert.equal(cursor.next(), false);
  for (let i = 0; i < 20; i++) store.append(eventKindDns, record(8, i), 0, 8);
  const seen: number[] = [];
  while (cursor.next()) seen.push(cursor.event);
  assert.deepEqual(seen, [12, 13, 14, 15, 16, 17, 18, 19]);
  assert.equal(cursor.takeLost(), 12);
  assert.equal(cursor.takeLost(), 0);
});

test('what is overwritten counts for as many events as it stood for', () => {
  const counts = array(integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 60 });
  const reads = array(integer({ min: 0, max: 12 }), { minLength: 60, maxLength: 60 });
  check(
    property(counts, reads, (all, readAfter) => {
      const store = new EventStore({ eventsMax: 8, bytesMax: 1024 });
      store.append(eventKindDns, record(8, 0), 0, 8, 77);
      const cursor = new EventCursor(store);
      let told = 0;
      let lost = 0;
      const read = (most: number): void => {
        for (let i = 0; i < most && cursor.next(); i++) {
          lost += cursor.takeLost();
          told += all[cursor.event - 1]!;
        }
      };
      all.forEach((count, i) => {
        store.append(eventKindLoss, record(8, i), 0, 8, count);
        read(readAfter[i]!);
      });
      read(Infinity);
      assert.equal(
        told + lost,
        all.reduce((sum, count) => sum + count, 0),
      );
    }),
    { seed, numRuns: 300 },
  );
});

test('readers are woken: soon after one event, at once after many', async () => {
  const store = new EventStore();
  let woken = 0;
  const end = store.subscribe(() => {
    woken += 1;
  });
  store.append(eventKindDns, record(8, 1), 0, 8);
  store.append(eventKindDns, record(8, 2), 0, 8);
  assert.equal(woken, 0);
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
  assert.equal(woken, 1);
  for (let i = 0; i < 4096; i++) store.append(eventKindDns, record(8, i), 0, 8);
  assert.equal(woken, 3);
  end();
  assert.equal(store.observers, 0);
});

test('records of shared memory are copied whole, wherever they lie', () => {
  const offsets = array(integer({ min: 0, max: 400 }), { minLength: 1, maxLength: 100 });
  check(
    property(offsets, integer({ min: 0, max: 9 }), (all, viewAt) => {
      const memory = new Uint8Array(new SharedArrayBuffer(512));
      for (let i = 0; i < memory.length; i++) memory[i] = (i * 7) & 0xff;
      // A view that does not begin where its memory does, and at its end a record without padding.
      const view = new Uint8Array(memory.buffer, viewAt);
      const store = new EventStore({ eventsMax: 4, bytesMax: 512 });
      for (const offset of all) {
        const length = Math.min(100, view.length - offset);
        const expected = view.slice(offset, offset + length);
        store.append(eventKindDns, view, offset, length);
        const at = store.offsetOf(store.next - 1);
        assert.deepEqual(store.bytes.slice(at, at + length), expected);
      }
    }),
    { seed, numRuns: 300 },
  );
});
