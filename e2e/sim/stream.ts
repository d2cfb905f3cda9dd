// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A gRPC stream between the two main threads: messages arrive in order or, when it is cut, not at all;
 * each end hears of the end when it comes to it.
 */

import type { ExchangePort } from '@tandem/dns-proxy/sync/exchange';
import type { SyncMessage, SyncMessageInit } from '@tandem/proto/gen/messages';
import { streamMessagesMax } from './sizes.ts';

export class StreamEnd implements ExchangePort {
  /** To be read here. */
  readonly inbox: SyncMessageInit[] = [];
  other: StreamEnd | null = null;
  isOpen = true;
  /** The end was told of. */
  isOver = false;
  /** Nothing is read before; see `Peers.delayNs`. */
  readNs = 0;

  get isWritable(): boolean {
    return this.isOpen && this.other !== null && this.other.inbox.length < streamMessagesMax;
  }

  send(message: SyncMessageInit): boolean {
    if (!this.isWritable) return false;
    this.other?.inbox.push(message);
    return true;
  }

  close(): void {
    this.isOpen = false;
    if (this.other !== null) this.other.isOpen = false;
  }
}

export function connect(): [StreamEnd, StreamEnd] {
  const ends: [StreamEnd, StreamEnd] = [new StreamEnd(), new StreamEnd()];
  ends[0].other = ends[1];
  ends[1].other = ends[0];
  return ends;
}

/** Message as the decoder gives it, with every field. */
export function decoded(message: SyncMessageInit): SyncMessage {
  const { hello = null, batch = null, ack = null } = message;
  return {
    hello,
    ack,
    batch:
      batch === null
        ? null
        : {
            mappings: [],
            dnsRecords: nothing,
            dropRecords: nothing,
            eventsLost: 0,
            mappingsLost: 0,
            cacheEnd: false,
            ...batch,
          },
  } as SyncMessage;
}

const nothing = new Uint8Array(0);
