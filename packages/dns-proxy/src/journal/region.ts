// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One member's region of the map `journal2`: the places of its cells, and the state words of its slots. Other processes write them
 * too, so every change of a state is a compare-and-swap of the whole word. Of two members that want a slot, one gets it, and a
 * word that was read before the slot was used again no longer matches (plain stores led to copies that mixed two queries).
 *
 *    ┌──────────────────── release ◄───────────────────┐
 *    ▼                                                 │
 *   FREE ─► RECEIVING ─► IN_FLIGHT ─► REPLYING ────────┘      by the owner
 *    ▲        │             │            │
 *    └────────┴─────────────┴────────────┘    by the member that took the query over, when its copy is in flight
 *
 * A query that the owner refuses goes from RECEIVING to REPLYING.
 */

import type { Branded } from '@tandem/core/brand';
import type { GroupIndex } from '@tandem/core/ids';
import {
  TD_JOURNAL_CELL_BYTES,
  TD_JOURNAL_REGION_CELLS,
  TD_JOURNAL_SLOTS,
  TD_JOURNAL_STATE_CELLS,
  TD_JOURNAL_VERSION,
  tdJournalHeader,
} from '@tandem/datapath/abi.gen';

/** Index of a slot of one region; from `inFlightMax` on a scrap slot (slots.ts). */
export type QuerySlot = Branded<'QuerySlot'>;
export const noSlot = -1 as QuerySlot;

/** Bytes of one member's region: whole pages. */
export const regionBytes: number = TD_JOURNAL_REGION_CELLS * TD_JOURNAL_CELL_BYTES;
const firstSlotCell = 1 + TD_JOURNAL_STATE_CELLS;
const firstScratchCell = firstSlotCell + TD_JOURNAL_SLOTS;

const versionWord = tdJournalHeader.version / 4;
const tcpConnectionsWord = tdJournalHeader.tcp_connections / 4;
const headerWords = 2;

const stateMask = 7;
const generationUnit = 1 << 8;

export const stateOf = (word: number): number => word & stateMask;
/** The word of the next state of the same use of a slot. */
export const advanced = (word: number, state: number): number =>
  (word & ~(generationUnit - 1)) | state;
/** The word of the first state of a new use. */
export const renewed = (word: number, state: number): number =>
  advanced((word + generationUnit) | 0, state);

export class JournalRegion {
  readonly memory: ArrayBufferLike;
  readonly member: GroupIndex;
  /** State words, one per slot. */
  readonly states: Int32Array;
  /** Slots in use, from the first on: all of the map's, fewer in a simulation. */
  readonly slotCount: number;
  /** Byte offsets in the memory. */
  readonly slotsByte: number;
  readonly scratchByte: number;
  readonly #header: Uint32Array;

  /** `memory` holds the member's region from byte `start` on. */
  constructor(
    memory: ArrayBufferLike,
    member: GroupIndex,
    start: number = 0,
    slotCount: number = TD_JOURNAL_SLOTS,
  ) {
    this.memory = memory;
    this.member = member;
    this.slotCount = slotCount;
    this.#header = new Uint32Array(memory, start, headerWords);
    this.states = new Int32Array(memory, start + TD_JOURNAL_CELL_BYTES, TD_JOURNAL_SLOTS);
    this.slotsByte = start + firstSlotCell * TD_JOURNAL_CELL_BYTES;
    this.scratchByte = start + firstScratchCell * TD_JOURNAL_CELL_BYTES;
  }

  /** Whether the slots have the layout that this program knows. */
  get isReadable(): boolean {
    return Atomics.load(this.#header, versionWord) === TD_JOURNAL_VERSION;
  }

  /** Its owner takes it over. A region of another layout is cleared: its slots cannot be read. */
  own(): void {
    if (this.isReadable) return;
    for (let slot = 0; slot < this.slotCount; slot++) Atomics.store(this.states, slot, 0);
    Atomics.store(this.#header, tcpConnectionsWord, 0);
    Atomics.store(this.#header, versionWord, TD_JOURNAL_VERSION);
  }

  /** The owner has so many TCP connections of pods. */
  setTcpConnections(count: number): void {
    Atomics.store(this.#header, tcpConnectionsWord, count);
  }

  /** TCP connections of pods that ended with the owner's former run: once, then 0. */
  takeTcpConnections(): number {
    return Atomics.exchange(this.#header, tcpConnectionsWord, 0);
  }

  word(slot: QuerySlot): number {
    return Atomics.load(this.states, slot);
  }

  /** Swaps the state word; false if it was not `from` any more. */
  swap(slot: QuerySlot, from: number, to: number): boolean {
    return Atomics.compareExchange(this.states, slot, from, to) === from;
  }
}
