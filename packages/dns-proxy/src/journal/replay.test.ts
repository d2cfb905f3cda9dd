// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counter, createSharedCounters } from '../counters.ts';
import { replaysPerTurn } from '../limits.ts';
import { JournalRegion, regionBytes } from './region.ts';
import { JournalReplay } from './replay.ts';
import { QuerySlots, slotLength, slotReceivedMs } from './slots.ts';

test('many queries of another member are taken over in turns, each once', () => {
  const memory = new ArrayBuffer(2 * regionBytes);
  const theirs = new QuerySlots(new JournalRegion(memory, 1, regionBytes));
  const nowNs = 1e12;
  const inHand = 2 * replaysPerTurn + 10;
  for (let i = 0; i < inHand; i++) {
    const slot = theirs.take();
    theirs.receive(slot);
    const at = theirs.wordOf(slot);
    theirs.words[at + slotLength] = 12;
    theirs.words[at + slotReceivedMs] = nowNs / 1e6;
    theirs.filled(slot, 12);
    assert.ok(theirs.arm(slot, nowNs / 1000));
  }
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
