// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { digest128, sha256 } from './sha256.ts';

test('equals the platform’s SHA-256 around every block boundary', () => {
  for (let length = 0; length <= 260; length++) {
    const bytes = Uint8Array.from({ length }, (_, index) => (index * 7 + length) & 0xff);
    const want = createHash('sha256').update(bytes).digest('hex');
    const got = [...sha256(bytes)].map((word) => word.toString(16).padStart(8, '0')).join('');
    assert.equal(got, want, `${length} bytes`);
  }
});

test('a view into a larger buffer is hashed alone', () => {
  const whole = new TextEncoder().encode('xxabcxx');
  assert.deepEqual(sha256(whole.subarray(2, 5)), sha256(new TextEncoder().encode('abc')));
});

test('digest128 is the first half of the hash of the UTF-8 text', () => {
  const want = createHash('sha256').update('größe').digest('hex').slice(0, 32);
  assert.equal(digest128('größe'), want);
});
