// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A process that writes whatever it likes into the journal of both members, at any time: queries get lost and mixed, but no
 * member ends by it.
 */

import { test } from 'node:test';
import { TD_JOURNAL_CELL_BYTES, TD_JOURNAL_STATE_CELLS } from '@tandem/datapath/abi.gen';
import { Random } from './random.ts';
import { World } from './world.ts';

const schedules = 300;
const cellWords = TD_JOURNAL_CELL_BYTES / 4;
const firstSlotWord = (1 + TD_JOURNAL_STATE_CELLS) * cellWords;
/** Words of a slot in which a short query lies, and what says whose it is. */
const slotWords = 90;
const ownerWords = 32;

/** A bit of a state word, a small number, or any: in the header, a state word, or a slot. */
function scribble(world: World, random: Random): void {
  const words = new Uint32Array(world.journals[random.int(2)] as ArrayBuffer);
  const slot = random.int(world.slotCount + 2);
  const value = random.chance(0.5) ? random.int(8) : random.int(2 ** 32);
  const place = random.next();
  const state = cellWords + slot;
  const part = place < 0.6 ? ownerWords : slotWords;
  if (place < 0.02) words[random.int(2)] = value;
  else if (place < 0.1) words[state] = value;
  else if (place < 0.2) words[state] = words[state]! ^ (1 << random.int(10));
  else words[firstSlotWord + slot * cellWords + random.int(part)] = value;
}

test('foreign writes into the journal end no member', () => {
  for (let seed = 0; seed < schedules; seed++) {
    const world = new World({ seed, steps: 200 });
    const random = new Random(seed);
    while (world.stepsLeft > 0) {
      for (let count = random.int(6); count > 0; count--) scribble(world, random);
      world.step();
    }
  }
});
