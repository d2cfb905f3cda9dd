// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The two sides of a journal under stress, for threads and processes that share its memory: an owner that
 * serves queries, and another member that takes them away all the time. A query's bytes are all made from
 * its number, so that a copy that mixes two is seen.
 */

import assert from 'node:assert/strict';
import { tdJournalSlot } from '@tandem/datapath/abi.gen';
import { counter, createSharedCounters } from '../src/counters.ts';
import { JournalRegion, type QuerySlot, regionBytes } from '../src/journal/region.ts';
import { JournalReplay } from '../src/journal/replay.ts';
import {
  QuerySlots,
  slotClient,
  slotClientId,
  slotClientPort,
  slotLength,
  slotReceivedMs,
  slotServer,
} from '../src/journal/slots.ts';

export const owner = 0;
export const taker = 1;
/** Slots that the owner uses at one time. */
const window = 8;
const length = 64;

export interface OwnerResult {
  readonly queries: number;
  /** Answered, and freed by the owner itself. */
  readonly released: number;
  /** Found claimed at any step. */
  readonly lost: number;
}

export interface TakerResult {
  readonly claims: number;
  readonly torn: number;
  readonly mixed: number;
}

/** A query as the kernel leaves it: payload, control message, and the address last. */
function receive(memory: Uint8Array, slots: QuerySlots, slot: QuerySlot, id: number): void {
  const view = new DataView(memory.buffer);
  const at = slots.wordOf(slot) * 4;
  const message = at + tdJournalSlot.message;
  view.setUint16(message, id & 0xffff);
  for (let i = 2; i < length; i++) memory[message + i] = (id & 0x7f) | 1;
  const control = at + tdJournalSlot.control;
  view.setUint32(control, 32, true);
  view.setUint32(control + 8, 0, true);
  view.setUint32(control + 12, 20, true);
  view.setUint16(control + 16, 2, true);
  view.setUint32(control + 20, id, true);
  view.setUint16(at + tdJournalSlot.name + 2, id & 0xffff);
  view.setUint32(at + tdJournalSlot.name + 4, id, true);
  Atomics.store(new Int16Array(memory.buffer, at + tdJournalSlot.name, 1), 0, 2);
  slots.filled(slot, length);
}

/** The record as the owner writes it, before any state but "received". */
function tell(slots: QuerySlots, slot: QuerySlot, id: number): void {
  const { words } = slots;
  const at = slots.wordOf(slot);
  words.fill(0, at, at + 12);
  words[at + slotClient + 2] = words[at + slotServer + 2] = 0xffff0000;
  words[at + slotClient + 3] = words[at + slotServer + 3] = id;
  words[at + slotClientPort] = id & 0xffff;
  words[at + slotClientId] = id & 0xffff;
  words[at + slotLength] = length;
  words[at + slotReceivedMs] = performance.now() >>> 0;
}

/** Serves queries for so long: half are refused at once, half forwarded and answered later. */
export function serve(buffer: ArrayBufferLike, milliseconds: number): OwnerResult {
  const memory = new Uint8Array(buffer);
  const slots = new QuerySlots(new JournalRegion(buffer, owner, owner * regionBytes));
  const inFlight: QuerySlot[] = [];
  let [queries, released, lost] = [0, 0, 0];
  const end = performance.now() + milliseconds;
  let receiving = slots.take();
  slots.receive(receiving);
  while (performance.now() < end) {
    for (let i = 0; i < 64; i++) {
      const id = ++queries;
      receive(memory, slots, receiving, id);
      tell(slots, receiving, id);
      if (id % 2 === 0) {
        // The release is seen in `recycle`: it fails when the query was taken.
        if (!slots.reply(receiving)) lost += 1;
        if (slots.recycle(receiving)) released += 1;
        else slots.receive((receiving = slots.take()));
        continue;
      }
      if (slots.arm(receiving, performance.now() * 1000)) {
        memory[slots.messageOf(receiving)] = 0xee; // as an id that is sent upstream
        inFlight.push(receiving);
      } else {
        lost += 1;
      }
      receiving = slots.take();
      slots.receive(receiving);
      if (inFlight.length < window) continue;
      const answered = inFlight.shift() as QuerySlot;
      const free = slots.free;
      if (!slots.reply(answered)) lost += 1;
      slots.release(answered);
      if (slots.free > free) released += 1;
    }
    slots.collect();
  }
  for (const slot of inFlight) {
    const free = slots.free;
    slots.reply(slot);
    slots.release(slot);
    if (slots.free > free) released += 1;
  }
  return { queries, released, lost };
}

/** Claims whatever it finds, for so long. */
export function takeOver(buffer: ArrayBufferLike, milliseconds: number): TakerResult {
  const memory = new Uint8Array(buffer);
  const slots = new QuerySlots(new JournalRegion(buffer, taker, taker * regionBytes));
  const counters = createSharedCounters();
  let [claims, mixed] = [0, 0];
  const replay = new JournalReplay({
    slots,
    counters,
    region: (member) => new JournalRegion(buffer, member, member * regionBytes),
    begin: () => undefined,
    end: () => undefined,
    replay: (slot) => {
      claims += 1;
      if (!isWhole(memory, slots, slot)) mixed += 1;
      slots.release(slot);
    },
  });
  const end = performance.now() + milliseconds;
  while (performance.now() < end) {
    const nowNs = performance.now() * 1e6;
    replay.takeOver(owner, nowNs, nowNs);
  }
  return { claims, torn: counters[counter.queriesTorn]!, mixed };
}

function isWhole(memory: Uint8Array, slots: QuerySlots, slot: QuerySlot): boolean {
  const { words } = slots;
  const at = slots.wordOf(slot);
  const id = words[at + slotClient + 3]!;
  const message = slots.messageOf(slot);
  assert.equal(words[at + slotClient + 2], 0xffff0000);
  if (words[at + slotServer + 3] !== id || words[at + slotClientPort] !== (id & 0xffff))
    return false;
  if (((memory[message]! << 8) | memory[message + 1]!) !== (id & 0xffff)) {
    return false;
  }
  for (let i = 2; i < length; i++) {
    if (memory[message + i] !== ((id & 0x7f) | 1)) return false;
  }
  return true;
}
