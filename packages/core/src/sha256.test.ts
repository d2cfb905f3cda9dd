// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digest32, digest128 } from './sha256.ts';

test('digests are the beginning of the hash of the UTF-8 text', () => {
  // FIPS 180-4, example of one block; the second by sha256sum.
  assert.equal(digest128('abc'), 'ba7816bf8f01cfea414140de5dae2223');
  assert.equal(digest32('abc'), 0xba7816bf);
  assert.equal(digest128('größe'), 'd353a2671b67afff0941ae456e5c76e9');
});
