// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Late sockets: a server that sends without end, to all sockets of its pod, delays nothing that comes to others. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { echoLoop, openListener } from '../test/echo.ts';
import { until } from '../test/wait.ts';
import { closeFd, localPort } from './fd.ts';
import * as layout from './layout.ts';
import type { UdpLoop } from './udp-loop.ts';
import { createUpstreamUdp } from './upstream.ts';

const loopback = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 127, 0, 0, 1);
/** As poll.c has it. */
const latePerWake = 8;

/** Sends from a socket of the loop, before this thread waits again. */
function send(loop: UdpLoop, handle: number, port: number, count: number): void {
  const { header, tx, txBytes } = loop;
  for (let i = 0; i < count; i++) {
    const at = i * layout.RECORD_WORDS;
    tx[at + layout.TX_HANDLE] = handle;
    tx[at + layout.TX_LENGTH] = 9;
    tx[at + layout.TX_PORT] = port;
    txBytes.set(loopback, (at + layout.TX_DESTINATION) * 4);
  }
  header[layout.HEADER_TX_COUNT] = count;
  assert.equal(loop.flush(), count);
}

test('a few of those that are ready have one batch a wake, after all others, each in its turn', async () => {
  const lateCount = 80;
  const batches: number[] = [];
  let received = 0;
  using loop = echoLoop({
    onBatch(handle, count) {
      batches.push(handle);
      received += count;
    },
  });
  const open = (port: number, kind: 'connected' | 'late'): [handle: number, port: number] => {
    const fd = createUpstreamUdp({ address: loopback, port });
    const opened: [number, number] = [loop.add(fd, kind), localPort(fd)];
    closeFd(fd);
    return opened;
  };
  const [server, listener] = [openListener(), openListener()];
  const serverHandle = loop.add(server, 'listener');
  const listenerHandle = loop.add(listener, 'listener');
  const late = Array.from({ length: lateCount }, () => open(localPort(server), 'late'));
  const [resolver, resolverPort] = open(localPort(server), 'connected');
  // All before this thread waits again; the late ones are ready first.
  const each = 2 * loop.slots;
  for (const [, port] of late) send(loop, serverHandle, port, each);
  for (let i = 0; i < 2; i++) {
    send(loop, serverHandle, localPort(listener), each);
    send(loop, serverHandle, resolverPort, each);
  }
  await until(() => received === (lateCount + 4) * each, 'all');
  const kinds = batches.map((handle) =>
    handle === listenerHandle || handle === resolver ? 'other' : 'late',
  );
  const wake = [
    'other',
    'other',
    'other',
    'other',
    ...Array.from({ length: latePerWake }, () => 'late'),
  ];
  assert.deepEqual(kinds.slice(0, 2 * wake.length), [...wake, ...wake]);
  const lateBatches = batches.filter((_, i) => kinds[i] === 'late');
  assert.equal(lateBatches.length, 2 * lateCount);
  assert.equal(
    new Set(lateBatches.slice(0, lateCount)).size,
    lateCount,
    'none twice before all once',
  );
  assert.ok(loop.remove(late[0]![0]));
  send(loop, serverHandle, late[0]![1], 1);
  send(loop, serverHandle, late[1]![1], 1);
  await until(() => batches.at(-1) === late[1]![0], 'the other');
  assert.equal(received, (lateCount + 4) * each + 1, 'one that was removed gets nothing more');
  for (const fd of [server, listener]) closeFd(fd);
});
