// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counter, createSharedCounters } from '../counters.ts';
import { replaysPerTurn } from '../limits.ts';
import { JournalRegion, type QuerySlot, regionBytes } from './region.ts';
import { JournalReplay } from './replay.ts';
import { QuerySlots, slotEndpointId, slotEndpointMs, slotLength, slotReceivedMs } from './slots.ts';

const nowNs = 1e12;

/** Queries in flight of member 1 in the second region of `memory`, each of the endpoint with the number of its slot. */
function inFlightOf(memory: ArrayBuffer, count: number): QuerySlots {
  const theirs = new QuerySlots(new JournalRegion(memory, 1, regionBytes));
  for (let i = 0; i < count; i++) {
    const slot = theirs.take();
    theirs.receive(slot);
    const at = theirs.wordOf(slot);
    theirs.words[at + slotLength] = 12;
    theirs.words[at + slotReceivedMs] = nowNs / 1e6;
    theirs.words[at + slotEndpointId] = slot;
    theirs.words[at + slotEndpointMs] = nowNs / 1e6;
    theirs.filled(slot, 12);
    assert.ok(theirs.arm(slot, nowNs / 1000));
  }
  return theirs;
}

test('a query that is taken over stays that of the endpoint that asked, if it was noted', () => {
  const memory = new ArrayBuffer(2 * regionBytes);
  const theirs = inFlightOf(memory, 2);
  // As an older version leaves it.
  theirs.words[theirs.wordOf(1 as QuerySlot) + slotEndpointMs] = 0;
  const slots = new QuerySlots(new JournalRegion(memory, 0));
  const noted: (readonly [id: number, ms: number])[] = [];
  const replay = new JournalReplay({
    slots,
    region: () => theirs.region,
    counters: createSharedCounters(),
    begin: () => undefined,
    replay: (slot) => {
      const at = slots.wordOf(slot);
      noted.push([slots.words[at + slotEndpointId]!, slots.words[at + slotEndpointMs]!]);
    },
    end: () => undefined,
  });
  for (let i = 0; i < 2; i++) replay.takeOver(1, nowNs, nowNs);
  assert.deepEqual(noted, [
    [0, nowNs / 1e6],
    [1, 0],
  ]);
});

test('many queries of another member are taken over in turns, each once', () => {
  const memory = new ArrayBuffer(2 * regionBytes);
  const inHand = 2 * replaysPerTurn + 10;
  const theirs = inFlightOf(memory, inHand);
  const replayed: number[] = [];
  const counters = createSharedCounters();
  const replay = new JournalReplay({
    slots: new QuerySlots(new JournalRegion(memory, 0)),
    region: () => theirs.region,
    counters,
    begin: () => undefined,
    replay: (slot) => replayed.push(slot),
    end: () => undefined,
  });
  const lengths = Array.from({ length: 4 }, () => {
    replay.takeOver(1, nowNs, nowNs);
    return replayed.length;
  });
  assert.deepEqual(lengths, [replaysPerTurn, 2 * replaysPerTurn, inHand, inHand]);
  assert.equal(new Set(replayed).size, inHand);
  assert.equal(counters[counter.queriesReplayed], inHand);
});
