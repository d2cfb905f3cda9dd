// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import { closeFd, localPort } from '@tandem/dns-sockets/fd';
import { createListener } from '@tandem/dns-sockets/listener';
import { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { waitFor } from '@tandem/testing/wait';
import {
  counter,
  createSharedCounters,
  queuedBytesIndex,
  queuedHeavyBytesIndex,
} from '../counters.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import { ListenerMemory } from './listener-memory.ts';

const heavyKind = 4;

test('what the kernel queued and dropped is told by lane, each drop once', async () => {
  const counters = createSharedCounters();
  using loop = new UdpLoop<ListenerHandle>({
    buffer: new Uint8Array(64 * 512),
    slotBytes: 512,
    onBatch: () => undefined,
    onSocketError: () => undefined,
  });
  const open = (): number =>
    createListener({
      ...{ family: 4, protocol: 'udp', port: 0, mark: 0, markMask: 0, redirectMark: 0 },
      receiveBufferBytes: 4096,
    });
  const [light, heavy] = [open(), open()];
  const handles: ListenerHandle[] = [];
  handles[0] = loop.add(light, 'listener');
  handles[heavyKind] = loop.add(heavy, 'heavy');
  const memory = new ListenerMemory(loop, counters, handles);
  const client = createSocket('udp4');
  try {
    memory.look();
    assert.deepEqual([counters[counter.queueDrops], counters[counter.queueDropsHeavy]], [0, 0]);
    // Nothing is read while this thread does not return to its event loop.
    client.connect(localPort(heavy), '127.0.0.1');
    await once(client, 'connect');
    const sent = 500;
    // Of a connected socket Node sends at once.
    for (let i = 0; i < sent; i++) client.send('query');
    memory.look();
    const dropped = counters[counter.queueDropsHeavy]!;
    assert.ok(dropped > 0 && dropped < sent, `${dropped} dropped`);
    assert.ok(counters[queuedHeavyBytesIndex]! > 0);
    assert.deepEqual([counters[counter.queueDrops], counters[queuedBytesIndex]], [0, 0]);
    memory.look();
    assert.equal(counters[counter.queueDropsHeavy], dropped);
    await waitFor(
      () => {
        memory.look();
        return counters[queuedHeavyBytesIndex] === 0;
      },
      { what: 'the queue to be read' },
    );
    assert.equal(counters[counter.queueDropsHeavy], dropped);
  } finally {
    client.close();
    for (const fd of [light, heavy]) closeFd(fd);
  }
});
