// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import { closeFd, localPort } from './fd.ts';
import * as layout from './layout.ts';
import { createListener } from './listener.ts';
import { UdpLoop } from './udp-loop.ts';

const { RECORD_WORDS, RECORD_BYTES } = layout;
const open = { mark: 0, markMask: 0, redirectMark: 0, port: 0 } as const;

test('an echo relay answers over IPv4 and IPv6', async () => {
  for (const family of [4, 6] as const) {
    const fd = createListener({ ...open, family, protocol: 'udp' });
    const loop: UdpLoop = new UdpLoop({
      buffer: new Uint8Array(64 * 512),
      slotBytes: 512,
      onBatch(handle, count) {
        for (let i = 0; i < count; i++) {
          const at = i * RECORD_WORDS;
          loop.tx[at + layout.TX_HANDLE] = handle;
          loop.tx[at + layout.TX_OFFSET] = loop.rx[at + layout.RX_OFFSET] as number;
          loop.tx[at + layout.TX_LENGTH] = loop.rx[at + layout.RX_LENGTH] as number;
          loop.tx[at + layout.TX_PORT] = loop.rx[at + layout.RX_PEER_PORT] as number;
          const byte = i * RECORD_BYTES;
          loop.txBytes.set(loop.rxBytes.subarray(byte + 32, byte + 64), byte + 32);
        }
        loop.header[layout.HEADER_TX_COUNT] = count;
      },
      onSocketError: (_, errno) => assert.fail(`errno ${errno}`),
    });
    loop.add(fd, 'listener');
    const client = createSocket(family === 4 ? 'udp4' : 'udp6');
    client.send('hello', localPort(fd), family === 4 ? '127.7.7.7' : '::1');
    const [message, info] = await once(client, 'message');
    assert.equal(String(message), 'hello');
    assert.equal(info.address, family === 4 ? '127.7.7.7' : '::1');
    assert.equal(loop.stats().sent, 1);
    client.close();
    loop.close();
    closeFd(fd);
  }
});
