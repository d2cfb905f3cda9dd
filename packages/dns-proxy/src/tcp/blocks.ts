// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Reused memory for long TCP messages. If each message had memory of its own, a burst would leave a multiple of it resident
 * until the next garbage collection.
 *
 * A block has one owner at a time. The owner must not read it after giving it back, because it may hold another pod's message.
 */

import { tcpBlockBytesMin, tcpBlocksKept, tcpMessageBytesMax } from '../limits.ts';

/** Where the message begins in a framed one: after its length. */
export const framedMessage = 2;

export class TcpBlocks {
  readonly #sizes: readonly number[];
  /** Free blocks by size. */
  readonly #free: ReadonlyMap<number, ArrayBuffer[]>;
  readonly #own = new WeakSet<ArrayBufferLike>();
  readonly #kept: number;

  /** Sizes double from `bytesMin` on; `kept` blocks of each size are kept while they are free. */
  constructor(bytesMin: number = tcpBlockBytesMin, kept: number = tcpBlocksKept) {
    const largest = framedMessage + tcpMessageBytesMax;
    const sizes: number[] = [];
    for (let size = bytesMin; size < largest; size *= 2) sizes.push(size);
    this.#sizes = [...sizes, largest];
    this.#free = new Map(this.#sizes.map((size) => [size, []]));
    this.#kept = kept;
  }

  /** Whether so many octets are worth a block: it is half full at least, and counted (octets.ts) as what is in it. */
  isLong(octets: number): boolean {
    return octets > this.#sizes[0]! / 2;
  }

  /**
   * Memory for at least this many octets, with undefined content. Lengths up to a framed message of the largest size get a
   * block; longer ones get memory of their own.
   */
  take(octets: number): Uint8Array {
    const size = this.isLong(octets) ? this.#sizes.find((each) => each >= octets) : undefined;
    if (size === undefined) return new Uint8Array(octets);
    const free = this.#free.get(size)?.pop();
    if (free !== undefined) return new Uint8Array(free);
    const made = new ArrayBuffer(size);
    this.#own.add(made);
    return new Uint8Array(made);
  }

  /** Any part of what `take` returned, for all of it; once. */
  giveBack({ buffer }: Uint8Array): void {
    if (!this.#own.has(buffer)) return;
    const free = this.#free.get(buffer.byteLength);
    if (free !== undefined && free.length < this.#kept) free.push(buffer as ArrayBuffer);
  }
}
