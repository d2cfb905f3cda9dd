// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// A BPF ring buffer on the event loop. One call per wake with a batch of records in one buffer that is
// used again for the next batch: the callback copies what it wants to keep. A batch is bounded, so a
// flood of records cannot hold the loop; the rest comes at the next turn. Several readers of one map,
// in whatever processes, share its records: each goes to one of them.

import type { BpfMap } from './map.ts';
import { type Handle, native, type RingFacts } from './native.ts';

/** Default bytes of one batch, and so of the longest record. */
export const ringBatchBytes: number = 256 * 1024;
/** Default records of one batch. */
export const ringBatchRecords = 4096;

export interface RingOptions {
  /** A multiple of 8; default `ringBatchBytes`, or the ring's own size when that is less. */
  readonly batchBytes?: number;
  /** 1 to 65,536; default `ringBatchRecords`. */
  readonly batchRecords?: number;
}

/**
 * `bytes` holds `count` records; record i begins at the sum of the lengths before it, each rounded up
 * to 8, and has `lengths[i]` bytes. Both arrays are overwritten by the next batch.
 */
export type OnRecords = (bytes: Uint8Array, lengths: Uint32Array, count: number) => void;

export class RingBuffer implements Disposable {
  #handle: Handle;

  /** Begins to read the records of the ring. */
  constructor(map: BpfMap, onRecords: OnRecords, options: RingOptions = {}) {
    const { batchBytes = Math.min(ringBatchBytes, map.maxEntries) } = options;
    const batch = new Uint8Array(batchBytes);
    const lengths = new Uint32Array(options.batchRecords ?? ringBatchRecords);
    this.#handle = native.ringOpen(map.handle, batch, lengths, onRecords, null);
  }

  /**
   * Delivers one batch now, without waiting for the loop; returns its records. Not from inside the
   * callback. An exception of the callback comes out of here.
   */
  consume(): number {
    return native.ringConsume(this.#handle);
  }

  /**
   * `oversized`: records longer than a batch, which were skipped; `fenced`: batches that another reader
   * took; `repaired`: times that the shared position was one that cannot be, and was set to the end.
   */
  stats(): RingFacts {
    return native.ringStats(this.#handle);
  }

  /** Whether the open ring keeps the process alive; it does by default. */
  setKeepsAlive(keepsAlive: boolean): void {
    native.ringSetRef(this.#handle, keepsAlive);
  }

  /** No call of the callback after this; records not read stay in the map. */
  close(): void {
    native.handleClose(this.#handle);
    this.#handle = 0;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
