// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * This member's queries in flight, one slot of the journal each. The query is received straight into its slot, and the words beside
 * it suffice for another member to answer it (`struct td_journal_slot` in abi.h; journal/region.ts draws the states).
 *
 * If this process was stopped, another member may have taken the query over. Then the next state change fails, the query belongs
 * to that member, and `collect` takes the slot back when it is free.
 *
 * Indexes from `inFlightMax` on are scrap slots in private use: they receive while no real slot is free. A query in one can be
 * refused, but not forwarded.
 */

import {
  TD_JOURNAL_CELL_BYTES,
  TD_JOURNAL_MESSAGE_BYTES,
  TD_JOURNAL_SLOTS,
  tdJournalSlot,
  tdJournalState,
} from '@tandem/datapath/abi.gen';
import { batchMax, inFlightMax, udpQueryBytesMax } from '../limits.ts';
import {
  advanced,
  type JournalRegion,
  noSlot,
  type QuerySlot,
  renewed,
  stateOf,
} from './region.ts';

/** Words of a slot. */
export const slotClient: number = tdJournalSlot.client / 4;
export const slotServer: number = tdJournalSlot.server / 4;
export const slotClientPort: number = tdJournalSlot.client_port / 4;
export const slotLength: number = tdJournalSlot.length / 4;
export const slotClientId: number = tdJournalSlot.client_id / 4;
export const slotReceivedMs: number = tdJournalSlot.received_ms / 4;
/** Endpoint that asked, and `slotReceivedMs` again: an older version leaves both as they were. */
export const slotEndpointId: number = tdJournalSlot.endpoint_id / 4;
export const slotEndpointMs: number = tdJournalSlot.endpoint_ms / 4;
const owner = tdJournalSlot.owner / 4;
export const slotUpstream: number = owner;
export const slotUpstreamId: number = owner + 1;
export const slotListener: number = owner + 2;
export const slotEndpoint: number = owner + 3;
export const slotPolicy: number = owner + 4;
export const slotNamespace: number = owner + 5;
export const slotTrusted: number = owner + 6;
export const slotQuestionEnd: number = owner + 7;
/** Accept set of the name, and how often tables had been installed when it was found. */
export const slotAcceptSet: number = owner + 8;
export const slotTables: number = owner + 9;
export const slotPolicySlot: number = owner + 10;
/** Socket and id by which the query was asked first, if it was asked again on another socket; socket 0: it was not. */
export const slotFormerUpstream: number = owner + 11;
export const slotFormerId: number = owner + 12;

if (inFlightMax !== TD_JOURNAL_SLOTS || udpQueryBytesMax !== TD_JOURNAL_MESSAGE_BYTES) {
  throw new TypeError('limits.ts and abi.h disagree about the journal');
}

const wordsPerSlot = TD_JOURNAL_CELL_BYTES / 4;
const doublesPerSlot = TD_JOURNAL_CELL_BYTES / 8;
const nameDouble = tdJournalSlot.name / 8;
const messageDouble = tdJournalSlot.message / 8;
const { FREE, RECEIVING, IN_FLIGHT, REPLYING } = tdJournalState;
/** In `#held` alone: another member has taken the query over. */
const lost = 7;

export class QuerySlots {
  /** Over the whole memory; a slot's first word is at `wordOf(slot)`. */
  readonly words: Uint32Array;
  /** Microseconds, monotonic: when the query in flight arrived; infinite for a slot without one. */
  readonly startedUs: Float64Array;
  readonly region: JournalRegion;
  readonly #doubles: Float64Array;
  readonly #firstWord: number;
  /** The state word of each slot as this process left it. */
  readonly #held: Int32Array;
  /** Bytes of the message that may not be zero. */
  readonly #used: Uint16Array;
  readonly #free: Int32Array;
  #freeCount = 0;
  #inFlight = 0;
  /** Slots that another member took a query from, or that a former run of this one left in use. */
  readonly #away = new Set<QuerySlot>();

  /** Slots that a former run left are not touched. */
  constructor(region: JournalRegion) {
    this.region = region;
    this.startedUs = new Float64Array(region.slotCount).fill(Infinity);
    this.#held = new Int32Array(region.slotCount);
    this.#used = new Uint16Array(region.slotCount).fill(TD_JOURNAL_MESSAGE_BYTES);
    this.#free = new Int32Array(region.slotCount);
    this.words = new Uint32Array(region.memory);
    this.#doubles = new Float64Array(region.memory);
    this.#firstWord = region.slotsByte / 4;
    region.own();
    for (let index = region.slotCount - 1; index >= 0; index--) {
      const slot = index as QuerySlot;
      this.#keep(slot, region.word(slot));
    }
  }

  wordOf(slot: QuerySlot): number {
    return this.#firstWord + slot * wordsPerSlot;
  }

  /** Byte offset of the slot's query in the memory. */
  messageOf(slot: QuerySlot): number {
    return (this.#firstWord + slot * wordsPerSlot) * 4 + tdJournalSlot.message;
  }

  /** Bytes of the slot's query: another process can write the word, but not make a reader leave the slot. */
  lengthOf(slot: QuerySlot): number {
    return Math.min(this.words[this.wordOf(slot) + slotLength]!, TD_JOURNAL_MESSAGE_BYTES);
  }

  /** The scrap slot of rx record `record`. */
  scrap(record: number): QuerySlot {
    return (inFlightMax + (record % batchMax)) as QuerySlot;
  }

  isScrap(slot: QuerySlot): boolean {
    return slot >= inFlightMax;
  }

  /** Takes a free slot, or -1. */
  take(): QuerySlot {
    if (this.#freeCount === 0) return noSlot;
    this.#freeCount -= 1;
    return this.#free[this.#freeCount]! as QuerySlot;
  }

  /** Gives back a slot that was taken and never used. */
  giveBack(slot: QuerySlot): void {
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
  }

  get free(): number {
    return this.#freeCount;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** The taken slot may be received into from now on; it is wiped before. False: another one must be taken. */
  receive(slot: QuerySlot): boolean {
    this.#wipe(slot);
    return this.#begin(slot, RECEIVING);
  }

  /** A message of so many bytes was received or copied into the slot. */
  filled(slot: QuerySlot, bytes: number): void {
    if (slot < inFlightMax) this.#used[slot] = bytes;
  }

  /**
   * The taken slot holds the copy of a query that is about to be taken over. From here on others may take it over, if this
   * process dies first. It is not in flight by our own count before `arm`. False: another slot must be taken.
   */
  adopt(slot: QuerySlot): boolean {
    return this.#begin(slot, IN_FLIGHT);
  }

  /** The query in the slot is in flight from now on; false if it is another member's by now. */
  arm(slot: QuerySlot, nowUs: number): boolean {
    if (!this.#advance(slot, IN_FLIGHT)) return false;
    this.startedUs[slot] = nowUs;
    this.#inFlight += 1;
    return true;
  }

  isInFlight(slot: QuerySlot): boolean {
    return this.startedUs[slot]! < Infinity;
  }

  /** The reply to its query is in the batch. */
  isReplying(slot: QuerySlot): boolean {
    return stateOf(this.#held[slot]!) === REPLYING;
  }

  /** Whether another member took the query in flight over. */
  isLost(slot: QuerySlot): boolean {
    return this.region.word(slot) !== this.#held[slot];
  }

  /**
   * A reply to a query in flight, or to one just received, is about to be sent; false if the query is
   * another member's by now and nothing may be sent.
   */
  reply(slot: QuerySlot): boolean {
    if (slot >= inFlightMax) return true;
    if (this.isInFlight(slot)) this.#land(slot);
    return this.#advance(slot, REPLYING);
  }

  /** Answered: the slot may be used again. */
  release(slot: QuerySlot): void {
    if (this.#advance(slot, FREE)) this.giveBack(slot);
  }

  /** Given up without an answer. */
  forget(slot: QuerySlot): void {
    this.#land(slot);
    this.release(slot);
  }

  #land(slot: QuerySlot): void {
    this.#inFlight -= 1;
    this.startedUs[slot] = Infinity;
  }

  /** A slot that was received into, and is not in flight, receives again; false if it is another's now. */
  recycle(slot: QuerySlot): boolean {
    return this.#advance(slot, FREE) && this.receive(slot);
  }

  /** Slots that were in use when this run of the member began, or whose query was taken over, and that are not free yet. */
  leftovers(): readonly QuerySlot[] {
    return [...this.#away];
  }

  get hasLeftovers(): boolean {
    return this.#away.size > 0;
  }

  /** Takes back slots that are free by now. */
  collect(): void {
    for (const slot of this.#away) {
      const word = this.region.word(slot);
      if (stateOf(word) !== FREE) continue;
      this.#away.delete(slot);
      this.#keep(slot, word);
    }
  }

  #keep(slot: QuerySlot, word: number): void {
    if (stateOf(word) !== FREE) {
      this.#away.add(slot);
      return;
    }
    this.#held[slot] = word;
    this.#used[slot] = TD_JOURNAL_MESSAGE_BYTES;
    this.giveBack(slot);
  }

  /**
   * A new use of a free slot. Only the owner takes a slot out of FREE; false if another process, which must not, has changed it: the
   * slot is then like one that was taken over.
   */
  #begin(slot: QuerySlot, state: number): boolean {
    const held = this.#held[slot]!;
    const word = renewed(held, state);
    if (!this.region.swap(slot, held, word)) {
      this.#lose(slot);
      return false;
    }
    this.#held[slot] = word;
    return true;
  }

  #advance(slot: QuerySlot, state: number): boolean {
    const held = this.#held[slot]!;
    if (stateOf(held) === lost) return false;
    const word = advanced(held, state);
    if (this.region.swap(slot, held, word)) {
      this.#held[slot] = word;
      return true;
    }
    this.#lose(slot);
    return false;
  }

  #lose(slot: QuerySlot): void {
    this.#held[slot] = advanced(this.#held[slot]!, lost);
    this.#away.add(slot);
  }

  /** A slot of zeros holds no query, also if its owner died in the middle of a batch. */
  #wipe(slot: QuerySlot): void {
    const doubles = this.#doubles;
    const first = this.#firstWord / 2 + slot * doublesPerSlot;
    const end = first + messageDouble + ((this.#used[slot]! + 7) >> 3);
    for (let i = first + nameDouble; i < end; i++) doubles[i] = 0;
    this.#used[slot] = 0;
  }
}
