// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A loop that sends every datagram back where it came from, from the address it went to. */

import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { closeFd, localPort } from '../src/fd.ts';
import * as layout from '../src/layout.ts';
import { createListener } from '../src/listener.ts';
import { UdpLoop, type UdpLoopOptions } from '../src/udp-loop.ts';

/** Appends the answer to rx record `slot`; payload and addresses are taken as they are. */
export function appendEcho(loop: UdpLoop, handle: number, slot: number): void {
  const { rx, tx, header } = loop;
  const count = header[layout.HEADER_TX_COUNT]!;
  const from = slot * layout.RECORD_WORDS;
  const to = count * layout.RECORD_WORDS;
  tx[to + layout.TX_HANDLE] = handle;
  tx[to + layout.TX_OFFSET] = rx[from + layout.RX_OFFSET]!;
  tx[to + layout.TX_LENGTH] = rx[from + layout.RX_LENGTH]!;
  tx[to + layout.TX_PORT] = rx[from + layout.RX_PEER_PORT]!;
  tx[to + layout.TX_IFINDEX] = 0;
  for (let word = 0; word < 4; word++) {
    tx[to + layout.TX_DESTINATION + word] = rx[from + layout.RX_PEER + word]!;
    tx[to + layout.TX_SOURCE + word] = rx[from + layout.RX_DESTINATION + word]!;
  }
  header[layout.HEADER_TX_COUNT] = count + 1;
}

/** An echo server; what `options` names replaces its parts. */
export function echoLoop(options: Partial<UdpLoopOptions> = {}): UdpLoop {
  const loop: UdpLoop = new UdpLoop({
    buffer: new Uint8Array(64 * 512),
    slotBytes: 512,
    onBatch(handle, count) {
      for (let slot = 0; slot < count; slot++) appendEcho(loop, handle, slot);
    },
    onSocketError: (_handle, errno) => assert.fail(`socket error ${errno}`),
    ...options,
  });
  return loop;
}

/** An unguarded UDP listener on a free port. */
export function openListener(family: 4 | 6 = 4): number {
  return createListener({
    family,
    protocol: 'udp',
    port: 0,
    mark: 0,
    markMask: 0,
    redirectMark: 0,
  });
}

/** A listener in `loop` and a dgram client connected to it. */
export async function echoPair(
  loop: UdpLoop,
  family: 4 | 6 = 4,
): Promise<[handle: number, client: Socket]> {
  const fd = openListener(family);
  const handle = loop.add(fd, 'listener');
  const client = createSocket(family === 4 ? 'udp4' : 'udp6');
  client.connect(localPort(fd), family === 4 ? '127.0.0.1' : '::1');
  await once(client, 'connect');
  closeFd(fd);
  return [handle, client];
}
