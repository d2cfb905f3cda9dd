// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { UnixMessage } from '@tandem/dns-sockets/unix-seqpacket';
import { decodeHeavy, decodeHello, encodeHeavy, encodeHello, noListener } from './hello.ts';

for (const { what, listeners, fds, heavy } of [
  { what: 'both families', listeners: [5, 6, 7, 8, 9, 10], fds: [5, 6, 7, 8], heavy: [9, 10] },
  {
    what: 'IPv4 alone',
    listeners: [5, 6, noListener, noListener, 9, noListener],
    fds: [5, 6],
    heavy: [9],
  },
  {
    what: 'IPv6 alone',
    listeners: [noListener, noListener, 7, 8, noListener, 10],
    fds: [7, 8],
    heavy: [10],
  },
]) {
  test(`listeners of ${what} come out as they went in`, () => {
    const message = encodeHello(0, listeners);
    assert.deepEqual(message.fds, fds);
    const first = listeners.slice(0, 4);
    assert.deepEqual(decodeHello(message, 1), { member: 0, listeners: first, takesHeavy: true });
    const second = encodeHeavy(0, listeners) as UnixMessage;
    assert.deepEqual(second.fds, heavy);
    assert.deepEqual(decodeHeavy(second, 0), listeners.slice(4));
  });
}

test('a hello is understood by a version that knew four listeners only, and its hello here', () => {
  const { bytes, fds } = encodeHello(0, [5, 6, 7, 8, 9, 10]);
  assert.deepEqual([new Uint32Array(bytes.buffer)[3], fds], [0, [5, 6, 7, 8]]);
  new DataView(bytes.buffer).setUint32(4, 1, true);
  assert.equal(decodeHello({ bytes, fds }, 1)?.takesHeavy, false);
});

test('a member without listeners for pods that ask much sends none', () => {
  assert.equal(encodeHeavy(0, [5, 6, 7, 8, noListener, noListener]), null);
  assert.equal(encodeHeavy(0, [5, 6, 7, 8]), null);
});

test('a message with another number of descriptors than it names is none', () => {
  const { bytes } = encodeHello(0, [5, 6, noListener, noListener]);
  for (const fds of [[], [5], [5, 6, 7], [5, 6, 7, 8]]) {
    assert.equal(decodeHello({ bytes, fds }, 1), null, `${fds.length} descriptors`);
  }
  const none = encodeHello(
    0,
    Array.from({ length: 4 }, () => noListener),
  );
  assert.equal(decodeHello(none, 1), null);
  const heavy = encodeHeavy(0, [5, 6, 7, 8, 9, noListener]) as UnixMessage;
  for (const fds of [[], [9, 10]]) assert.equal(decodeHeavy({ bytes: heavy.bytes, fds }, 0), null);
});

test('neither message is taken for the other, nor another member’s', () => {
  const hello = encodeHello(0, [5, 6, noListener, noListener]);
  const heavy = encodeHeavy(0, [5, 6, 7, 8, 9, 10]) as UnixMessage;
  assert.equal(decodeHeavy(hello, 0), null);
  assert.equal(decodeHello(heavy, 1), null);
  assert.equal(decodeHeavy(heavy, 1), null);
  assert.equal(decodeHello(hello, 0), null);
});
