// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inFlightMax, slotBytes, slotHeaderBytes } from '../limits.ts';
import { QuerySlots, slotGeneration } from './slots.ts';

const slotsOf = (): QuerySlots => new QuerySlots(new ArrayBuffer(inFlightMax * slotBytes));

test('every slot once, then none, then what was released', () => {
  const slots = slotsOf();
  const taken = new Set<number>();
  for (let i = 0; i < inFlightMax; i++) {
    assert.ok(slots.hasFree);
    const slot = slots.take();
    taken.add(slot);
    slots.arm(slot, i);
  }
  assert.equal(taken.size, inFlightMax);
  assert.ok(Math.min(...taken) === 0 && Math.max(...taken) === inFlightMax - 1);
  assert.ok(!slots.hasFree);
  assert.equal(slots.take(), -1);
  assert.equal(slots.inFlight, inFlightMax);
  slots.release(17);
  assert.ok(!slots.isInFlight(17) && slots.isInFlight(18));
  assert.equal(slots.take(), 17);
});

test('a slot that is used again has another generation', () => {
  const slots = slotsOf();
  const slot = slots.take();
  slots.arm(slot, 5);
  const first = slots.words[slots.wordOf(slot) + slotGeneration];
  assert.equal(slots.startedUs[slot], 5);
  slots.release(slot);
  assert.equal(slots.take(), slot);
  assert.ok(!slots.isInFlight(slot), 'not before it is armed');
  slots.arm(slot, 6);
  assert.notEqual(slots.words[slots.wordOf(slot) + slotGeneration], first);
  assert.equal(slots.inFlight, 1);
});

test('only what is in flight has a time: the sweep looks at nothing else', () => {
  const slots = slotsOf();
  assert.ok(slots.startedUs.every((time) => time === Infinity));
  const slot = slots.take();
  slots.arm(slot, 1000);
  assert.deepEqual(
    [...slots.startedUs.entries()].filter(([, time]) => time !== Infinity),
    [[slot, 1000]],
  );
  slots.release(slot);
  assert.ok(slots.startedUs.every((time) => time === Infinity));
});

test('header and message of a slot lie in its own bytes', () => {
  const slots = slotsOf();
  assert.equal(slots.wordOf(3) * 4, 3 * slotBytes);
  assert.equal(slots.messageOf(3), 3 * slotBytes + slotHeaderBytes);
  assert.ok(slotHeaderBytes >= 23 * 4, 'the words of a slot fit its header');
});
