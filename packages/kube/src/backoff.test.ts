// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Backoff } from './backoff.ts';
import { backoffFirstMs, backoffMaxMs, connectBackoffMaxMs } from './limits.ts';

const waits = (backoff: Backoff, count: number): readonly number[] =>
  Array.from({ length: count }, () => backoff.next());

test('the bound of a wait doubles up to the largest, and a success begins anew', () => {
  const backoff = new Backoff(backoffMaxMs, () => 1);
  assert.deepEqual(
    waits(backoff, 8),
    [1, 2, 4, 8, 16, 32, 60, 60].map((each) => each * 1000),
  );
  backoff.reset();
  assert.equal(backoff.next(), backoffFirstMs);
  assert.equal(waits(new Backoff(connectBackoffMaxMs, () => 1), 9).at(-1), connectBackoffMaxMs);
});

test('a wait is anything from nothing to its bound, and no two processes have the same', () => {
  assert.deepEqual(waits(new Backoff(backoffMaxMs, () => 0), 3), [0, 0, 0]);
  const drawn = waits(new Backoff(backoffFirstMs), 1000);
  assert.ok(drawn.every((each) => each >= 0 && each < backoffFirstMs));
  const mean = drawn.reduce((sum, each) => sum + each, 0) / drawn.length;
  assert.ok(mean > backoffFirstMs * 0.4 && mean < backoffFirstMs * 0.6, `${mean} ms`);
  assert.ok(new Set(drawn).size > drawn.length * 0.9);
});
