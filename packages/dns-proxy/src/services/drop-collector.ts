// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The reader of drop events in its process, into store and exchange. Drop events are for
 * people: what fails here is said, tried again, and keeps nothing else from working.
 */

import type { GroupIndex } from '@tandem/core/ids';
import type { Datapath } from '@tandem/datapath/datapath';
import type { Logger } from '@tandem/runtime/log';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type Degradation, degradation } from '../admin/degradation.ts';
import { dropRetryMs } from '../drops/limits.ts';
import { DropReader } from '../drops/reader.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { Exchange } from '../sync/exchange.ts';

export class DropCollector {
  readonly #store: NodeStore;
  readonly #exchange: Exchange;
  readonly #member: GroupIndex;
  readonly #log: Logger;
  #reader: DropReader | null = null;
  #error: TandemError | null = null;
  #retryMs = -Infinity;

  /** `member`: our index in the group. */
  constructor(store: NodeStore, exchange: Exchange, member: GroupIndex, log: Logger) {
    this.#store = store;
    this.#exchange = exchange;
    this.#member = member;
    this.#log = log;
  }

  /** Null: the ring could not be opened yet. */
  get reader(): DropReader | null {
    return this.#reader;
  }

  /** After `datapath.reopen()`: another version of the agent may have another ring. */
  follow(datapath: Datapath): void {
    if (this.#reader === null || this.#reader.ringId === datapath.map('events').id) return;
    this.#reader[Symbol.dispose]();
    this.#reader = null;
  }

  /** Reads what there is, and leaves the ring to the other process. */
  stop(): void {
    try {
      this.#reader?.[Symbol.dispose]();
    } catch (error) {
      this.#fail(error);
    }
  }

  degradations(): readonly Degradation[] {
    if (this.#error === null) return [];
    return [
      degradation('drop-events-unread', {
        message: `this process cannot read the ring of drop events: ${this.#error.message}; packets are dropped and counted nevertheless`,
      }),
    ];
  }

  /** Every `dropReadMs`. */
  step(datapath: Datapath): void {
    const nowMs = systemClock.monotonicMs();
    if (nowMs < this.#retryMs) return;
    try {
      this.#reader ??= this.#open(datapath);
      this.#reader.step();
      this.#error = null;
    } catch (error) {
      this.#retryMs = nowMs + dropRetryMs;
      this.#fail(error);
    }
  }

  #open(datapath: Datapath): DropReader {
    const reader = new DropReader({
      datapath,
      member: this.#member,
      clock: systemClock,
      onRecord: (bytes, at, length, isCatchUp) => {
        if (!this.#store.dropRecord(bytes, at, length)) return;
        this.#exchange.offerDrop(bytes, at, length, isCatchUp);
      },
      acknowledgedPosition: (ring) => this.#exchange.outbox.acknowledgedDropPosition(ring),
    });
    const { drops } = this.#store;
    drops.lastPosition = () => reader.lastPosition;
    drops.begin(reader.lastPosition, reader.ringId);
    return reader;
  }

  #fail(error: unknown): void {
    const failure = TandemError.from(error);
    if (this.#error?.message !== failure.message) {
      this.#log.error('drop events cannot be read; DNS and policy are not affected', {
        error: failure,
      });
    }
    this.#error = failure;
  }
}
