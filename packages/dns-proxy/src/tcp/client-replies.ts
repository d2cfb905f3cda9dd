// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The replies of one pod's connection that its client has not received yet: replies that are sent after the turn, and replies in
 * the kernel. Their octets count for the pod until the client has received them.
 */

import { tcpUnsentBytesMax } from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import type { TcpShared } from './shared.ts';
import type { TcpStream } from './stream.ts';

export class ClientReplies {
  readonly #c: TcpShared;
  readonly #endpointSlot: EndpointSlot;
  /** Replies that leave after the turn, when what they teach is in the datapath. */
  readonly #replies: Uint8Array[] = [];
  /** Octets that the client has not taken, of which room was taken for so many. */
  #unsent = 0;
  #reserved = 0;

  constructor(context: TcpShared, endpointSlot: EndpointSlot) {
    this.#c = context;
    this.#endpointSlot = endpointSlot;
  }

  /** Octets. */
  get unsent(): number {
    return this.#unsent;
  }

  /** Replies that leave after the turn. */
  get made(): number {
    return this.#replies.length;
  }

  /** While a client does not take its replies no more are made. */
  get hasRoom(): boolean {
    return this.#unsent < tcpUnsentBytesMax;
  }

  add(framed: Uint8Array): void {
    this.#unsent += framed.length;
    this.#replies.push(framed);
    // The room that a server's reply had while it came in was given back just before.
    if (this.#c.octets.take(this.#endpointSlot, framed.length)) this.#reserved += framed.length;
  }

  /** Sends what the turn made. */
  flush(stream: TcpStream): void {
    const { blocks, giveBackBlock } = this.#c;
    // One by one: written memory belongs to the stream.
    for (let reply = this.#replies.shift(); reply !== undefined; reply = this.#replies.shift()) {
      stream.write(reply, blocks.isLong(reply.length) ? giveBackBlock : undefined);
    }
  }

  /** The client has taken so many octets. */
  taken(octets: number): void {
    this.#unsent -= octets;
    const back = Math.min(octets, this.#reserved);
    this.#reserved -= back;
    this.#c.octets.giveBack(this.#endpointSlot, back);
  }

  /** The connection is over. */
  release(): void {
    this.#c.octets.giveBack(this.#endpointSlot, this.#reserved);
    this.#reserved = 0;
    for (const reply of this.#replies) this.#c.blocks.giveBack(reply);
    this.#replies.length = 0;
  }
}
