// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One pod's TCP connection: it decides on queries one by one and answers them in any order. If a query has no token of the pod's
 * rate, or no room in flight, it waits, and the connection is not read meanwhile, so that later queries wait too (RFC 7766
 * sections 6.2.1.1 and 10).
 */

import { setId, setKeepalive, writeReply, writtenReplyBytesMax } from '@tandem/core/dns/edit';
import { parseQuery, queryFormErr, queryOk } from '@tandem/core/dns/query';
import { counter } from '../counters.ts';
import {
  tcpIdleEvictMs,
  tcpIdleTimeoutMs,
  tcpInFlightPerConnectionMax,
  tcpMessageTimeoutMs,
  tcpQueryBytesMax,
} from '../limits.ts';
import type { Flow } from '../policy/flow-table.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { decide } from '../query/decide.ts';
import { protocolTcp, QueryFacts } from '../query/facts.ts';
import { countOutcome, type Outcome, outcome, outcomeEde, outcomeRcode } from '../query/outcome.ts';
import { framedMessage } from './blocks.ts';
import { ClientReplies } from './client-replies.ts';
import type { TcpContext } from './context.ts';
import { ForwardedQueries } from './forwarded.ts';
import { frame, MessageReader } from './framing.ts';
import { TcpQuery } from './query.ts';
import type { AcceptedConnection, TcpStream } from './stream.ts';
import { costOf, type TurnTaker } from './turns.ts';

/** Outcomes after which the query waits and is decided on again. */
const waits: ReadonlySet<Outcome> = new Set([
  outcome.overRate,
  outcome.overEndpoint,
  outcome.overPolicy,
  outcome.overNode,
]);
/** In units of 100 ms (RFC 7828 section 3.1). */
const keepalive = tcpIdleTimeoutMs / 100;
const scratch = new Uint8Array(writtenReplyBytesMax);

export interface TcpConnectionEvents {
  readonly onClosed: () => void;
  /** Nothing is in flight, and nothing is held. */
  readonly onIdle: () => void;
}

export class TcpConnection implements TurnTaker {
  readonly endpointSlot: EndpointSlot;
  isQueued = false;
  isWaitingToRetry = false;
  readonly #c: TcpContext;
  readonly #events: TcpConnectionEvents;
  readonly #stream: TcpStream;
  readonly #reader: MessageReader;
  readonly #facts = new QueryFacts(protocolTcp);
  readonly #forwarded: ForwardedQueries;
  readonly #replies: ClientReplies;
  /** The query that waits has taken its token. */
  #hasPaid = false;
  #isWaiting = false;
  /** It is not read until its turn. */
  #isPaused = false;
  #hasEnded = false;
  #isDraining = false;
  #isLeaving = false;
  #isEnding = false;
  #isClosed = false;
  /** Queries that were taken from the stream. */
  #served = 0;
  /** Generation of the endpoints in which its address was last seen to be its pod's; odd: it was not yet. */
  #generation = 1;
  /** Octets came since the last turn. */
  #hasNews = false;
  /** When the last octets came or went, and when the query that is coming began; 0 when none is. */
  #activeNs: number;
  #begunNs = 0;

  constructor(
    accepted: AcceptedConnection,
    endpointSlot: EndpointSlot,
    context: TcpContext,
    events: TcpConnectionEvents,
  ) {
    this.#c = context;
    this.#reader = new MessageReader(tcpQueryBytesMax, context.blocks);
    this.endpointSlot = endpointSlot;
    this.#replies = new ClientReplies(context, endpointSlot);
    this.#events = events;
    this.#activeNs = context.moment.monotonicNs;
    const { addresses, clientPort } = accepted;
    this.#facts.words = addresses;
    this.#facts.clientPort = clientPort;
    const server = new Uint8Array(addresses.buffer, addresses.byteOffset + 16, 16);
    this.#forwarded = new ForwardedQueries(context, server, endpointSlot, {
      onReply: (query, bytes, start, end, mayLearn) =>
        this.#onReply(query, bytes, start, end, mayLearn),
      onUnanswered: (query, which) => this.#onUnanswered(query, which),
      onRetries: () => context.turns.add(this),
      mayReply: () => this.#replies.hasRoom,
    });
    this.#stream = accepted.open({
      onData: (bytes) => this.#onData(bytes),
      onTaken: (octets) => this.#onTaken(octets),
      onEnd: () => this.closeWhenIdle(),
      onClose: () => this.close(),
    });
  }

  /** Nothing is in flight and nothing is held; with a query answered, or for a while. */
  isIdle(nowNs: number, idleMs: number): boolean {
    if (this.#isEnding || this.#isLeaving) return false;
    const isQuiet =
      this.#forwarded.inFlight === 0 && !this.#reader.hasBegun && this.#replies.unsent === 0;
    return isQuiet && (this.#served > 0 || nowNs - this.#activeNs >= idleMs * 1e6);
  }

  get activeNs(): number {
    return this.#activeNs;
  }

  /** The server (16 bytes) has other backends than before. */
  backendsChanged(server: Uint8Array): void {
    this.#forwarded.backendsChanged(server);
  }

  close(): void {
    this.#close(() => this.#stream.destroy());
  }

  /** Its address may be another pod's by now: that one gets no reply of it, also none that the kernel has. */
  endpointsChanged(): void {
    if (!this.#isClosed && !this.#isOfPod()) this.#leave();
  }

  /** Its pod is gone. `decided`: queries that were decided on just now. */
  #leave(decided = 0): void {
    const queries = this.#forwarded.inFlight + this.#replies.made + decided;
    this.#c.counters[counter.repliesToGonePods]! += queries;
    this.#close(() => this.#stream.reset());
  }

  #close(end: () => void): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#forwarded.close();
    this.#replies.release();
    this.#reader.release();
    end();
    this.#events.onClosed();
  }

  #isOfPod(): boolean {
    const { lookup } = this.#c;
    const { words, client } = this.#facts;
    const endpointId = lookup.limits.endpoints.ownerId[this.endpointSlot]!;
    return lookup.isStillOf(this.#generation, endpointId, words, client);
  }

  /** No more queries will come: closes as soon as those that came are answered. */
  closeWhenIdle(): void {
    this.#hasEnded = true;
    this.#onQuiet();
  }

  /** The idle connection closes, unless a query has come that is not read yet: the kernel would reset it. */
  makeWay(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    // Octets that are in the kernel now have been read then.
    this.#c.system.soon(() => {
      this.#isLeaving = false;
      if (this.isIdle(this.#c.moment.monotonicNs, tcpIdleEvictMs)) this.closeWhenIdle();
    });
  }

  /** This member leaves: closes the connection between two queries. One that has asked nothing yet may ask. */
  drain(): void {
    this.#isDraining = true;
    this.#onQuiet();
  }

  sweep(nowNs: number): void {
    this.#forwarded.sweep(nowNs);
    if (this.#isDraining && this.isIdle(nowNs, tcpIdleEvictMs)) this.makeWay();
    if (this.#isClosed) return;
    // Octets that wait in the kernel because we do not read are not the client's delay.
    const isSlow =
      !this.#isPaused && this.#begunNs !== 0 && nowNs - this.#begunNs >= tcpMessageTimeoutMs * 1e6;
    // A client that does not take its replies is as idle as one that asks nothing.
    const isQuiet = !this.#hasNews && nowNs - this.#activeNs >= tcpIdleTimeoutMs * 1e6;
    const isIdle = isQuiet && this.#forwarded.inFlight === 0 && !this.#isWaiting;
    const isStuck = isQuiet && this.#replies.unsent > 0;
    if (!isSlow && !isIdle && !isStuck) return;
    this.#c.counters[counter.tcpTimeouts]!++;
    this.close();
  }

  get hasMore(): boolean {
    if (this.#isClosed) return false;
    if (this.#forwarded.hasRetries) return true;
    return !this.#isWaiting && this.#replies.hasRoom && this.#reader.peek();
  }

  step(messages: number): number {
    this.#isWaiting = false;
    // By the clock of this turn: that of the last one may be old.
    if (this.#hasNews) this.#activeNs = this.#c.moment.monotonicNs;
    this.#hasNews = false;
    const askedAgain = this.#forwarded.askAgain(messages);
    let done = askedAgain;
    while (done < messages && !this.#isClosed && this.#replies.hasRoom && this.#reader.peek()) {
      const { messageStart, messageEnd } = this.#reader;
      if (!this.#onMessage()) break;
      done += costOf(messageEnd - messageStart);
    }
    if (this.#isClosed) return done;
    // The octets behind a whole message began after it.
    if (done > askedAgain) this.#begunNs = 0;
    if (!this.#isWaiting && this.#replies.hasRoom && !this.#reader.peek()) {
      this.#begunNs = this.#reader.hasBegun ? this.#begunNs || this.#c.moment.monotonicNs : 0;
      this.#isPaused = false;
      this.#stream.resume();
      this.#onQuiet();
    }
    return done;
  }

  /** Sends what the turn made. */
  flush(): void {
    if (this.#isClosed) return;
    if (this.#replies.made > 0 && !this.#isOfPod()) {
      this.#leave();
      return;
    }
    this.#replies.flush(this.#stream);
    this.#onQuiet();
  }

  #onData(bytes: Uint8Array): void {
    if (this.#isClosed) return;
    this.#hasNews = true;
    this.#reader.push(bytes);
    this.#isPaused = true;
    this.#stream.pause();
    this.#c.turns.add(this);
  }

  #onTaken(octets: number): void {
    if (this.#isClosed) return;
    this.#activeNs = this.#c.moment.monotonicNs;
    this.#replies.taken(octets);
    if (this.#isPaused) this.#c.turns.add(this);
    this.#forwarded.wake();
    this.#onQuiet();
  }

  #onQuiet(): void {
    if (this.#isClosed || this.#isEnding || this.#forwarded.inFlight > 0 || this.#isWaiting) return;
    if (this.#reader.peek() || this.#replies.unsent > 0) return;
    if (this.#hasEnded) {
      this.#isEnding = true;
      this.#stream.end();
    } else if (this.#isDraining && this.#served > 0) {
      this.makeWay();
    } else if (!this.#reader.hasBegun) {
      this.#events.onIdle();
    }
  }

  /** Handles the message that the framing has found; false if it waits. */
  #onMessage(): boolean {
    const { query, lookup, octets, moment, counters } = this.#c;
    const { bytes, messageStart: start, messageEnd: end, isCut } = this.#reader;
    const nowMs = moment.monotonicNs / 1e6;
    if (this.#forwarded.inFlight >= tcpInFlightPerConnectionMax) {
      // Its replies, or their deadlines, make it go on.
      this.#isWaiting = true;
      this.#begunNs = 0;
      return false;
    }
    // Of a client that does not take its replies no more are made than its pod has room for.
    if (this.#replies.unsent > 0 && !octets.hasRoom(this.endpointSlot, writtenReplyBytesMax)) {
      return this.#wait();
    }
    if (!this.#hasPaid && !lookup.limits.hasToken(this.endpointSlot, nowMs)) {
      return this.#wait();
    }
    const parsed = parseQuery(query, bytes, start, end);
    const status = isCut && parsed === queryOk ? queryFormErr : parsed;
    const facts = this.#facts;
    facts.flow = -1 as Flow;
    const result = decide(lookup, query, status, facts, nowMs, this.#hasPaid);
    this.#hasPaid = result !== outcome.overRate;
    if (waits.has(result)) return this.#wait();
    const isOfPod = facts.flow >= 0 ? facts.endpointSlot === this.endpointSlot : this.#isOfPod();
    if (!isOfPod) {
      this.#leave(1);
      return false;
    }
    if (facts.flow >= 0) this.#generation = lookup.endpointsGeneration;
    if (result === outcome.forward) {
      if (!octets.take(this.endpointSlot, query.messageEnd)) return this.#wait();
      this.#forwarded.send(new TcpQuery(bytes, start, query, facts, moment.monotonicNs));
    } else {
      this.#refuse(result, bytes, start);
    }
    counters[counter.queriesTcp]!++;
    countOutcome(counters, result);
    this.#hasPaid = false;
    this.#served += 1;
    if (!this.#isClosed) this.#reader.take();
    return true;
  }

  #wait(): boolean {
    this.#isWaiting = true;
    this.#begunNs = 0;
    this.#c.turns.retry(this);
    return false;
  }

  #onReply(
    pending: TcpQuery,
    bytes: Uint8Array,
    start: number,
    end: number,
    mayLearn: boolean,
  ): void {
    const { query, reply, answers, moment, counters } = this.#c;
    if (!this.#isOfPod()) {
      // It teaches nothing; `endpointsChanged` ends the connection.
      counters[counter.repliesToGonePods]!++;
      return;
    }
    parseQuery(query, pending.framed, framedMessage, pending.framed.length);
    answers.accept(bytes, start, end - start, mayLearn, pending.facts, query, reply, moment);
    setId(bytes, start, pending.clientId);
    setKeepalive(bytes, start, reply, keepalive);
    this.#append(frame(bytes, start, end, this.#c.blocks));
    if (this.#reader.hasBegun) this.#c.turns.add(this);
  }

  #onUnanswered(pending: TcpQuery, which: Outcome): void {
    const { query, report, moment, counters } = this.#c;
    countOutcome(counters, which);
    parseQuery(query, pending.framed, framedMessage, pending.framed.length);
    query.id = pending.clientId;
    if (which === outcome.timedOut) report.timedOut(pending.facts, query, moment);
    else report.failed(pending.facts, query, moment);
    this.#answer(pending.framed, framedMessage, outcomeRcode[which]!, which);
    if (this.#reader.hasBegun) this.#c.turns.add(this);
  }

  /** Sends our own reply to the query that `query` of the context holds; without a reply the connection is closed. */
  #refuse(which: Outcome, bytes: Uint8Array, start: number): void {
    const { query, denial, report, moment } = this.#c;
    let rcode = outcomeRcode[which]!;
    if (rcode < 0) {
      this.close();
      return;
    }
    if (which === outcome.denied) {
      rcode = denial.rcodeFor(query);
      report.denied(this.#facts, query, rcode, moment);
    }
    this.#answer(bytes, start, rcode, which);
  }

  #answer(bytes: Uint8Array, start: number, rcode: number, which: Outcome): void {
    const { query } = this.#c;
    const ede = outcomeEde[which]!;
    const length = writeReply(scratch, 0, scratch.length, bytes, start, query, rcode, ede);
    if (length > 0) this.#append(frame(scratch, 0, length));
  }

  #append(framed: Uint8Array): void {
    this.#replies.add(framed);
    // Its client has the whole time to take it, and to ask again.
    this.#activeNs = this.#c.moment.monotonicNs;
    this.#c.turns.flushAfter(this);
  }
}
