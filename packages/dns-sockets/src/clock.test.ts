// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { boottimeSeconds, clockInto, monotonicNs } from './clock.ts';

test('the clocks are the kernel’s, in every array type', () => {
  const before = process.hrtime.bigint();
  const big = new BigInt64Array(2);
  const unsigned = new BigUint64Array(2);
  const float = new Float64Array(2);
  clockInto(big);
  clockInto(unsigned);
  clockInto(float);
  const after = process.hrtime.bigint();
  for (const monotonic of [big[0], unsigned[0]] as bigint[]) {
    assert.ok(before <= monotonic && monotonic <= after);
  }
  assert.ok(Number(before) <= float[0]! && float[0]! <= Number(after));
  assert.ok((big[1] as bigint) >= (big[0] as bigint), 'boottime counts suspend, too');
  assert.ok(monotonicNs() >= Number(after));
  assert.ok(boottimeSeconds() * 1e9 >= Number(big[1]));
});

test('an array of one gets the monotonic clock only', () => {
  const words = new BigInt64Array(3);
  clockInto(words.subarray(1, 2));
  assert.equal(words[0], 0n);
  assert.notEqual(words[1], 0n);
  assert.equal(words[2], 0n);
});
