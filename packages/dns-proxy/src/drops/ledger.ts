// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The drop events of the node that this process has, each once, read from the ring or received from the
 * other process, and the number of missing ones. All records of the ring
 * have one size, so positions number them without gaps. Pure.
 *
 *     0 ....... base ======== seen, or missing ======== high        a bit for each of the last `window`
 *
 * Base is the start of this process run. Of older events the other process sends those that the former run had
 * not acknowledged; the others do not count as lost. Events that the other process refused to send move base back.
 */

import { dropRecordBytes } from '../records/drop-event.ts';
import { ledgerEventsMax, missingSettleMs } from './limits.ts';

/** Bytes of a record in the ring: with the kernel's header. */
export const ringRecordBytes: number = dropRecordBytes + 8;

export class DropLedger {
  /** Events taken, each once. */
  seen = 0;
  duplicates = 0;
  /** Events older than the window, refused: whether they were seen is not known any more. */
  tooOld = 0;
  /** Refused events: they end behind the ring's end or before its first record, so the kernel cannot have made them. */
  impossible = 0;
  /** Events of another ring, that of another version's programs: taken as they come. */
  foreign = 0;
  /** The ring whose positions these are: the id of its map. */
  ring = 0;
  /** Where the last event that the kernel made ended. */
  lastPosition: () => number = () => Infinity;
  readonly #window: number;
  readonly #bits: Uint32Array;
  #base = -1;
  #high = 0;
  /** Events seen from `base` on. */
  #counted = 0;
  #reported = 0;
  #lowest = Infinity;
  #lowestSinceMs = -Infinity;
  /** The end of the ring at that time. */
  #endSince = 0;

  /** `window`: a power of two of at least 32. */
  constructor(window: number = ledgerEventsMax) {
    this.#window = window;
    this.#bits = new Uint32Array(window / 32);
  }

  /** Events between the first and the last that we know of, and did not see. */
  get missing(): number {
    return this.#base === -1 ? 0 : this.#high - this.#base - this.#counted;
  }

  /**
   * Events that ended after `position` are ours to have; of those before, only the ones that come. Another
   * ring's positions say nothing of those of the last one.
   */
  begin(position: number, ring: number): void {
    this.ring = ring;
    this.#bits.fill(0);
    this.#base = numberOf(position) + 1;
    this.#high = this.#base;
    this.#counted = 0;
    this.#reported = 0;
    this.#lowest = Infinity;
    this.#lowestSinceMs = -Infinity;
    this.#endSince = 0;
  }

  /** Takes the event that ended at `position`. False: the ledger has it, or cannot know. */
  take(position: number): boolean {
    if (!this.#isPossible(position)) return false;
    const event = numberOf(position);
    if (event >= this.#high) {
      this.#advance(event);
    } else if (event < this.#high - this.#window) {
      this.tooOld += 1;
      return false;
    }
    if (this.#has(event)) {
      this.duplicates += 1;
      return false;
    }
    const word = (event % this.#window) >>> 5;
    this.#bits[word] = this.#bits[word]! | (1 << (event & 31));
    this.seen += 1;
    if (event >= this.#base) this.#counted += 1;
    return true;
  }

  /** There was an event that ended at `position`, and what came after it we should have, too. */
  knowOf(position: number): void {
    if (!this.#isPossible(position)) return;
    const event = numberOf(position);
    if (event >= this.#high) this.#advance(event);
    else if (event >= this.#high - this.#window) this.#lowerBase(event);
  }

  /**
   * Number of further events that are missing for longer than the settling time; events that come from the other process may
   * be late. `nowMs`: monotonic.
   */
  takeSettled(nowMs: number): number {
    this.#lowest = Math.min(this.#lowest, this.missing);
    if (nowMs - this.#lowestSinceMs < missingSettleMs) return 0;
    const isFirst = this.#lowestSinceMs === -Infinity;
    const settled = isFirst ? 0 : Math.max(0, this.#lowest - this.#reported);
    this.#reported += settled;
    // The other process may not have reported the last ones at all.
    if (numberOf(this.#endSince) >= this.#high) this.knowOf(this.#endSince);
    const end = this.lastPosition();
    this.#endSince = end === Infinity ? 0 : end;
    this.#lowest = this.missing;
    this.#lowestSinceMs = nowMs;
    return settled;
  }

  #isPossible(position: number): boolean {
    const isKnown = numberOf(position) < this.#high || position <= this.lastPosition();
    // Beyond the integers of a double the number of an event would have no successor.
    if (isKnown && position >= ringRecordBytes && position <= Number.MAX_SAFE_INTEGER) return true;
    this.impossible += 1;
    return false;
  }

  /** Makes room for the bits up to `event`. */
  #advance(event: number): void {
    if (this.#base === -1) {
      this.#base = event;
      this.#high = event;
    }
    if (event - this.#high >= this.#window) this.#bits.fill(0);
    else {
      for (let fresh = this.#high; fresh <= event; fresh++) {
        const word = (fresh % this.#window) >>> 5;
        this.#bits[word] = this.#bits[word]! & ~(1 << (fresh & 31));
      }
    }
    this.#high = event + 1;
  }

  #lowerBase(event: number): void {
    for (; event < this.#base; this.#base--) {
      if (this.#has(this.#base - 1)) this.#counted += 1;
    }
  }

  /** Whether an event within the window was seen. */
  #has(event: number): boolean {
    return (this.#bits[(event % this.#window) >>> 5]! & (1 << (event & 31))) !== 0;
  }
}

function numberOf(position: number): number {
  return Math.floor(position / ringRecordBytes) - 1;
}
