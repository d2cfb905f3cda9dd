// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The last events of the node, as the binary records in which they arrived. An event costs one copy of its
 * bytes: no object, no decoding. An observer has a position in the store instead of a queue, and gets
 * the number of events that were overwritten before it read them. A record of
 * lost events counts for all of them, also if it was overwritten itself.
 *
 *     bytes:  | record | record |  ...  | record | free | record | ...      records never wrap
 *                                        ^ newest         ^ oldest
 */

import { observerWakeEvents, storedEventBytesMax, storedEventsMax } from './limits.ts';

/** A record of the DNS worker (`dns-event.ts`). */
export const eventKindDns = 1;
/** A `struct td_event`. */
export const eventKindDrop = 2;
/** A `struct td_event` that reports lost events (`records/loss-record.ts`). */
export const eventKindLoss = 3;

export interface EventStoreOptions {
  readonly eventsMax?: number;
  readonly bytesMax?: number;
}

const alignBytes = 8;

export class EventStore {
  /** Records lie at `offsetOf`, each at a multiple of 8. */
  readonly bytes: Uint8Array;
  /** Records that are longer than the whole store, refused. */
  oversized = 0;
  readonly #words: Int32Array;
  /** The ring of our own worker, as it came last, and its memory as words. */
  #ring: Uint8Array | null = null;
  #ringWords: Int32Array = new Int32Array(0);
  readonly #offsets: Uint32Array;
  readonly #lengths: Uint32Array;
  readonly #kinds: Uint8Array;
  /** How many events those before the record stand for. */
  readonly #sums: Float64Array;
  readonly #capacity: number;
  readonly #observers = new Set<() => void>();
  #first = 0;
  #next = 0;
  #sum = 0;
  /** Slots of the oldest event and of the one that comes. */
  #head = 0;
  #tail = 0;
  #write = 0;
  #wokenAt = 0;
  #isWakeScheduled = false;

  constructor(options: EventStoreOptions = {}) {
    this.#capacity = options.eventsMax ?? storedEventsMax;
    this.bytes = new Uint8Array(options.bytesMax ?? storedEventBytesMax);
    this.#words = new Int32Array(this.bytes.buffer, 0, this.bytes.length >> 2);
    this.#offsets = new Uint32Array(this.#capacity);
    this.#lengths = new Uint32Array(this.#capacity);
    this.#kinds = new Uint8Array(this.#capacity);
    this.#sums = new Float64Array(this.#capacity);
  }

  /** Number of the oldest event that is kept; `next` when there is none. */
  get first(): number {
    return this.#first;
  }

  /** Number of the event that comes next: so many came so far. */
  get next(): number {
    return this.#next;
  }

  get observers(): number {
    return this.#observers.size;
  }

  /** Keeps a copy of the record, which stands for `count` events; the oldest make room. */
  append(kind: number, bytes: Uint8Array, offset: number, length: number, count = 1): void {
    const room = (length + alignBytes - 1) & -alignBytes;
    if (room > this.bytes.length) {
      this.oversized += 1;
      return;
    }
    if (this.#next - this.#first === this.#capacity) this.#drop();
    const at = this.#makeRoom(room);
    this.#copy(bytes, offset, length, at);
    const slot = this.#tail;
    this.#offsets[slot] = at;
    this.#lengths[slot] = length;
    this.#kinds[slot] = kind;
    this.#sums[slot] = this.#sum;
    this.#sum += count;
    this.#tail = slot + 1 === this.#capacity ? 0 : slot + 1;
    this.#write = at + room;
    this.#next += 1;
    if (this.#observers.size > 0) this.#wake();
  }

  /** Offset of an event from `first` up to `next`. */
  offsetOf(event: number): number {
    return this.#offsets[event % this.#capacity]!;
  }

  lengthOf(event: number): number {
    return this.#lengths[event % this.#capacity]!;
  }

  kindOf(event: number): number {
    return this.#kinds[event % this.#capacity]!;
  }

  /** How many events those before this one, from `first` up to `next` itself, stand for. */
  sumBefore(event: number): number {
    return event === this.#next ? this.#sum : this.#sums[event % this.#capacity]!;
  }

  /** Calls `wake` soon after events came. Returns how to end it. */
  subscribe(wake: () => void): () => void {
    this.#observers.add(wake);
    return () => {
      this.#observers.delete(wake);
    };
  }

  /**
   * Nearly all events come from the ring in shared memory, each at a multiple of 8 as here: words are
   * copied, up to three octets more than the record has, for which there is room.
   */
  #copy(bytes: Uint8Array, offset: number, length: number, at: number): void {
    if (bytes !== this.#ring && bytes.buffer instanceof SharedArrayBuffer) {
      this.#ring = bytes;
      this.#ringWords = new Int32Array(bytes.buffer, 0, bytes.buffer.byteLength >> 2);
    }
    const from = bytes.byteOffset + offset;
    if (bytes === this.#ring && (from & 3) === 0) {
      const source = this.#ringWords;
      const words = this.#words;
      const count = (length + 3) >> 2;
      for (let w = 0; w < count; w++) words[(at >> 2) + w] = source[(from >> 2) + w]!;
      return;
    }
    const target = this.bytes;
    for (let i = 0; i < length; i++) target[at + i] = bytes[offset + i]!;
  }

  /** A place for `room` bytes after the newest record, or at the start when the end is too near. */
  #makeRoom(room: number): number {
    let at = this.#write;
    if (at + room > this.bytes.length) {
      // The records between here and the end are the oldest ones.
      while (this.#first < this.#next && this.#oldestOffset() >= at) this.#drop();
      at = 0;
    }
    while (this.#first < this.#next) {
      const oldest = this.#oldestOffset();
      if (oldest < at || oldest >= at + room) break;
      this.#drop();
    }
    return at;
  }

  #oldestOffset(): number {
    return this.#offsets[this.#head]!;
  }

  #drop(): void {
    this.#first += 1;
    this.#head = this.#head + 1 === this.#capacity ? 0 : this.#head + 1;
  }

  /** At once when much has come, else when what is at hand is done. */
  #wake(): void {
    if (this.#next - this.#wokenAt >= observerWakeEvents) {
      this.#tell();
      return;
    }
    if (this.#isWakeScheduled) return;
    this.#isWakeScheduled = true;
    setImmediate(() => {
      this.#isWakeScheduled = false;
      this.#tell();
    });
  }

  #tell(): void {
    this.#wokenAt = this.#next;
    for (const wake of this.#observers) wake();
  }
}

/** One reader's place in a store: after all that came so far. */
export class EventCursor {
  readonly store: EventStore;
  /** Events overwritten before they were read, since `takeLost`. */
  #lost = 0;
  /** The event that `next` came to. */
  event = -1;
  #position: number;
  /** Sum of the events before the position. */
  #sum: number;

  constructor(store: EventStore) {
    this.store = store;
    this.#position = store.next;
    this.#sum = store.sumBefore(store.next);
  }

  /** Moves to the next event. False: none yet. */
  next(): boolean {
    const { first, next } = this.store;
    if (this.#position >= next) return false;
    if (this.#position < first) {
      this.#lost += this.store.sumBefore(first) - this.#sum;
      this.#position = first;
    }
    this.event = this.#position++;
    this.#sum = this.store.sumBefore(this.#position);
    return true;
  }

  takeLost(): number {
    const lost = this.#lost;
    this.#lost = 0;
    return lost;
  }
}
