// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Sends the replies of a batch to pods. A slot becomes free when the reply to its query has been sent. */

import { writeReply } from '@tandem/core/dns/edit';
import type { QueryView } from '@tandem/core/dns/query';
import { HEADER_TX_COUNT } from '@tandem/dns-sockets/layout';
import { counter } from '../counters.ts';
import type { QuerySlot } from '../journal/region.ts';
import { slotClient, slotClientPort, slotListener, slotServer } from '../journal/slots.ts';
import { batchMax, udpQueryBytesMax } from '../limits.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import type { UdpShared } from './shared.ts';
import { appendReply } from './transmit.ts';

type OutgoingOptions = Pick<UdpShared, 'memory' | 'slots' | 'listeners' | 'counters'>;

export class Outgoing {
  readonly #o: OutgoingOptions;
  /** Slots in flight whose reply is in the batch. */
  readonly #replied = new Int32Array(batchMax);
  #repliedCount = 0;

  constructor(options: OutgoingOptions) {
    this.#o = options;
  }

  /** Appends a reply of `length` bytes at `start`, to the client of the query in the slot. */
  append(slot: QuerySlot, start: number, length: number): void {
    const { slots, listeners } = this.#o;
    const { words } = slots;
    const at = slots.wordOf(slot);
    const listener = words[at + slotListener]! as ListenerHandle;
    const port = words[at + slotClientPort]!;
    appendReply(listeners, listener, start, length, words, at + slotClient, port, at + slotServer);
  }

  /**
   * Our own reply to the query in the slot, which `query` holds, written into the scrap slot `cell`: the
   * query stays as it came.
   */
  write(slot: QuerySlot, cell: QuerySlot, query: QueryView, rcode: number, ede: number): void {
    const { memory, slots } = this.#o;
    const message = slots.messageOf(slot);
    const start = slots.messageOf(cell);
    const end = start + udpQueryBytesMax;
    const length = writeReply(memory, start, end, memory, message, query, rcode, ede);
    if (length > 0) this.append(slot, start, length);
  }

  /** The slot was in flight and its reply is in the batch: `flush` frees it. At most `batchMax`. */
  releaseAfter(slot: QuerySlot): void {
    this.#replied[this.#repliedCount] = slot;
    this.#repliedCount += 1;
  }

  /** Sends. */
  flush(): void {
    const { listeners, slots, counters } = this.#o;
    const count = listeners.header[HEADER_TX_COUNT]!;
    if (count > 0) counters[counter.replySendErrors]! += count - listeners.flush();
    for (let i = 0; i < this.#repliedCount; i++) slots.release(this.#replied[i]! as QuerySlot);
    this.#repliedCount = 0;
  }
}
