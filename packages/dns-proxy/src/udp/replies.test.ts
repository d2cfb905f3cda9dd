// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QueryView } from '@tandem/core/dns/query';
import { RECORD_WORDS, RX_LENGTH, RX_OFFSET } from '@tandem/dns-sockets/layout';
import { counter, createSharedCounters } from '../counters.ts';
import { JournalRegion, regionBytes } from '../journal/region.ts';
import { QuerySlots, slotLength, slotQuestionEnd, slotUpstreamId } from '../journal/slots.ts';
import { batchMax } from '../limits.ts';
import { InFlight } from './in-flight.ts';
import type { UdpParts } from './parts.ts';
import { UdpReplies } from './replies.ts';
import type { SocketHandle } from './upstream-sockets.ts';

const id = 0x1234;
const socket = 3 as SocketHandle;
// The root, type A, class IN.
const question = [0, 0, 1, 0, 1];
const header = (flags: number): readonly number[] => [0x12, 0x34, flags, 0, 0, 1, 0, 0, 0, 0, 0, 0];

test('a reply that the address has no pod for frees its slot once, also if by then the pod of the query seems to be there', () => {
  const slots = new QuerySlots(new JournalRegion(new ArrayBuffer(regionBytes), 1));
  const memory = new Uint8Array(slots.region.memory);
  const counters = createSharedCounters();
  const slot = slots.take();
  const free = slots.free + 1;
  slots.receive(slot);
  assert.ok(slots.arm(slot, 1));
  memory.set([...header(1), ...question], slots.messageOf(slot));
  const at = slots.wordOf(slot);
  slots.words[at + slotLength] = 17;
  slots.words[at + slotQuestionEnd] = 17;
  slots.words[at + slotUpstreamId] = id;
  const sent: number[] = [];
  const lookup = {
    begin: () => undefined,
    // The agent writes the map in between, or a new pod got the owner slot of the former one.
    isStillOf: () => false,
    flowOf: () => 0,
    flows: { policyId: [0], endpointSlot: [0] },
    acceptSetOf: () => 0,
    isAllowed: () => true,
    limits: { endpoints: { ownerId: [9] }, end: () => undefined },
  };
  const options = {
    ...{ memory, slots, counters, lookup },
    batch: { monotonicNs: 0 },
    query: new QueryView({ low: 1, high: 2 }),
    ids: { find: () => slot, release: () => undefined },
    pool: {
      ...{ received: () => undefined, saltOf: () => 0 },
      ...{ answered: () => undefined, unanswered: () => undefined },
    },
    answers: { begin: () => undefined, flush: () => undefined, accept: () => undefined },
    outgoing: {
      append: (which: number) => sent.push(which),
      releaseAfter: (which: typeof slot) => slots.release(which),
      flush: () => undefined,
    },
    upstreams: { rx: new Uint32Array(batchMax * RECORD_WORDS) },
  };
  const inFlight = new InFlight(options as unknown as UdpParts);
  inFlight.isSent = () => true;
  const replies = new UdpReplies({ ...options, inFlight } as unknown as UdpParts);
  const { rx } = options.upstreams;
  rx[RX_LENGTH] = 17;
  memory.set([...header(0x81), ...question], rx[RX_OFFSET]);
  replies.onReplies(socket, 1);
  assert.equal(counters[counter.repliesToGonePods], 1);
  assert.deepEqual(sent, []);
  assert.equal(slots.free, free, 'free once: else two queries would have one slot');
});
