// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Endpoint of a query in the journal: a replay decides on it for that endpoint alone. */

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { QueryView } from '@tandem/core/dns/query';
import type { GroupIndex } from '@tandem/core/ids';
import { TD_JOURNAL_CELL_BYTES } from '@tandem/datapath/abi.gen';
import { RECORD_WORDS, RX_LENGTH, RX_OFFSET } from '@tandem/dns-sockets/layout';
import { counter, createSharedCounters } from '../counters.ts';
import { JournalRegion, type QuerySlot, regionBytes, stateOf } from '../journal/region.ts';
import {
  QuerySlots,
  slotEndpointId,
  slotEndpointMs,
  slotLength,
  slotReceivedMs,
} from '../journal/slots.ts';
import { batchMax } from '../limits.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import { roomFree } from '../policy/query-limits.ts';
import { notReady } from '../query/policy-lookup.ts';
import type { UdpParts } from './parts.ts';
import { UdpQueries } from './queries.ts';

const nothing = (): void => undefined;
/** For A of the root. */
const query = Uint8Array.of(0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1);
const nowMs = 1000;

let slots: QuerySlots;
let queries: UdpQueries;
let counters: Float64Array;
let rx: Uint32Array;
/** Slots of queries that were forwarded, or that we answer. */
let begun: QuerySlot[];
let answered: QuerySlot[];
let isAllowed: boolean;
/** Result of the look-up of a flow. */
let flow: number;

beforeEach(() => {
  slots = new QuerySlots(new JournalRegion(new ArrayBuffer(regionBytes), 0 as GroupIndex));
  counters = createSharedCounters();
  rx = new Uint32Array(batchMax * RECORD_WORDS);
  begun = [];
  answered = [];
  isAllowed = false;
  flow = 0;
  const options = {
    ...{ memory: new Uint8Array(slots.region.memory), slots, counters },
    query: new QueryView({ low: 1, high: 2 }),
    batch: { monotonicNs: nowMs * 1e6, boottimeNs: nowMs * 1e6, number: 1 },
    listeners: { rx },
    forwards: { append: nothing, flush: nothing },
    outgoing: {
      write: (slot: QuerySlot) => void answered.push(slot),
      ...{ releaseAfter: nothing, flush: nothing },
    },
    report: { denied: nothing },
    denial: { rcodeFor: () => 5 },
    inFlight: {
      begin: (slot: QuerySlot) => {
        begun.push(slot);
        return 0;
      },
    },
    lookup: {
      begin: nothing,
      flowOf: () => flow,
      isAddressOf: (endpointId: number) => endpointId === 6,
      flows: { endpointSlot: [1], policySlot: [0], policyId: [1], namespaceId: [0], trusted: [0] },
      acceptSetOf: () => 0,
      isAllowed: () => isAllowed,
      // The endpoint that has the address by now.
      limits: { endpoints: { ownerId: [0, 6] }, takeToken: () => true, room: () => roomFree },
    },
  };
  queries = new UdpQueries(options as unknown as UdpParts);
});

for (const what of ['forwarded', 'refused', 'answered with SERVFAIL'] as const) {
  test(`a query of another endpoint is not ${what} when it is replayed`, () => {
    isAllowed = what === 'forwarded';
    if (what === 'answered with SERVFAIL') flow = notReady;
    for (const endpointId of [5, 6]) {
      const slot = slots.take();
      const at = slots.wordOf(slot);
      new Uint8Array(slots.region.memory).set(query, slots.messageOf(slot));
      slots.words[at + slotLength] = query.length;
      slots.words[at + slotReceivedMs] = nowMs;
      slots.words[at + slotEndpointMs] = nowMs;
      slots.words[at + slotEndpointId] = endpointId;
      slots.adopt(slot);
      queries.replay(slot);
      if (endpointId === 5) assert.equal(stateOf(slots.region.word(slot)), 0, 'its slot is free');
    }
    assert.equal((isAllowed ? begun : answered).length, 1);
    assert.equal(counters[counter.repliesToGonePods], 1);
  });
}

test('a query that is refused has no endpoint of the former query in its slot', () => {
  // The slot of the first rx record, which a query of this millisecond had.
  const slot = ((rx[RX_OFFSET]! - slots.messageOf(0 as QuerySlot)) /
    TD_JOURNAL_CELL_BYTES) as QuerySlot;
  const at = slots.wordOf(slot);
  slots.words[at + slotEndpointId] = 5;
  slots.words[at + slotEndpointMs] = nowMs;
  new Uint8Array(slots.region.memory).set(query, slots.messageOf(slot));
  rx[RX_LENGTH] = query.length;
  queries.onQueries(0 as ListenerHandle, 1);
  assert.equal(answered[0], slot);
  assert.equal(slots.words[at + slotReceivedMs], nowMs);
  assert.notEqual(slots.words[at + slotEndpointMs], nowMs);
});
