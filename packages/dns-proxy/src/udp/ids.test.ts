// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QuerySlot } from '../journal/region.ts';
import { inFlightMax } from '../limits.ts';
import { RandomPool } from '../query/random.ts';
import { UpstreamIds } from './ids.ts';

test('as many ids as queries may be in flight; each finds its slot until it is released', () => {
  const ids = new UpstreamIds(new RandomPool());
  const salts = [0, 0xbeef, 0x1234];
  const taken = Array.from({ length: inFlightMax }, (_, slot) => {
    const salt = salts[slot % 3]!;
    return { slot, salt, id: ids.take(slot as QuerySlot, salt) };
  });
  for (const { slot, salt, id } of taken) {
    assert.ok(id >= 0 && id <= 0xffff, 'a place was free within the draws');
    assert.equal(ids.find(id, salt), slot);
  }
  for (const { id, salt } of taken) ids.release(id, salt);
  for (const { id, salt } of taken) assert.equal(ids.find(id, salt), -1);
});

test('ids are spread evenly', () => {
  const ids = new UpstreamIds(new RandomPool());
  const counts = new Uint32Array(16);
  const draws = 64_000;
  for (let i = 0; i < draws; i++) {
    const id = ids.take(1 as QuerySlot, 77);
    ids.release(id, 77);
    counts[id >> 12] = counts[id >> 12]! + 1;
  }
  // 4,000 expected in each; nine standard deviations.
  for (const count of counts) assert.ok(Math.abs(count - draws / 16) < 550, `${counts}`);
});

test('a random number is given out once and not kept', () => {
  const pool = new RandomPool();
  const seen = new Map<number, number>();
  for (let i = 0; i < 40_000; i++) {
    const value = pool.u16();
    seen.set(value, (seen.get(value) ?? 0) + 1);
  }
  assert.ok(seen.size > 25_000, `${seen.size} distinct`);
  assert.ok(Math.max(...seen.values()) < 12);
});
