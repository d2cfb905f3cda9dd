// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Batch } from './batch.ts';

test('the number of a batch is never that of no batch', () => {
  const batch = new Batch();
  const clock = new Float64Array(2);
  for (const last of [0x7fffffff, -2]) {
    batch.number = last;
    batch.begin(clock);
    assert.ok(batch.number >= 0, `${last} is followed by ${batch.number}`);
  }
});
