// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { decodeHello, encodeHello, noListener } from './hello.ts';

for (const { what, listeners, fds } of [
  { what: 'both families', listeners: [5, 6, 7, 8], fds: [5, 6, 7, 8] },
  { what: 'IPv4 alone', listeners: [5, 6, noListener, noListener], fds: [5, 6] },
  { what: 'IPv6 alone', listeners: [noListener, noListener, 7, 8], fds: [7, 8] },
]) {
  test(`a hello with listeners of ${what} comes out as it went in`, () => {
    const message = encodeHello({ member: 0, listeners });
    assert.deepEqual(message.fds, fds);
    assert.deepEqual(decodeHello(message, 1), { member: 0, listeners });
  });
}

test('a hello of a version that knew four listeners only is understood', () => {
  const { bytes } = encodeHello({ member: 0, listeners: [5, 6, 7, 8] });
  assert.deepEqual(new Uint32Array(bytes.buffer)[3], 0);
});

test('a hello with another number of descriptors than it names is none', () => {
  const { bytes } = encodeHello({ member: 0, listeners: [5, 6, noListener, noListener] });
  for (const fds of [[], [5], [5, 6, 7], [5, 6, 7, 8]]) {
    assert.equal(decodeHello({ bytes, fds }, 1), null, `${fds.length} descriptors`);
  }
  const none = encodeHello({ member: 0, listeners: Array.from({ length: 4 }, () => noListener) });
  assert.equal(decodeHello(none, 1), null);
});
