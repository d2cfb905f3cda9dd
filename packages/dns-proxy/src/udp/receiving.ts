// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Assigns a slot to each rx record of the listeners. */

import { RECORD_WORDS, RX_CAPACITY, RX_OFFSET } from '@tandem/dns-sockets/layout';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { noSlot, type QuerySlot } from '../journal/region.ts';
import type { QuerySlots } from '../journal/slots.ts';
import { batchMax, udpQueryBytesMax } from '../limits.ts';

/** The slot that was there is in flight. */
const none = -1;

export class Receiving {
  readonly #slots: QuerySlots;
  readonly #listeners: UdpLoop;
  readonly #armed = new Int32Array(batchMax);

  constructor(slots: QuerySlots, listeners: UdpLoop) {
    this.#slots = slots;
    this.#listeners = listeners;
    for (let i = 0; i < batchMax; i++) this.#arm(i);
  }

  slotOf(record: number): QuerySlot {
    return this.#armed[record]! as QuerySlot;
  }

  /** The slot of the record waits for an answer: another one receives. */
  keep(record: number): void {
    this.#armed[record] = none;
  }

  /** After its batch rx record `i` receives into its slot again, or into a new one. */
  settle(i: number): void {
    const slots = this.#slots;
    const slot = this.#armed[i]! as QuerySlot;
    if (slot === none || slots.isScrap(slot) || !slots.recycle(slot)) this.#arm(i);
  }

  #arm(i: number): void {
    const slots = this.#slots;
    const { rx } = this.#listeners;
    let taken = slots.take();
    while (taken !== noSlot && !slots.receive(taken)) taken = slots.take();
    const slot = taken === noSlot ? slots.scrap(i) : taken;
    this.#armed[i] = slot;
    rx[i * RECORD_WORDS + RX_OFFSET] = slots.messageOf(slot);
    rx[i * RECORD_WORDS + RX_CAPACITY] = udpQueryBytesMax;
  }
}
