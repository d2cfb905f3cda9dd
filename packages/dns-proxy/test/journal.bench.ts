// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Cost of the journal for a query: the life of its slot in the shared map (wiped, four compare-and-swaps)
 * beside a life that only remembers the same in private memory. Rounds interleaved; `--json` for
 * `./run bench`.
 */

import { TD_JOURNAL_CELL_BYTES, tdJournalSlot } from '@tandem/datapath/abi.gen';
import { JournalRegion, type QuerySlot } from '../src/journal/region.ts';
import { QuerySlots } from '../src/journal/slots.ts';
import { batchMax, inFlightMax, udpQueryBytesMax } from '../src/limits.ts';
import { loadKernelMaps } from './kernel-maps.ts';

const rounds = 15;
const livesPerRound = 200_000;
const queryBytes = 64;
/** Batches between query and answer. */
const batchesInFlight = 8;

const storyWords = tdJournalSlot.name / 4;
const bytes = new Uint8Array(queryBytes).fill(7);

/** Writes what the kernel and the query path do, with the journal or without. */
function fill(memory: Uint8Array, words: Uint32Array, word: number, message: number): void {
  memory.set(bytes, message);
  for (let i = 0; i < storyWords; i++) words[word + i] = i;
}

function journalRound(slots: QuerySlots, memory: Uint8Array, inFlight: Int32Array[]): void {
  for (let life = 0, turn = 0; life < livesPerRound; life += batchMax, turn++) {
    const batch = inFlight[turn % batchesInFlight] as Int32Array;
    for (let i = 0; i < batchMax; i++) {
      const before = batch[i]! as QuerySlot;
      if (before !== -1 && slots.reply(before)) slots.release(before);
      const slot = slots.take();
      slots.receive(slot);
      fill(memory, slots.words, slots.wordOf(slot), slots.messageOf(slot));
      slots.filled(slot, queryBytes);
      slots.arm(slot, 1);
      batch[i] = slot;
    }
  }
}

/** Cells of the same size in private memory, with a stack of free ones. */
class PlainCells {
  readonly memory = new Uint8Array(inFlightMax * cellBytes);
  readonly words = new Uint32Array(this.memory.buffer);
  readonly startedUs = new Float64Array(inFlightMax);
  readonly #free = Int32Array.from({ length: inFlightMax }, (_, i) => i);
  #count = inFlightMax;

  take(): number {
    this.#count -= 1;
    return this.#free[this.#count]!;
  }

  release(cell: number): void {
    this.#free[this.#count] = cell;
    this.#count += 1;
  }
}

const cellBytes = TD_JOURNAL_CELL_BYTES;

function plainRound(cells: PlainCells, inFlight: Int32Array[]): void {
  for (let life = 0, turn = 0; life < livesPerRound; life += batchMax, turn++) {
    const batch = inFlight[turn % batchesInFlight] as Int32Array;
    for (let i = 0; i < batchMax; i++) {
      const before = batch[i]! as QuerySlot;
      if (before !== -1) cells.release(before);
      const cell = cells.take();
      const at = cell * cellBytes;
      fill(cells.memory, cells.words, at / 4, at + cellBytes - udpQueryBytesMax);
      cells.startedUs[cell] = 1;
      batch[i] = cell;
    }
  }
}

const noneInFlight = (): Int32Array[] =>
  Array.from({ length: batchesInFlight }, () => new Int32Array(batchMax).fill(-1));

function nsPerLife(round: () => void): number {
  const start = process.hrtime.bigint();
  round();
  return Number(process.hrtime.bigint() - start) / livesPerRound;
}

using maps = loadKernelMaps();
const region = new JournalRegion(maps.journal.mmap(), 0);
const slots = new QuerySlots(region);
const memory = new Uint8Array(region.memory);
const cells = new PlainCells();
const journalInFlight = noneInFlight();
const plainInFlight = noneInFlight();
const samples: { journalNs: number; plainNs: number }[] = [];
for (let round = 0; round < rounds + 3; round++) {
  const journalNs = nsPerLife(() => journalRound(slots, memory, journalInFlight));
  const plainNs = nsPerLife(() => plainRound(cells, plainInFlight));
  // The first ones are compiled while they run.
  if (round >= 3) samples.push({ journalNs, plainNs });
}
const medianOf = (pick: (sample: (typeof samples)[number]) => number): number =>
  samples.map(pick).toSorted((a, b) => a - b)[rounds >> 1]!;
const result = {
  journalNs: medianOf(({ journalNs }) => journalNs),
  plainNs: medianOf(({ plainNs }) => plainNs),
  costNs: medianOf(({ journalNs, plainNs }) => journalNs - plainNs),
};
if (process.argv.includes('--json')) console.log(JSON.stringify(result));
else
  console.log(`journal ${result.journalNs.toFixed(0)} ns, plain ${result.plainNs.toFixed(0)} ns`);
