// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One TCP connection to the server that a pod's connection asks, with its queries in flight. It is read with a
 * budget, and only as far as there is room for the next reply. A reply that matches no query closes it: no other host can forge one on a
 * stream, so the server is broken or hostile.
 */

import { matchExact, matchNone, matchReply } from '@tandem/core/dns/reply-match';
import { dnsHeaderBytes } from '@tandem/core/limits';
import { counter } from '../counters.ts';
import {
  tcpConnectTimeoutMs,
  tcpIdleTimeoutMs,
  tcpInFlightPerConnectionMax,
  tcpMessageBytesMax,
  tcpReopenMs,
  upstreamTimeoutMs,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { MessageReader } from './framing.ts';
import type { TcpQuery } from './query.ts';
import type { TcpShared } from './shared.ts';
import type { TcpStream, TcpStreamEvents } from './stream.ts';
import { costOf, type TurnTaker } from './turns.ts';

/**
 * How a connection ended. 'useful': it was made and answered something. 'useless': it was made. 'unmade': the server did not take
 * it. 'late': nor did it within tcpReopenMs, and another port may lead to another backend. 'elsewhere': it was not made yet when the
 * server got other backends. With the last two no server was asked.
 */
export type UpstreamEnd = 'useful' | 'useless' | 'unmade' | 'late' | 'elsewhere';

export interface TcpUpstreamEvents {
  /** A reply to the query, which is no longer in flight: [start, end) of `bytes`, valid until this returns. */
  readonly onReply: (
    query: TcpQuery,
    bytes: Uint8Array,
    start: number,
    end: number,
    mayLearn: boolean,
  ) => void;
  /** The query was not answered in time. */
  readonly onTimeout: (query: TcpQuery) => void;
  /** The connection is over, with these unanswered. */
  readonly onClosed: (unanswered: readonly TcpQuery[], end: UpstreamEnd) => void;
  /** Whether the query may be sent to the server on another connection. */
  readonly mayAskAgain: (query: TcpQuery) => boolean;
  /** Whether the client takes replies now. */
  readonly mayReply: () => boolean;
}

export class TcpUpstream implements TurnTaker {
  readonly endpointSlot: EndpointSlot;
  /** Past the redirects of the node. */
  readonly isPastRedirects: boolean;
  isQueued = false;
  isWaitingToRetry = false;
  readonly #c: TcpShared;
  #events: TcpUpstreamEvents;
  readonly #server: Uint8Array;
  readonly #stream: TcpStream;
  readonly #reader: MessageReader;
  /** By id, in the order they were sent; null for one that timed out: its reply may come yet. */
  readonly #queries = new Map<number, TcpQuery | null>();
  #inFlight = 0;
  #answered = 0;
  /** `writtenTo` of the last query sent of those that were answered. */
  #answeredTo = 0;
  /** Octets that were written, and of these that the kernel has taken. */
  #written = 0;
  #taken = 0;
  /** `writtenTo` and `sentNs` of the last query that timed out. */
  #overdueTo = 0;
  #overdueSentNs = 0;
  /** Octets that are taken for the reply that is coming. */
  #reserved = 0;
  #isConnected = false;
  /** It is not read until its turn. */
  #isPaused = false;
  /** The reply that comes next has no room: it tries again soon. */
  #isWaiting = false;
  #isClosed = false;
  /** Its server has other backends than when it was made. */
  #isRetired = false;
  readonly #openedNs: number;
  /** When the last octets came or went. */
  #activeNs: number;

  constructor(
    context: TcpShared,
    server: Uint8Array,
    endpointSlot: EndpointSlot,
    events: TcpUpstreamEvents,
    isPastRedirects = false,
  ) {
    this.#c = context;
    this.isPastRedirects = isPastRedirects && context.system.connectPastRedirects !== undefined;
    this.#reader = new MessageReader(tcpMessageBytesMax, context.blocks);
    this.endpointSlot = endpointSlot;
    this.#events = events;
    this.#server = server.slice();
    this.#openedNs = context.moment.monotonicNs;
    this.#activeNs = this.#openedNs;
    const streamEvents: TcpStreamEvents = {
      onConnect: () => {
        this.#isConnected = true;
      },
      onData: (bytes) => this.#onData(bytes),
      onTaken: (octets) => {
        this.#taken += octets;
      },
      onEnd: () => this.#fail(),
      onClose: () => this.#fail(),
    };
    const { system } = context;
    this.#stream = this.isPastRedirects
      ? (system.connectPastRedirects?.(server, streamEvents) ??
        system.connect(server, streamEvents))
      : system.connect(server, streamEvents);
  }

  /** A query may be sent: also on a retired one that has queries in flight, as a client's own connection would. */
  get takesQueries(): boolean {
    return !this.#isClosed && (!this.#isRetired || this.#inFlight > 0);
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  isTo(server: Uint8Array): boolean {
    return server.every((octet, i) => octet === this.#server[i]);
  }

  /** Connected, with nothing in flight and nothing that may come yet, to a backend that is still one. */
  get isFree(): boolean {
    const isQuiet = this.#queries.size === 0 && !this.#reader.hasBegun;
    return !this.#isClosed && !this.#isRetired && this.#isConnected && isQuiet;
  }

  /**
   * The server has other backends than before: conntrack may lead this connection to one that is gone. One that is not made
   * yet has asked no server, and the kernel would send its SYN to that backend again and again.
   */
  retire(): void {
    this.#isRetired = true;
    if (!this.#isConnected && this.#mayMove()) this.#fail('elsewhere');
  }

  /** From now on it belongs to another connection of the pod, or to none. */
  serve(events: TcpUpstreamEvents): void {
    this.#events = events;
  }

  /** Sends the query with an id that no other in flight here has. */
  send(query: TcpQuery): void {
    const { random, moment } = this.#c;
    let id = random.u16();
    while (this.#queries.has(id)) id = random.u16();
    query.setId(id);
    this.#queries.set(id, query);
    this.#inFlight += 1;
    this.#activeNs = moment.monotonicNs;
    this.#written += query.framed.length;
    query.writtenTo = this.#written;
    query.sentNs = moment.monotonicNs;
    this.#stream.write(query.framed);
  }

  /** The client takes replies again. */
  wake(): void {
    if (!this.#isClosed && this.#isPaused) this.#c.turns.add(this);
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#giveBackReserved();
    this.#reader.release();
    this.#stream.destroy();
  }

  /** The queries in flight, in the order in which they were sent. */
  *unanswered(): Iterable<TcpQuery> {
    for (const query of this.#queries.values()) if (query !== null) yield query;
  }

  /** Ends what takes too long: a query, a reply that has begun, the connection. */
  sweep(nowNs: number): void {
    for (const [id, query] of this.#queries) {
      if (query === null) continue;
      // One that is asked again stands behind younger ones.
      if (nowNs - query.startedNs < upstreamTimeoutMs * 1e6) continue;
      this.#queries.set(id, null);
      this.#inFlight -= 1;
      this.#overdueTo = query.writtenTo;
      this.#overdueSentNs = query.sentNs;
      this.#events.onTimeout(query);
    }
    if (this.#isClosed) return;
    const connectingMs = this.#isConnected ? 0 : (nowNs - this.#openedNs) / 1e6;
    if (connectingMs >= tcpReopenMs && this.#isFirstTry() && this.#mayMove()) this.#fail('late');
    const isSlow = connectingMs >= tcpConnectTimeoutMs;
    const isIdle = this.#inFlight === 0 && nowNs - this.#activeNs >= tcpIdleTimeoutMs * 1e6;
    // A reply that has begun and whose query timed out holds room for nothing.
    const isLate = this.#reserved > 0 && this.#queries.get(this.#reader.nextId) === null;
    const isDeaf = this.#queries.size - this.#inFlight > tcpInFlightPerConnectionMax;
    // Octets of a query that timed out count for its pod no more: those that the kernel does not take would be held without a bound.
    // One that was asked again shortly before has not waited here for long.
    const isUnread =
      this.#overdueTo > this.#taken && nowNs - this.#overdueSentNs >= upstreamTimeoutMs * 1e6;
    if (isSlow || isIdle || isLate || isDeaf || isUnread) this.#fail();
  }

  get hasMore(): boolean {
    return !this.#isClosed && !this.#isWaiting && this.#reader.peek() && this.#events.mayReply();
  }

  step(messages: number): number {
    this.#isWaiting = false;
    let done = 0;
    while (done < messages && !this.#isClosed && this.#takeRoom()) {
      if (!this.#events.mayReply() || !this.#reader.peek()) break;
      const { messageStart, messageEnd } = this.#reader;
      done += costOf(messageEnd - messageStart);
      this.#onMessage();
    }
    if (!this.#isClosed && this.#events.mayReply() && !this.#reader.peek() && this.#hasRoom()) {
      this.#isPaused = false;
      this.#stream.resume();
    }
    return done;
  }

  #onData(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.#activeNs = this.#c.moment.monotonicNs;
    this.#reader.push(bytes);
    this.#isPaused = true;
    this.#stream.pause();
    this.#c.turns.add(this);
  }

  /** Room for the reply that has begun; false if it must wait, or closed the connection. */
  #takeRoom(): boolean {
    const { turns, octets } = this.#c;
    const id = this.#reader.nextId;
    if (id === -1) {
      // An empty message, or one of a single octet, is nothing that a query waits for.
      if (this.#reader.nextLength === 0 || this.#reader.nextLength === 1) {
        this.#onJunk(counter.repliesUnsolicited);
      }
      return false;
    }
    if (!this.#queries.has(id) || this.#reader.nextLength < dnsHeaderBytes) {
      this.#onJunk(counter.repliesUnsolicited);
      return false;
    }
    if (this.#reserved > 0) return true;
    const length = this.#reader.nextLength + 2;
    if (!octets.take(this.endpointSlot, length)) {
      this.#isWaiting = true;
      turns.retry(this);
      return false;
    }
    this.#reserved = length;
    return true;
  }

  /** Whether the next octets may be read: its first octets, or all of a reply that has its room. */
  #hasRoom(): boolean {
    return this.#reserved > 0 || this.#reader.nextId === -1;
  }

  #onMessage(): void {
    this.#onReply(this.#reader.nextId);
    // Last: from here on the octets of the message may be another's.
    if (!this.#isClosed) this.#reader.take();
  }

  #onReply(id: number): void {
    const { bytes, messageStart: start, messageEnd: end } = this.#reader;
    const query = this.#queries.get(id);
    if (query !== null && query !== undefined) {
      const match = matchReply(
        bytes,
        start,
        end,
        query.framed,
        query.messageStart,
        query.questionEnd,
      );
      if (match === matchNone) {
        this.#onJunk(counter.repliesMismatched);
        return;
      }
      this.#inFlight -= 1;
      this.#answered += 1;
      this.#answeredTo = Math.max(this.#answeredTo, query.writtenTo);
      this.#queries.delete(id);
      // The client's connection holds the reply from here on.
      this.#giveBackReserved();
      this.#events.onReply(query, bytes, start, end, match === matchExact);
      return;
    }
    this.#queries.delete(id);
    this.#giveBackReserved();
    this.#c.counters[counter.repliesUnsolicited]!++;
  }

  /** A reply that no query waits for. */
  #onJunk(kind: number): void {
    const { counters } = this.#c;
    counters[kind]!++;
    counters[counter.tcpUpstreamsJunk]!++;
    this.#fail();
  }

  #giveBackReserved(): void {
    if (this.#reserved > 0) this.#c.octets.giveBack(this.endpointSlot, this.#reserved);
    this.#reserved = 0;
  }

  #isFirstTry(): boolean {
    return [...this.unanswered()].every(({ isReopened }) => !isReopened);
  }

  /** Whether the query may move to another connection. A query that policy no longer allows waits on its connection. */
  #mayMove(): boolean {
    return (
      this.#inFlight > 0 && [...this.unanswered()].every((query) => this.#events.mayAskAgain(query))
    );
  }

  #fail(why?: 'late' | 'elsewhere'): void {
    if (this.#isClosed) return;
    const made = this.#answered > 0 ? 'useful' : 'useless';
    const end = why ?? (this.#isConnected ? made : 'unmade');
    this.close();
    const unanswered = [...this.unanswered()];
    for (const query of unanswered) if (query.writtenTo < this.#answeredTo) query.passedOver += 1;
    this.#queries.clear();
    this.#inFlight = 0;
    this.#events.onClosed(unanswered, end);
  }
}
