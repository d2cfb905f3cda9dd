// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  TD_JOURNAL_MESSAGE_BYTES,
  tdJournalHeader,
  tdJournalSlot,
  tdJournalState,
} from '@tandem/datapath/abi.gen';
import { inFlightMax } from '../limits.ts';
import { advanced, JournalRegion, type QuerySlot, regionBytes, stateOf } from './region.ts';
import { QuerySlots, slotLength } from './slots.ts';

const { FREE, RECEIVING, IN_FLIGHT, REPLYING } = tdJournalState;
const member = 1;

interface World {
  readonly memory: ArrayBuffer;
  readonly region: JournalRegion;
  readonly slots: QuerySlots;
}

function world(memory = new ArrayBuffer(regionBytes)): World {
  const region = new JournalRegion(memory, member);
  return { memory, region, slots: new QuerySlots(region) };
}

/** Takes a slot as another member does, after its copy is made. */
function take(region: JournalRegion, slot: QuerySlot): boolean {
  const word = region.word(slot);
  return region.swap(slot, word, advanced(word, FREE));
}

describe('slots', () => {
  test('every slot once, then none, then what was released', () => {
    const { slots } = world();
    const taken = Array.from({ length: inFlightMax }, (_, i) => {
      const slot = slots.take();
      slots.receive(slot);
      assert.ok(slots.arm(slot, i));
      return slot;
    });
    assert.deepEqual(new Set(taken).size, inFlightMax);
    assert.equal(slots.take(), -1);
    assert.equal(slots.inFlight, inFlightMax);
    const answered = taken[17]!;
    assert.ok(slots.reply(answered));
    assert.equal(slots.take(), -1, 'not before the reply is sent');
    slots.release(answered);
    assert.ok(!slots.isInFlight(answered) && slots.isInFlight(taken[18]!));
    assert.equal(slots.take(), answered);
  });

  test('only what is in flight has a time: the sweep looks at nothing else', () => {
    const { slots } = world();
    const slot = slots.take();
    slots.receive(slot);
    assert.ok(slots.startedUs.every((time) => time === Infinity));
    slots.arm(slot, 1000);
    assert.deepEqual(
      [...slots.startedUs.entries()].filter(([, time]) => time !== Infinity),
      [[slot, 1000]],
    );
    slots.reply(slot);
    assert.ok(slots.startedUs.every((time) => time === Infinity));
  });

  test('the state word tells where a query is, and its use', () => {
    const { slots, region } = world();
    const slot = slots.take();
    slots.receive(slot);
    const first = region.word(slot);
    assert.equal(stateOf(first), RECEIVING);
    slots.arm(slot, 5);
    assert.equal(stateOf(region.word(slot)), IN_FLIGHT);
    slots.reply(slot);
    assert.equal(stateOf(region.word(slot)), REPLYING);
    slots.release(slot);
    assert.equal(stateOf(region.word(slot)), FREE);
    assert.equal(slots.take(), slot);
    slots.receive(slot);
    assert.notEqual(region.word(slot), first, 'another use has another generation');
  });

  test('a slot that is received into is wiped as far as it was used', () => {
    const { slots, memory } = world();
    const slot = slots.take();
    slots.receive(slot);
    const bytes = new Uint8Array(memory);
    const message = slots.messageOf(slot);
    const name = slots.wordOf(slot) * 4 + tdJournalSlot.name;
    bytes.fill(7, name, message + 45);
    slots.filled(slot, 45);
    assert.ok(slots.recycle(slot));
    assert.ok(bytes.subarray(name, message + TD_JOURNAL_MESSAGE_BYTES).every((byte) => byte === 0));
  });

  test('scrap slots belong to nobody and have memory of their own', () => {
    const { slots, region } = world();
    const scrap = slots.scrap(63);
    assert.ok(slots.isScrap(scrap) && !slots.isScrap((inFlightMax - 1) as QuerySlot));
    assert.ok(slots.reply(scrap));
    assert.ok(slots.wordOf(scrap) * 4 >= region.scratchByte);
    assert.ok(!slots.isInFlight(scrap));
  });
});

describe('a slot that another member took over', () => {
  for (const [name, prepare, step] of [
    ['while received', () => undefined, (slots: QuerySlots, slot: QuerySlot) => slots.arm(slot, 2)],
    [
      'before a refusal',
      () => undefined,
      (slots: QuerySlots, slot: QuerySlot) => slots.reply(slot),
    ],
    [
      'in flight',
      (slots: QuerySlots, slot: QuerySlot) => slots.arm(slot, 1),
      (slots: QuerySlots, slot: QuerySlot) => slots.reply(slot),
    ],
  ] as const) {
    test(`${name} is that one's, and comes back`, () => {
      const { slots, region } = world();
      const slot = slots.take();
      const free = slots.free;
      slots.receive(slot);
      prepare(slots, slot);
      assert.ok(take(region, slot));
      assert.equal(step(slots, slot), false);
      assert.equal(slots.inFlight, 0);
      assert.ok(!slots.recycle(slot));
      slots.release(slot);
      assert.equal(slots.free, free, 'not twice');
      slots.collect();
      assert.equal(slots.free, free + 1);
      assert.ok(!slots.hasLeftovers);
    });
  }

  test('in flight is seen to be lost', () => {
    const { slots, region } = world();
    const slot = slots.take();
    slots.receive(slot);
    slots.arm(slot, 1);
    assert.ok(!slots.isLost(slot));
    assert.ok(take(region, slot));
    assert.ok(slots.isLost(slot));
  });
});

describe('a copy of what another member had', () => {
  test('can be taken over before it is in flight by our own count', () => {
    const { slots, region } = world();
    const slot = slots.take();
    slots.adopt(slot);
    assert.equal(stateOf(region.word(slot)), IN_FLIGHT);
    assert.ok(!slots.isInFlight(slot));
    assert.ok(slots.arm(slot, 5));
    assert.ok(slots.isInFlight(slot));
    assert.equal(slots.inFlight, 1);
    assert.ok(slots.reply(slot));
    assert.equal(slots.inFlight, 0);
  });

  test('that is refused is in the journal until the refusal is sent', () => {
    const { slots, region } = world();
    const slot = slots.take();
    slots.adopt(slot);
    assert.ok(slots.reply(slot));
    assert.equal(slots.inFlight, 0);
    assert.ok(slots.isReplying(slot));
    assert.equal(stateOf(region.word(slot)), REPLYING);
    const { free } = slots;
    slots.release(slot);
    assert.equal(slots.free, free + 1);
  });

  test('is free again when it is worth nothing, and gone when a third member took it', () => {
    const { slots, region } = world();
    const [worthless, taken] = [slots.take(), slots.take()];
    slots.adopt(worthless);
    slots.adopt(taken);
    const { free } = slots;
    slots.release(worthless);
    assert.equal(slots.free, free + 1);
    assert.ok(take(region, taken));
    assert.ok(!slots.arm(taken, 1));
    slots.release(taken);
    assert.equal(slots.free, free + 1);
    slots.collect();
    assert.equal(slots.free, free + 2);
  });
});

test('a new life takes what is free and leaves the rest as it was', () => {
  const before = world();
  const [received, inFlight] = [before.slots.take(), before.slots.take()];
  before.slots.receive(received);
  before.slots.receive(inFlight);
  before.slots.words[before.slots.wordOf(inFlight) + slotLength] = 33;
  before.slots.arm(inFlight, 1);
  const { slots, region } = world(before.memory);
  assert.equal(slots.free, inFlightMax - 2);
  assert.deepEqual(new Set(slots.leftovers()), new Set([received, inFlight]));
  assert.equal(stateOf(region.word(inFlight)), IN_FLIGHT);
  assert.equal(slots.words[slots.wordOf(inFlight) + slotLength], 33);
});

test('a region of an unknown layout is begun anew by its owner, and read by nobody', () => {
  const { memory, region, slots } = world();
  slots.receive(slots.take());
  new Uint32Array(memory, 0, tdJournalHeader.size / 4).fill(99);
  assert.ok(!region.isReadable);
  assert.equal(world(memory).slots.free, inFlightMax);
  assert.equal(region.takeTcpConnections(), 0);
  assert.ok(region.isReadable);
});

test('TCP connections of a run are found by the next one, once', () => {
  const { memory, region } = world();
  assert.equal(region.takeTcpConnections(), 0);
  region.setTcpConnections(3);
  region.setTcpConnections(2);
  const { region: next } = world(memory);
  assert.deepEqual([next.takeTcpConnections(), next.takeTcpConnections()], [2, 0]);
});
