// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Shares the DNS worker's time among TCP connections. What comes in is not handled where it is read: a
 * connection with whole messages waits for its turn. In one turn of the event loop a bounded number of messages
 * is handled, a few per connection, endpoint after endpoint, so that neither a pod nor a server that sends at
 * line rate delays others, UDP least of all.
 */

import { tcpMessagesPerStep, tcpMessagesPerTurn, tcpRetryMs } from '../limits.ts';
import type { TcpSystem } from './stream.ts';

/** A connection with messages to handle. */
export interface TurnTaker {
  readonly endpointSlot: number;
  /** In a queue of `TcpTurns`, which alone writes it. */
  isQueued: boolean;
  /** Handles at most so many messages; how many it were. */
  step(messages: number): number;
  /** Whether there are messages that can be handled now. */
  readonly hasMore: boolean;
}

/** A connection with replies to send. */
export interface Flushable {
  flush(): void;
}

export class TcpTurns {
  readonly #system: Pick<TcpSystem, 'soon' | 'after'>;
  readonly #onTurn: () => void;
  readonly #afterTurn: () => void;
  /** Connections of each endpoint, in the order of their turns. */
  readonly #queues = new Map<number, TurnTaker[]>();
  readonly #waiting = new Set<TurnTaker>();
  readonly #toFlush = new Set<Flushable>();
  #isInTurn = false;
  #isScheduled = false;

  /**
   * `onTurn`, `afterTurn`: before the first and after the last message of a turn, and before its replies are
   * sent.
   */
  constructor(
    system: Pick<TcpSystem, 'soon' | 'after'>,
    onTurn: () => void,
    afterTurn: () => void,
  ) {
    this.#system = system;
    this.#onTurn = onTurn;
    this.#afterTurn = afterTurn;
  }

  /** The connection has messages to handle. */
  add(taker: TurnTaker): void {
    if (taker.isQueued) return;
    taker.isQueued = true;
    const queue = this.#queues.get(taker.endpointSlot);
    if (queue === undefined) this.#queues.set(taker.endpointSlot, [taker]);
    else queue.push(taker);
    this.#schedule();
  }

  /** The connection has messages that cannot be handled for want of rate or room: it tries again soon. */
  retry(taker: TurnTaker): void {
    if (this.#waiting.size === 0) this.#system.after(tcpRetryMs, () => this.#retryAll());
    this.#waiting.add(taker);
  }

  #retryAll(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const taker of waiting) this.add(taker);
  }

  /** The connection's replies leave at the end of this turn, or of the next one. */
  flushAfter(connection: Flushable): void {
    this.#toFlush.add(connection);
    if (!this.#isInTurn) this.#schedule();
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#system.soon(() => this.#turn());
  }

  #turn(): void {
    this.#isScheduled = false;
    this.#isInTurn = true;
    this.#onTurn();
    let left = tcpMessagesPerTurn;
    // A queue that is set again is visited again, after those of all other endpoints.
    for (const [slot, queue] of this.#queues) {
      const taker = queue.shift() as TurnTaker;
      taker.isQueued = false;
      left -= Math.max(1, taker.step(Math.min(tcpMessagesPerStep, left)));
      if (taker.hasMore && !taker.isQueued) {
        taker.isQueued = true;
        queue.push(taker);
      }
      this.#queues.delete(slot);
      if (queue.length > 0) this.#queues.set(slot, queue);
      if (left <= 0) break;
    }
    this.#afterTurn();
    for (const connection of this.#toFlush) connection.flush();
    this.#toFlush.clear();
    this.#isInTurn = false;
    if (this.#queues.size > 0) this.#schedule();
  }
}
