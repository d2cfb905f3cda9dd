// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// A ring of variable-size records in a SharedArrayBuffer, from one writer to one reader in another thread:
// how the DNS worker hands events and mappings to the main thread without a message, a copy to the heap or
// an allocation per record. The writer never waits: a record that does not fit is refused and counted.
//
//   | control words | data, capacity bytes (a power of two)                                   |
//                   | length kind payload.. pad | length kind payload.. | ...free... | wrap mark |
//                     ^ read position                                   ^ write position
//
// A record is its length and kind (4 bytes each, host order) and its payload, padded to 8 bytes, and never
// split: what does not fit before the end begins at the start, behind a wrap mark. So a payload's offset
// is a multiple of 8 and both sides may lay typed arrays over `bytes.buffer`. Positions count bytes since
// creation, modulo 2^32; each is written by one side only. The Atomics store of the write position
// publishes the record, that of the read position frees its space.

import { strict as assert } from 'node:assert';

/** Int32 indexes of the control words; the two positions sit on cache lines of their own. */
const writePositionIndex = 0;
const refusedIndex = 1;
const readPositionIndex = 16;
const controlBytes = 128;

const headerBytes = 8;
const alignBytes = 8;
/** In place of a length: the rest up to the end is unused. */
const wrapMark = -1;

/** Bounds of a ring's capacity, bytes. */
export const sharedRingBytesMin = 1024;
export const sharedRingBytesMax: number = 1 << 30;

/** Makes an empty ring. `capacityBytes` is a power of two from sharedRingBytesMin to _MAX. */
export function createSharedRing(capacityBytes: number): SharedArrayBuffer {
  assert(capacityBytes >= sharedRingBytesMin && capacityBytes <= sharedRingBytesMax);
  assert((capacityBytes & (capacityBytes - 1)) === 0, 'capacity is a power of two');
  return new SharedArrayBuffer(controlBytes + capacityBytes);
}

/** Longest payload that a ring ever takes, bytes: it must fit even when half the ring goes to a wrap mark. */
export function sharedRingRecordBytesMax(ring: SharedArrayBuffer): number {
  return (ring.byteLength - controlBytes) / 2 - headerBytes;
}

function recordBytes(length: number): number {
  return (headerBytes + length + alignBytes - 1) & -alignBytes;
}

/** The writing side. Make one per ring. Nothing here allocates after construction, or throws. */
export class SharedRingWriter {
  /** The ring's memory: `reserve` returns an offset into it. */
  readonly bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #capacity: number;
  readonly #lengthMax: number;
  #position: number;
  /** The reader's position when last looked at: most writes need not look again. */
  #readPosition: number;
  #reservedOffset = -1;
  #reservedLength = 0;
  #reservedPosition = 0;

  constructor(ring: SharedArrayBuffer) {
    this.bytes = new Uint8Array(ring);
    this.#words = new Int32Array(ring);
    this.#capacity = ring.byteLength - controlBytes;
    this.#lengthMax = sharedRingRecordBytesMax(ring);
    this.#position = Atomics.load(this.#words, writePositionIndex) >>> 0;
    this.#readPosition = Atomics.load(this.#words, readPositionIndex) >>> 0;
  }

  /** Records refused since creation, modulo 2^32. */
  get refused(): number {
    return Atomics.load(this.#words, refusedIndex) >>> 0;
  }

  /**
   * Room for a payload of up to `length` bytes of `kind` (any uint32). Returns its offset in `bytes`, or
   * -1: refused and counted. Fill it, then `commit`. A second `reserve` forgets the first.
   */
  reserve(kind: number, length: number): number {
    this.#reservedOffset = -1;
    if (length < 0 || length > this.#lengthMax) return this.#refuse();
    const need = recordBytes(length);
    const offset = this.#position & (this.#capacity - 1);
    const toEnd = this.#capacity - offset;
    const skip = need > toEnd ? toEnd : 0;
    if (!this.#hasRoom(skip + need)) return this.#refuse();

    let start = controlBytes + offset;
    if (skip !== 0) {
      this.#words[start >>> 2] = wrapMark;
      start = controlBytes;
    }
    this.#words[(start >>> 2) + 1] = kind;
    this.#reservedOffset = start;
    this.#reservedLength = length;
    this.#reservedPosition = (this.#position + skip) >>> 0;
    return start + headerBytes;
  }

  /** Publishes the reserved record with the first `length` bytes of its room. False: nothing reserved. */
  commit(length: number): boolean {
    if (this.#reservedOffset < 0 || length < 0 || length > this.#reservedLength) return false;
    this.#words[this.#reservedOffset >>> 2] = length;
    this.#reservedOffset = -1;
    this.#position = (this.#reservedPosition + recordBytes(length)) >>> 0;
    Atomics.store(this.#words, writePositionIndex, this.#position | 0);
    return true;
  }

  /** Copies `bytes[start..end)` in as one record. False: refused and counted. */
  write(kind: number, bytes: Uint8Array, start: number, end: number): boolean {
    const length = end - start;
    const offset = this.reserve(kind, length);
    if (offset < 0) return false;
    for (let i = 0; i < length; i++) this.bytes[offset + i] = bytes[start + i]!;
    return this.commit(length);
  }

  #hasRoom(need: number): boolean {
    if (this.#capacity - ((this.#position - this.#readPosition) >>> 0) >= need) return true;
    this.#readPosition = Atomics.load(this.#words, readPositionIndex) >>> 0;
    return this.#capacity - ((this.#position - this.#readPosition) >>> 0) >= need;
  }

  #refuse(): number {
    Atomics.add(this.#words, refusedIndex, 1);
    return -1;
  }
}

/** Takes one record: `bytes[offset .. offset + length)`, valid only during the call. */
export type SharedRingVisitor = (
  kind: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
) => void;

/** The reading side. Make one per ring. */
export class SharedRingReader {
  readonly #bytes: Uint8Array;
  readonly #words: Int32Array;
  readonly #capacity: number;
  #position: number;

  constructor(ring: SharedArrayBuffer) {
    this.#bytes = new Uint8Array(ring);
    this.#words = new Int32Array(ring);
    this.#capacity = ring.byteLength - controlBytes;
    this.#position = Atomics.load(this.#words, readPositionIndex) >>> 0;
  }

  /** Records that the writer was refused since creation, modulo 2^32. */
  get refused(): number {
    return Atomics.load(this.#words, refusedIndex) >>> 0;
  }

  /** Bytes in use, headers and padding included. */
  get usedBytes(): number {
    return (Atomics.load(this.#words, writePositionIndex) - this.#position) >>> 0;
  }

  /**
   * Visits up to `recordsMax` records in order and frees each after its visit, also when the visitor
   * throws. Returns how many there were.
   */
  drain(visit: SharedRingVisitor, recordsMax: number): number {
    const end = Atomics.load(this.#words, writePositionIndex) >>> 0;
    let count = 0;
    while (count < recordsMax && this.#position !== end) {
      const offset = this.#position & (this.#capacity - 1);
      const start = controlBytes + offset;
      const length = this.#words[start >>> 2]!;
      if (length === wrapMark) {
        this.#free(this.#capacity - offset);
        continue;
      }
      assert(length >= 0 && offset + recordBytes(length) <= this.#capacity, 'record in the ring');
      const kind = this.#words[(start >>> 2) + 1]! >>> 0;
      try {
        visit(kind, this.#bytes, start + headerBytes, length);
      } finally {
        this.#free(recordBytes(length));
      }
      count++;
    }
    return count;
  }

  #free(count: number): void {
    this.#position = (this.#position + count) >>> 0;
    Atomics.store(this.#words, readPositionIndex, this.#position | 0);
  }
}
