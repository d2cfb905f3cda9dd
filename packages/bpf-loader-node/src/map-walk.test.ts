// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { readU32, u32 } from '../test/fixture.ts';
import { BpfError } from './errors.ts';
import { BatchCursor, BpfMap, mapFlag, mapIds, mapType } from './map.ts';

const entryCount = 5000;

function sequence(count: number, first = 0): Uint8Array {
  return new Uint8Array(Uint32Array.from({ length: count }, (_, i) => first + i).buffer);
}

function hash(maxEntries = 8192): BpfMap {
  return BpfMap.create({
    type: mapType.hash,
    name: 'test_walk',
    keySize: 4,
    valueSize: 4,
    maxEntries,
  });
}

function filledHash(): BpfMap {
  const map = hash();
  map.updateBatch(sequence(entryCount), sequence(entryCount, 7), entryCount);
  return map;
}

function keysOf(map: BpfMap): number[] {
  return [...map.entries()].map(([key]) => readU32(key)).toSorted((a, b) => a - b);
}

test('batches write, read and delete many', () => {
  using map = filledHash();
  const cursor = new BatchCursor(map.keySize);
  const keys = new Uint8Array(4 * 600);
  const values = new Uint8Array(4 * 600);
  const seen = new Set<number>();
  while (!cursor.isDone) {
    const count = map.lookupBatch(cursor, keys, values, 600);
    for (let i = 0; i < count; i++) {
      assert.equal(readU32(values, i), readU32(keys, i) + 7);
      seen.add(readU32(keys, i));
    }
  }
  assert.equal(seen.size, entryCount);
  assert.equal(map.lookupBatch(cursor, keys, values, 600), 0, 'after the end');
  map.deleteBatch(sequence(4000), 4000);
  assert.deepEqual(keysOf(map), [...new Uint32Array(sequence(1000, 4000).buffer)]);
});

test('a batch that stops tells how far it came', () => {
  using map = hash(10);
  assert.throws(
    () => map.updateBatch(sequence(20), sequence(20), 20),
    (error: unknown) =>
      error instanceof BpfError && error.code === 'TANDEM_BPF_FULL' && error.completed === 10,
  );
  assert.throws(
    () => map.deleteBatch(u32(3, 4, 77, 5), 4),
    (error: unknown) =>
      error instanceof BpfError && error.code === 'TANDEM_BPF_NOT_FOUND' && error.completed === 2,
  );
  assert.equal(keysOf(map).length, 8);
  map.updateBatch(u32(), u32(), 0);
  const cursor = new BatchCursor(4);
  assert.throws(() => map.lookupBatch(cursor, u32(), u32(), 0), RangeError);
});

test('an empty map has no entries', () => {
  using map = hash();
  assert.deepEqual([...map.entries()], []);
});

test('deleting while walking a hash sees each entry once', () => {
  using map = filledHash();
  const seen = new Set<number>();
  for (const [key, value] of map.entries()) {
    assert.equal(readU32(value), readU32(key) + 7);
    assert.ok(!seen.has(readU32(key)), `twice: ${readU32(key)}`);
    seen.add(readU32(key));
    assert.ok(map.delete(key));
  }
  assert.equal(seen.size, entryCount);
  assert.deepEqual([...map.entries()], []);
});

test('adding while walking a hash neither loses old entries nor goes on for ever', () => {
  using map = filledHash();
  const seen = new Set<number>();
  let added = entryCount;
  for (const [key] of map.entries()) {
    seen.add(readU32(key));
    if (added < 8000) map.update(u32(added), u32(added + 7));
    added += 1;
  }
  for (let key = 0; key < entryCount; key++) assert.ok(seen.has(key), `lost: ${key}`);
});

test('entries stay as they were read', () => {
  using map = filledHash();
  const [first] = map.entries();
  assert.ok(first !== undefined);
  const key = readU32(first[0]);
  map.update(first[0], u32(0));
  assert.equal(readU32(first[0]), key);
  assert.equal(readU32(first[1]), key + 7);
});

test('deleting while walking a trie sees each entry once', () => {
  using map = BpfMap.create({
    type: mapType.lpmTrie,
    name: 'test_trie_walk',
    keySize: 8,
    valueSize: 4,
    maxEntries: 4096,
    flags: mapFlag.noPrealloc,
  });
  const count = 3000;
  const keys = new Uint8Array(8 * count);
  for (let i = 0; i < count; i++) keys.set([32, 0, 0, 0, 10, 0, i >> 8, i & 255], 8 * i);
  map.updateBatch(keys, sequence(count), count);
  const seen = new Set<number>();
  for (const [key, value] of map.entries()) {
    assert.ok(!seen.has(readU32(value)));
    seen.add(readU32(value));
    map.delete(key);
  }
  assert.equal(seen.size, count);
});

test('arrays and per-CPU hashes are walked too', () => {
  using array = BpfMap.create({
    type: mapType.array,
    name: 'test_array_walk',
    keySize: 4,
    valueSize: 3,
    maxEntries: 1500,
  });
  array.update(u32(1499), Uint8Array.of(1, 2, 3));
  const entries = [...array.entries()];
  assert.equal(entries.length, 1500);
  assert.deepEqual(entries[1499], [u32(1499), Uint8Array.of(1, 2, 3)]);
  using perCpu = BpfMap.create({
    type: mapType.percpuHash,
    name: 'test_cpu_walk',
    keySize: 4,
    valueSize: 8,
    maxEntries: 100,
  });
  for (let i = 0; i < 50; i++) {
    perCpu.update(u32(i), new Uint8Array(perCpu.valueBytes).fill(i));
  }
  for (const [key, value] of perCpu.entries()) {
    assert.deepEqual(value, new Uint8Array(perCpu.valueBytes).fill(readU32(key)));
  }
  assert.equal(keysOf(perCpu).length, 50);
});

test('keys in the kernel’s order, one by one', () => {
  using map = hash();
  map.updateBatch(sequence(3), sequence(3), 3);
  const seen = new Set<number>();
  const next = new Uint8Array(4);
  for (let key: Uint8Array | null = null; map.nextKeyInto(key, next); ) {
    seen.add(readU32(next));
    key = next.slice();
  }
  assert.deepEqual(
    [...seen].toSorted((a, b) => a - b),
    [0, 1, 2],
  );
});

test('ids of all maps include ours', () => {
  using map = hash();
  assert.ok([...mapIds()].includes(map.id));
});
