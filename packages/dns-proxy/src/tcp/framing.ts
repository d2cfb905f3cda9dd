// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** DNS messages on a TCP stream: two octets of length, then the message (RFC 1035 section 4.2.2). */

import { tcpMessageBytesMax } from '../limits.ts';

/** Collects a stream's octets and gives out whole messages. Holds at most one message that is not whole. */
export class MessageReader {
  #buffer = new Uint8Array(1024);
  #start = 0;
  #end = 0;

  /** Whether a message has begun that is not whole. */
  get isPartial(): boolean {
    return this.#end > this.#start;
  }

  push(chunk: Uint8Array): void {
    const need = this.#end - this.#start + chunk.length;
    if (this.#end + chunk.length > this.#buffer.length) {
      const next = need > this.#buffer.length ? new Uint8Array(need * 2) : this.#buffer;
      next.set(this.#buffer.subarray(this.#start, this.#end));
      this.#buffer = next;
      this.#end -= this.#start;
      this.#start = 0;
    }
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.length;
  }

  /** The next whole message, a copy; null when there is none yet. */
  next(): Uint8Array | null {
    if (this.#end - this.#start < 2) return null;
    const length =
      ((this.#buffer[this.#start] as number) << 8) | (this.#buffer[this.#start + 1] as number);
    if (this.#end - this.#start < 2 + length) return null;
    const message = this.#buffer.slice(this.#start + 2, this.#start + 2 + length);
    this.#start += 2 + length;
    if (this.#start === this.#end) {
      this.#start = 0;
      this.#end = 0;
      if (this.#buffer.length > tcpMessageBytesMax) this.#buffer = new Uint8Array(1024);
    }
    return message;
  }
}

/** The message with its length before it. */
export function frame(message: Uint8Array): Uint8Array {
  const framed = new Uint8Array(message.length + 2);
  framed[0] = message.length >> 8;
  framed[1] = message.length & 0xff;
  framed.set(message, 2);
  return framed;
}
