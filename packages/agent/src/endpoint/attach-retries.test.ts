// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attachRetryMs, reconcileIntervalMs } from '../limits.ts';
import { AttachRetries } from './attach-retries.ts';

test('the time between tries doubles, and ends with that of the reconciliation', () => {
  let now = 1000;
  const retries = new AttachRetries(() => now);
  assert.equal(retries.nextMs, null);
  const waits: number[] = [];
  retries.tried([7]);
  for (let ms = retries.nextMs; ms !== null; ms = retries.nextMs) {
    waits.push(ms);
    now += ms;
    retries.tried([7]);
  }
  assert.deepEqual(waits.slice(0, 5), [100, 100, 200, 400, 800]);
  assert.ok(waits.every((ms) => ms >= attachRetryMs && ms < reconcileIntervalMs));
  assert.ok(waits.length < 10, `${waits.length} tries`);
});

test('a pod that fails later does not wait as long as one that fails for long', () => {
  let now = 0;
  const retries = new AttachRetries(() => now);
  retries.tried([7]);
  now = 60_000;
  retries.tried([7]);
  assert.equal(retries.nextMs, null, 'by the reconciliation alone');
  retries.tried([7, 8]);
  assert.equal(retries.nextMs, attachRetryMs);
  retries.tried([7]);
  assert.equal(retries.nextMs, null);
});

test('what was attached, or is wanted no more, begins anew', () => {
  let now = 0;
  const retries = new AttachRetries(() => now);
  retries.tried([7]);
  now = 800;
  retries.tried([7]);
  assert.equal(retries.nextMs, 800);
  retries.tried([]);
  assert.equal(retries.nextMs, null);
  retries.tried([7]);
  assert.equal(retries.nextMs, attachRetryMs);
});
