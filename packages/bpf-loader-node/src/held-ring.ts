// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// A BPF ring buffer whose records stay in it until they are committed: a reader that is killed leaves
// them to the next one, in whatever process. Positions are bytes since the ring was made, so that a
// record's position identifies it in all processes, also if it is read twice.
//
// One process reads at a time by agreement. If another one reads too, after a stop of any length
// anywhere, no record is torn: copies made under a position that has since changed are dropped (`fenced`), and
// this reader cannot change the position.
//
// Read when asked, by a timer: held records keep the map readable, so the event loop cannot wait for it.

import type { BpfMap } from './map.ts';
import { type Handle, native, type RingFacts } from './native.ts';
import { type RingOptions, ringBatchBytes, ringBatchRecords } from './ringbuf.ts';

/** As `OnRecords` of RingBuffer; record i began at `positions[i]`. */
export type OnHeldRecords = (
  bytes: Uint8Array,
  lengths: Uint32Array,
  positions: Float64Array,
  count: number,
) => void;

export class HeldRing implements Disposable {
  #handle: Handle;

  /** Begins with the first record that is not committed, also if another process has read it. */
  constructor(map: BpfMap, onRecords: OnHeldRecords, options: RingOptions = {}) {
    const { batchBytes = Math.min(ringBatchBytes, map.maxEntries) } = options;
    const lengths = new Uint32Array(options.batchRecords ?? ringBatchRecords);
    const positions = new Float64Array(lengths.length);
    this.#handle = native.ringOpen(
      map.handle,
      new Uint8Array(batchBytes),
      lengths,
      (bytes, _lengths, count) => onRecords(bytes, lengths, positions, count),
      positions,
    );
  }

  /** Delivers one batch; returns its records. Not from inside the callback, whose exception comes out. */
  read(): number {
    return native.ringConsume(this.#handle);
  }

  /**
   * Gives the room before `position` back to the kernel. False: another reader has moved the position,
   * and has the records that were not committed.
   */
  commit(position: number): boolean {
    return native.ringCommit(this.#handle, position);
  }

  /** Reads on from the committed position, which it returns: records that were read and not committed come again. */
  rewind(): number {
    return native.ringRewind(this.#handle);
  }

  /** As of RingBuffer. */
  stats(): RingFacts {
    return native.ringStats(this.#handle);
  }

  close(): void {
    native.handleClose(this.#handle);
    this.#handle = 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
