// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Shares the DNS worker's time among TCP connections. Reading does not handle messages: a connection with whole messages waits for
 * its turn. One turn of the event loop handles a bounded number of messages (a long one counts as several), a few per connection,
 * endpoint after endpoint. So no pod and no server that sends at line rate delays others, and least of all UDP.
 */

import {
  tcpMessagesPerStep,
  tcpMessagesPerTurn,
  tcpOctetsPerMessage,
  tcpRetriesPerEndpoint,
  tcpRetryMs,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import type { TcpSystem } from './stream.ts';

/** For how many messages one of so many octets counts. */
export function costOf(octets: number): number {
  return 1 + Math.floor(octets / tcpOctetsPerMessage);
}

/** A connection with messages to handle. */
export interface TurnTaker {
  readonly endpointSlot: EndpointSlot;
  /** In a queue of `TcpTurns`, which alone writes it. */
  isQueued: boolean;
  /** Among those that try again later; `TcpTurns` alone writes it. */
  isWaitingToRetry: boolean;
  /** Handles messages until they cost so much, by `costOf`; how much they did, the last one may be more. */
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
  readonly #queues = new Map<EndpointSlot, TurnTaker[]>();
  /** Connections of each endpoint that try again later, in the order in which they began to wait. */
  readonly #waiting = new Map<EndpointSlot, TurnTaker[]>();
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

  /**
   * The connection has messages that cannot be handled for want of rate or room: it tries again soon, after those of
   * its endpoint that wait already.
   */
  retry(taker: TurnTaker): void {
    if (taker.isWaitingToRetry) return;
    taker.isWaitingToRetry = true;
    if (this.#waiting.size === 0) this.#system.after(tcpRetryMs, this.#retrySome);
    const waiting = this.#waiting.get(taker.endpointSlot);
    if (waiting === undefined) this.#waiting.set(taker.endpointSlot, [taker]);
    else waiting.push(taker);
  }

  /** Few of each endpoint: hundreds that wait for the same room would try in vain. */
  readonly #retrySome = (): void => {
    for (const [slot, waiting] of this.#waiting) {
      for (const taker of waiting.splice(0, tcpRetriesPerEndpoint)) {
        taker.isWaitingToRetry = false;
        this.add(taker);
      }
      if (waiting.length === 0) this.#waiting.delete(slot);
    }
    if (this.#waiting.size > 0) this.#system.after(tcpRetryMs, this.#retrySome);
  };

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
