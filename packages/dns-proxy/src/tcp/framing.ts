// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** DNS messages on a TCP stream: two octets of length, then the message (RFC 1035 section 4.2.2). */

import { framedMessage, type TcpBlocks } from './blocks.ts';

const noBytes = new Uint8Array();

/**
 * Collects a stream's octets and gives out whole messages, in place. Of a message that is longer than
 * `messageBytesMax` the first octets are given out, and the rest is passed over as it comes.
 */
export class MessageReader {
  readonly #messageBytesMax: number;
  readonly #blocks: TcpBlocks;
  #buffer: Uint8Array = noBytes;
  #start = 0;
  #end = 0;
  /** Octets of a message that was cut, still to come. */
  #toSkip = 0;
  /** The message that `peek` found is [messageStart, messageEnd) of `bytes`, until the next `push`. */
  messageStart = 0;
  messageEnd = 0;
  /** The message was longer than `messageBytesMax`. */
  isCut = false;

  constructor(messageBytesMax: number, blocks: TcpBlocks) {
    this.#messageBytesMax = messageBytesMax;
    this.#blocks = blocks;
  }

  get bytes(): Uint8Array {
    return this.#buffer;
  }

  /** Octets held. */
  get held(): number {
    return this.#end - this.#start;
  }

  /** Whether a message has begun that is not given out yet. */
  get hasBegun(): boolean {
    return this.#end > this.#start || this.#toSkip > 0;
  }

  /** Length of the message that has begun; -1 while its length is not known. */
  get nextLength(): number {
    if (this.held < framedMessage) return -1;
    return (this.#buffer[this.#start]! << 8) | this.#buffer[this.#start + 1]!;
  }

  /** Id of the message that has begun; -1 while it is not known, or the message has none. */
  get nextId(): number {
    if (this.held < framedMessage + 2 || this.nextLength < 2) return -1;
    const at = this.#start + framedMessage;
    return (this.#buffer[at]! << 8) | this.#buffer[at + 1]!;
  }

  push(chunk: Uint8Array): void {
    const skipped = Math.min(this.#toSkip, chunk.length);
    this.#toSkip -= skipped;
    const length = chunk.length - skipped;
    if (length === 0) return;
    this.#makeRoom(length);
    this.#buffer.set(skipped === 0 ? chunk : chunk.subarray(skipped), this.#end);
    this.#end += length;
  }

  /** Finds the next message; false if none is whole yet. The same one until `take`. */
  peek(): boolean {
    const length = this.nextLength;
    if (length === -1) return false;
    const given = Math.min(length, this.#messageBytesMax);
    if (this.held < framedMessage + given) return false;
    this.messageStart = this.#start + framedMessage;
    this.messageEnd = this.messageStart + given;
    this.isCut = given < length;
    return true;
  }

  /** The message that `peek` found is done with: its octets may be another's now. */
  take(): void {
    const length = this.nextLength;
    const here = Math.min(length, this.held - framedMessage);
    this.#start += framedMessage + here;
    this.#toSkip = length - here;
    if (this.#start === this.#end) this.release();
  }

  /** Drops all octets that it holds. */
  release(): void {
    this.#start = 0;
    this.#end = 0;
    this.#blocks.giveBack(this.#buffer);
    this.#buffer = noBytes;
  }

  #makeRoom(length: number): void {
    if (this.#end + length <= this.#buffer.length) return;
    const { held } = this;
    const need = held + length;
    if (need <= this.#buffer.length) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
    } else {
      // A message whose length is known gets its room at once: it is not copied again while it comes.
      const message = Math.min(this.nextLength, this.#messageBytesMax) + framedMessage;
      const next = this.#blocks.take(Math.max(need, message));
      next.set(this.#buffer.subarray(this.#start, this.#end));
      this.#blocks.giveBack(this.#buffer);
      this.#buffer = next;
    }
    this.#start = 0;
    this.#end = held;
  }
}

/**
 * The message in [start, end) of `bytes` with its length before it, as it is sent. A long one is in a block of
 * `blocks`, to be given back; others come out of Node's pool, without an allocation of their own.
 */
export function frame(
  bytes: Uint8Array,
  start: number,
  end: number,
  blocks: TcpBlocks | null = null,
): Uint8Array {
  const length = end - start;
  const octets = length + framedMessage;
  const framed =
    blocks?.isLong(octets) === true
      ? blocks.take(octets).subarray(0, octets)
      : Buffer.allocUnsafe(octets);
  framed[0] = length >> 8;
  framed[1] = length & 0xff;
  framed.set(bytes.subarray(start, end), framedMessage);
  return framed;
}
