// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Takes over the queries in flight of a dead or hung member: copies its slots one by one into own ones, frees each
 * when the copy is in this member's journal, and lets the query path decide on the copy like on a new query. So the query is always
 * in some journal. Delivery is at least once: a pod may get two answers, or a server two questions.
 */

import { setId } from '@tandem/core/dns/edit';
import type { GroupIndex } from '@tandem/core/ids';
import {
  TD_JOURNAL_CELL_BYTES,
  TD_JOURNAL_MEMBERS,
  TD_JOURNAL_MESSAGE_BYTES,
  tdJournalSlot,
  tdJournalState,
} from '@tandem/datapath/abi.gen';
import { counter } from '../counters.ts';
import { journalAgeMsMax, replaysPerTurn } from '../limits.ts';
import { isReceived, readMetadata } from './metadata.ts';
import { advanced, type JournalRegion, type QuerySlot, stateOf } from './region.ts';
import {
  type QuerySlots,
  slotClientId,
  slotEndpointMs,
  slotLength,
  slotReceivedMs,
} from './slots.ts';

const { FREE, RECEIVING } = tdJournalState;
/** The words of a slot that other members read: whose query it is. */
const sharedBytes = tdJournalSlot.reserved;

export interface ReplayOptions {
  readonly slots: QuerySlots;
  /** The region of another member, mapped; asked once while that one is away. */
  readonly region: (member: GroupIndex) => JournalRegion;
  /** Unmaps a region. */
  readonly release?: (region: JournalRegion) => void;
  readonly counters: Float64Array;
  /** Called before the first replay of a call. */
  readonly begin: (monotonicNs: number) => void;
  /** Decides on the query in an own slot, and forwards or refuses it, unless its pod is gone. */
  readonly replay: (slot: QuerySlot) => void;
  /** Called after the last one. */
  readonly end: () => void;
}

export class JournalReplay {
  readonly #o: ReplayOptions;
  /** Bytes of the own region, and of the one that is being taken over. */
  readonly #own: Uint8Array;
  readonly #regions = new Map<number, JournalRegion>();
  #monotonicNs = 0;
  #hasBegun = false;
  /** Since the call began. */
  #replayed = 0;

  constructor(options: ReplayOptions) {
    this.#o = options;
    this.#own = new Uint8Array(options.slots.region.memory);
  }

  /**
   * Replays the queries of another member, `replaysPerTurn` at most: the next call goes on. `lastBeatNs`,
   * CLOCK_MONOTONIC: when it was last seen alive; it received nothing after that.
   */
  takeOver(member: GroupIndex, lastBeatNs: number, monotonicNs: number): void {
    if (member >= TD_JOURNAL_MEMBERS) return;
    if ((monotonicNs - lastBeatNs) / 1e6 > journalAgeMsMax) {
      // All its queries are too old by now: an absence may last for days.
      this.leave(member);
      return;
    }
    const region = this.#regions.get(member) ?? this.#o.region(member);
    this.#regions.set(member, region);
    if (!region.isReadable) return;
    const bytes = new Uint8Array(region.memory);
    this.#monotonicNs = monotonicNs;
    this.#replayed = 0;
    for (
      let slot = 0 as QuerySlot;
      slot < region.slotCount && this.#replayed < replaysPerTurn;
      slot++
    ) {
      if (stateOf(region.states[slot]!) === FREE) continue;
      // An atomic load, so that what the slot holds is read after its word (arm64).
      const word = region.word(slot);
      if (stateOf(word) === FREE) continue;
      if (!this.#take(region, bytes, slot, word, lastBeatNs)) break;
    }
    this.#finish();
  }

  /** Ends the takeover: unmaps the member's region. */
  leave(member: GroupIndex): void {
    const region = this.#regions.get(member);
    this.#regions.delete(member);
    if (region !== undefined) this.#o.release?.(region);
  }

  /**
   * Replays the queries that a former run of this member left, and frees slots whose query is too old, or that hold none. A
   * query without a free slot waits for the next call.
   */
  resume(lastBeatNs: number, monotonicNs: number): void {
    const { slots } = this.#o;
    const { region } = slots;
    this.#monotonicNs = monotonicNs;
    for (const slot of slots.leftovers()) {
      const word = region.word(slot);
      if (stateOf(word) === FREE) continue;
      if (!this.#take(region, this.#own, slot, word, lastBeatNs)) continue;
      region.swap(slot, word, advanced(word, FREE));
    }
    this.#finish();
    slots.collect();
  }

  /** False when there is no slot to copy into, or that one was lost: the rest waits. */
  #take(
    region: JournalRegion,
    bytes: Uint8Array,
    slot: QuerySlot,
    word: number,
    lastBeatNs: number,
  ): boolean {
    const { slots } = this.#o;
    const from = region.slotsByte + slot * TD_JOURNAL_CELL_BYTES;
    const isTorn = stateOf(word) === RECEIVING;
    if (isTorn && !isReceived(bytes, from)) return true;
    // Signed: a query may be younger than the clock that was read before it came.
    const nowMs = this.#monotonicNs / 1e6;
    const receivedMs = new DataView(region.memory).getUint32(from + slotReceivedMs * 4, true);
    const ageMs = isTorn ? nowMs - lastBeatNs / 1e6 : (nowMs - receivedMs) | 0;
    if (ageMs > journalAgeMsMax) return true;
    const own = slots.take();
    if (own === -1) {
      this.#count(counter.journalFull);
      return false;
    }
    if (!this.#copy(bytes, from, own, isTorn)) {
      slots.giveBack(own);
      region.swap(slot, word, advanced(word, FREE));
      return true;
    }
    if (region.word(slot) !== word) {
      // Its owner is back, or another member has it: the copy may mix two queries.
      slots.giveBack(own);
      return true;
    }
    // Only now: from here on others may take over the copy, and take it for a query.
    if (!slots.adopt(own)) return false;
    if (!region.swap(slot, word, advanced(word, FREE))) {
      slots.release(own);
      return true;
    }
    if (!this.#hasBegun) this.#o.begin(this.#monotonicNs);
    this.#hasBegun = true;
    this.#replayed += 1;
    this.#count(counter.queriesReplayed);
    if (isTorn) this.#count(counter.queriesTorn);
    this.#o.replay(own);
    return true;
  }

  /** Copies the slot at byte `from` into `own`; false if it holds no whole query. */
  #copy(bytes: Uint8Array, from: number, own: QuerySlot, isTorn: boolean): boolean {
    const { slots } = this.#o;
    const target = this.#own;
    const { words } = slots;
    const at = slots.wordOf(own);
    const message = from + tdJournalSlot.message;
    if (isTorn) {
      target.set(bytes.subarray(message, message + TD_JOURNAL_MESSAGE_BYTES), slots.messageOf(own));
      slots.filled(own, TD_JOURNAL_MESSAGE_BYTES);
      // Its length was in the dead process. What follows a query in a slot is zero.
      words[at + slotLength] = TD_JOURNAL_MESSAGE_BYTES;
      words[at + slotReceivedMs] = (this.#monotonicNs / 1e6) >>> 0;
      words[at + slotEndpointMs] = ~words[at + slotReceivedMs]!;
      const id = slots.messageOf(own);
      words[at + slotClientId] = (target[id]! << 8) | target[id + 1]!;
      return readMetadata(bytes, from, target, at * 4);
    }
    target.set(bytes.subarray(from, from + sharedBytes), at * 4);
    const length = words[at + slotLength]!;
    if (length < 12 || length > TD_JOURNAL_MESSAGE_BYTES) return false;
    target.set(bytes.subarray(message, message + length), slots.messageOf(own));
    slots.filled(own, length);
    setId(target, slots.messageOf(own), words[at + slotClientId]!);
    return true;
  }

  #finish(): void {
    if (this.#hasBegun) this.#o.end();
    this.#hasBegun = false;
  }

  #count(index: number): void {
    const { counters } = this.#o;
    counters[index] = counters[index]! + 1;
  }
}
