// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Two simulated members on one journal, in a million steps of random order: each step is one store or one
 * compare-and-swap, a member may stop between any two, or die there and begin a new run. No query is
 * lost, none is done from bytes of two, no use of a slot is taken over twice.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TD_JOURNAL_CELL_BYTES, tdJournalSlot, tdJournalState } from '@tandem/datapath/abi.gen';
import { advanced, JournalRegion, type QuerySlot, regionBytes, stateOf } from './region.ts';
import { QuerySlots, slotClientId } from './slots.ts';

const { FREE, RECEIVING } = tdJournalState;
const seed = Number(process.env['TANDEM_TEST_SEED'] ?? 1);
const steps = 1_000_000;
/** Slots are taken from the lowest up, so that few are in use. */
const slotsLooked = 24;
const pendingMax = 4;
const stepsOfStop = 800;
const wordsOfMessage = 8;

function randomOf(start: number): () => number {
  let state = start | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

interface Life {
  readonly slots: QuerySlots;
  readonly tasks: Generator<void>[];
  /** In flight: slot and query. */
  readonly pending: [slot: QuerySlot, id: number][];
}

class Model {
  readonly #random = randomOf(seed);
  readonly #memory = new ArrayBuffer(2 * regionBytes);
  readonly #words = new Uint32Array(this.#memory);
  readonly #regions = [
    new JournalRegion(this.#memory, 0),
    new JournalRegion(this.#memory, 1, regionBytes),
  ];
  readonly #lives: Life[] = [];
  readonly #open = new Set<number>();
  readonly #claims = new Set<string>();
  /** Member that is stopped, and until which step. */
  #stopped = [0, 0];
  #step = 0;
  #nextId = 0;
  isReceiving = true;
  readonly counts = { received: 0, done: 0, again: 0, claimed: 0, torn: 0, deaths: 0 };

  constructor() {
    for (const member of [0, 1]) this.#lives[member] = this.#begin(member);
  }

  get open(): number {
    return this.#open.size;
  }

  step(hasFaults: boolean): void {
    this.#step += 1;
    const member = this.#random() < 0.5 ? 0 : 1;
    if (hasFaults && this.#stopped[member]! > this.#step) return;
    const chance = this.#random();
    if (hasFaults && chance < 0.0005) this.#die(member);
    else if (hasFaults && chance < 0.002) {
      this.#stopped[member] = this.#step + Math.floor(this.#random() * stepsOfStop);
    }
    const { tasks } = this.#lives[member] as Life;
    tasks[Math.floor(this.#random() * tasks.length)]?.next();
  }

  #die(member: number): void {
    this.counts.deaths += 1;
    this.#lives[member] = this.#begin(member);
  }

  #begin(member: number): Life {
    const region = this.#regions[member] as JournalRegion;
    const slots = new QuerySlots(region);
    const life: Life = { slots, tasks: [], pending: [] };
    const other = this.#regions[1 - member] as JournalRegion;
    life.tasks.push(this.#serve(life), this.#takeOver(life, other, region));
    return life;
  }

  #done(id: number): void {
    this.counts.done += 1;
    if (!this.#open.delete(id)) this.counts.again += 1;
  }

  *#serve(life: Life): Generator<void> {
    const { slots, pending } = life;
    let slot = this.#receive(slots);
    for (;;) {
      if (this.isReceiving) {
        const id = yield* this.#arrive(slots, slot);
        this.#words[slots.wordOf(slot) + slotClientId] = id;
        yield;
        if (this.#random() < 0.3) {
          if (slots.reply(slot)) {
            yield;
            this.#done(id);
            yield;
          }
          if (!slots.recycle(slot)) slot = this.#receive(slots);
        } else {
          if (slots.arm(slot, 0)) {
            this.#words[slots.messageOf(slot) / 4] = 0; // the id that goes upstream
            pending.push([slot, id]);
          }
          slot = this.#receive(slots);
        }
      }
      yield;
      if (pending.length > (this.isReceiving ? pendingMax : 0)) yield* this.#answer(life);
      slots.collect();
    }
  }

  #receive(slots: QuerySlots): QuerySlot {
    const slot = slots.take();
    slots.receive(slot);
    return slot;
  }

  /** As the kernel writes: the payload piece by piece, the address last. */
  *#arrive(slots: QuerySlots, slot: QuerySlot): Generator<void, number> {
    this.#nextId += 1;
    const id = this.#nextId;
    const message = slots.messageOf(slot) / 4;
    slots.filled(slot, wordsOfMessage * 4);
    for (let w = 0; w < wordsOfMessage; w += 4) {
      for (let k = w; k < w + 4; k++) this.#words[message + k] = id;
      yield;
    }
    this.#words[slots.wordOf(slot) + tdJournalSlot.name / 4] = 2;
    this.#open.add(id);
    this.counts.received += 1;
    yield;
    return id;
  }

  *#answer({ slots, pending }: Life): Generator<void> {
    const [slot, id] = pending.shift() as [QuerySlot, number];
    if (!slots.reply(slot)) return;
    yield;
    this.#done(id);
    yield;
    slots.release(slot);
  }

  *#takeOver(life: Life, other: JournalRegion, own: JournalRegion): Generator<void> {
    for (;;) {
      for (const slot of life.slots.leftovers()) {
        // Steps of one process do not mix in truth: the slot may be in use again by now.
        if (life.slots.leftovers().includes(slot)) yield* this.#take(life, own, slot, true);
      }
      for (let slot = 0 as QuerySlot; slot < slotsLooked; slot++)
        yield* this.#take(life, other, slot);
      yield;
    }
  }

  *#take(life: Life, region: JournalRegion, slot: QuerySlot, isOwn = false): Generator<void> {
    const words = this.#words;
    const word = region.word(slot);
    if (stateOf(word) === FREE) return;
    const from = region.slotsByte / 4 + slot * (TD_JOURNAL_CELL_BYTES / 4);
    const isTorn = stateOf(word) === RECEIVING;
    yield;
    if (isTorn && words[from + tdJournalSlot.name / 4] === 0) {
      if (isOwn) region.swap(slot, word, advanced(word, FREE));
      return;
    }
    const message = from + tdJournalSlot.message / 4;
    const id = words[isTorn ? message : from + slotClientId]!;
    const copy: number[] = [];
    for (let w = 1; w < wordsOfMessage; w++) {
      copy.push(words[message + w]!);
      yield;
    }
    const { slots, pending } = life;
    const mine = slots.take();
    const at = slots.messageOf(mine) / 4;
    words.set([id, ...copy], at);
    words[slots.wordOf(mine) + slotClientId] = id;
    if (region.word(slot) !== word) {
      slots.giveBack(mine);
      return;
    }
    yield;
    slots.adopt(mine);
    yield;
    if (!region.swap(slot, word, advanced(word, FREE))) {
      slots.release(mine);
      return;
    }
    const key = `${region.member} ${slot} ${word}`;
    assert.ok(!this.#claims.has(key), 'one use of a slot is taken over once');
    this.#claims.add(key);
    assert.ok(
      copy.every((value) => value === id),
      `a copy of query ${id} holds ${copy.join()}`,
    );
    this.counts.claimed += 1;
    if (isTorn) this.counts.torn += 1;
    yield;
    if (slots.arm(mine, 0)) pending.push([mine, id]);
  }
}

test(`${steps} steps, seed ${seed}`, () => {
  const model = new Model();
  for (let i = 0; i < steps; i++) model.step(true);
  model.isReceiving = false;
  for (let i = 0; i < 200_000 && model.open > 0; i++) model.step(false);
  console.log(JSON.stringify(model.counts));
  assert.equal(model.open, 0, 'every query was done');
  const { received, claimed: claims, torn, deaths } = model.counts;
  assert.ok(received > 10_000 && claims > 1000 && torn > 100 && deaths > 100, 'there was a fight');
});
