// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { counter, createSharedCounters } from '../counters.ts';
import { JournalRegion, regionBytes } from '../journal/region.ts';
import { QuerySlots } from '../journal/slots.ts';
import { batchMax, udpQueryBytesMax } from '../limits.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import { Outgoing } from './outgoing.ts';

test('replies that cannot be sent are counted, and their slots are free again', () => {
  const slots = new QuerySlots(new JournalRegion(new ArrayBuffer(regionBytes), 1));
  const memory = new Uint8Array(slots.region.memory);
  const counters = createSharedCounters();
  using listeners = new UdpLoop<ListenerHandle>({
    buffer: new Uint8Array(batchMax * udpQueryBytesMax),
    slots: batchMax,
    slotBytes: udpQueryBytesMax,
    onBatch: () => undefined,
    onSocketError: () => undefined,
  });
  const outgoing = new Outgoing({ memory, slots, listeners, counters });
  const { free } = slots;
  for (let i = 0; i < 2; i++) {
    const slot = slots.take();
    slots.receive(slot);
    assert.ok(slots.arm(slot, i) && slots.reply(slot));
    // The slot names no open listener.
    outgoing.append(slot, 0, 12);
    outgoing.releaseAfter(slot);
  }
  outgoing.flush();
  assert.equal(counters[counter.replySendErrors], 2);
  assert.equal(slots.free, free);
});
