// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Queries of one pod's connection that went to its server: they count as in flight from `send` until their reply, their
 * timeout or the end of the connection. Queries that the server left unanswered when it closed are sent again (retries.ts, alone.ts). After a
 * connection that could not be made the next one goes past the redirects of the node, because the pod to which one leads may be gone;
 * after one that went past them because an earlier one was answered so, it goes the usual way. A second try has no third.
 */

import { parseQuery } from '@tandem/core/dns/query';
import { counter } from '../counters.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { mayAskAgain } from '../query/decide.ts';
import { type Outcome, outcome } from '../query/outcome.ts';
import { AloneQueries } from './alone.ts';
import { framedMessage } from './blocks.ts';
import type { TcpContext } from './context.ts';
import type { TcpQuery } from './query.ts';
import { isSuspect, TcpRetries } from './retries.ts';
import { costOf } from './turns.ts';
import type { TcpUpstream, TcpUpstreamEvents, UpstreamEnd } from './upstream.ts';

/** Both ends of a query come after it is not in flight any more, and none of them after `close`. */
export interface ForwardedEvents {
  readonly onReply: TcpUpstreamEvents['onReply'];
  /** `outcome.timedOut` or `outcome.unreachable`. */
  readonly onUnanswered: (query: TcpQuery, which: Outcome) => void;
  /** Queries wait for `askAgain`. */
  readonly onRetries: () => void;
  readonly mayReply: TcpUpstreamEvents['mayReply'];
}

export class ForwardedQueries {
  readonly #c: TcpContext;
  readonly #server: Uint8Array;
  readonly #endpointSlot: EndpointSlot;
  readonly #events: ForwardedEvents;
  readonly #retries = new TcpRetries();
  readonly #alone: AloneQueries;
  #upstream: TcpUpstream | null = null;
  /** The last connection could not be made: the next one is its second try, past redirects unless the last one went so. */
  #isRefused = false;
  /** The connection is such a second try, and has not answered. */
  #isSecondTry = false;
  /** The way of the second try. */
  #isNextPast = false;
  #isClosed = false;

  /** `server`: 16 bytes. */
  constructor(
    context: TcpContext,
    server: Uint8Array,
    endpointSlot: EndpointSlot,
    events: ForwardedEvents,
  ) {
    this.#c = context;
    this.#server = server;
    this.#endpointSlot = endpointSlot;
    this.#events = events;
    this.#alone = new AloneQueries(context, server, endpointSlot, {
      onReply: (query, bytes, start, end, mayLearn) =>
        this.#onReply(query, bytes, start, end, mayLearn),
      onTimeout: (query) => this.#onUnanswered(query, outcome.timedOut),
      onClosed: (unanswered, end) => this.#leave(unanswered, end),
      mayAskAgain: (query) => this.#mayAskAgain(query),
      mayReply: events.mayReply,
    });
  }

  get inFlight(): number {
    return (this.#upstream?.inFlight ?? 0) + this.#retries.count + this.#alone.inFlight;
  }

  get hasRetries(): boolean {
    return this.#retries.count > 0;
  }

  /** Sends a query whose octets were taken. */
  send(query: TcpQuery): void {
    this.#c.lookup.limits.begin(query.facts.endpointSlot, query.facts.policySlot);
    this.#openUpstream().send(query);
  }

  /** The server (16 bytes) has other backends than before. */
  backendsChanged(server: Uint8Array): void {
    this.#alone.backendsChanged(server);
    if (this.#upstream?.isTo(server) !== true) return;
    // Where it leads by now says nothing of the new backends.
    this.#isSecondTry = false;
    this.#upstream.retire();
  }

  /** Replies have room again. */
  wake(): void {
    this.#upstream?.wake();
    this.#alone.wake();
  }

  sweep(nowNs: number): void {
    this.#upstream?.sweep(nowNs);
    this.#alone.sweep(nowNs);
    for (;;) {
      const overdue = this.#retries.nextOverdue(nowNs);
      if (overdue === undefined) break;
      this.#onUnanswered(overdue, outcome.timedOut);
    }
  }

  /** Sends queries again until they cost so many messages; returns their cost. */
  askAgain(messages: number): number {
    const { counters } = this.#c;
    let done = 0;
    while (done < messages) {
      const query = this.#retries.next();
      if (query === undefined) break;
      done += costOf(query.framed.length);
      if (!this.#mayAskAgain(query)) {
        this.#onUnanswered(query, outcome.unreachable);
        continue;
      }
      if (!isSuspect(query)) this.#openUpstream().send(query);
      else if (!this.#alone.ask(query)) {
        this.#onUnanswered(query, outcome.unreachable);
        continue;
      }
      if (query.isRetried) counters[counter.queriesAskedAgain]!++;
    }
    return done;
  }

  /** The pod's connection has ended: no client waits for the queries in flight. */
  close(): void {
    this.#isClosed = true;
    for (const query of this.#alone.close()) this.#release(query);
    if (this.#upstream === null) return;
    for (const query of this.#upstream.unanswered()) this.#release(query);
    for (let left = this.#retries.next(); left !== undefined; left = this.#retries.next()) {
      this.#release(left);
    }
    this.#c.upstreams.giveBack(this.#upstream, this.#c.moment.monotonicNs);
  }

  #openUpstream(): TcpUpstream {
    if (this.#upstream?.takesQueries === true) return this.#upstream;
    this.#upstream?.close();
    this.#isSecondTry = this.#isRefused;
    const isPastRedirects = this.#isRefused && this.#isNextPast;
    this.#isRefused = false;
    this.#upstream = this.#c.upstreams.take(
      this.#c,
      this.#server,
      this.#endpointSlot,
      {
        onReply: (query, bytes, start, end, mayLearn) => {
          this.#onAnswered();
          this.#onReply(query, bytes, start, end, mayLearn);
        },
        onTimeout: (query) => this.#onUnanswered(query, outcome.timedOut),
        onClosed: (unanswered, end) => this.#onUpstreamClosed(unanswered, end),
        mayAskAgain: (query) => this.#mayAskAgain(query),
        mayReply: this.#events.mayReply,
      },
      { isPastRedirects },
    );
    return this.#upstream;
  }

  readonly #onReply: TcpUpstreamEvents['onReply'] = (query, bytes, start, end, mayLearn) => {
    this.#release(query);
    if (!this.#isClosed) this.#events.onReply(query, bytes, start, end, mayLearn);
  };

  /** Once for each refusal: the memory of it ends however often the pod asks. */
  #onAnswered(): void {
    if (!this.#isSecondTry) return;
    this.#isSecondTry = false;
    if (this.#upstream?.isPastRedirects !== true) return;
    const { upstreams, moment } = this.#c;
    upstreams.answeredPast(this.#server, this.#endpointSlot, moment.monotonicNs);
  }

  /** Sends unanswered queries again on another connection, as often as they have attempts. */
  #onUpstreamClosed(unanswered: readonly TcpQuery[], ended: UpstreamEnd): void {
    const wentPast = this.#upstream?.isPastRedirects === true;
    const wasNotMade = ended === 'unmade' || ended === 'late';
    if (wentPast && wasNotMade) this.#c.upstreams.failedPast(this.#server, this.#endpointSlot);
    const hasOtherWay = !this.#isSecondTry && this.#c.system.connectPastRedirects !== undefined;
    this.#isRefused = wasNotMade && hasOtherWay;
    this.#isNextPast = !wentPast;
    // One that was refused counts as late: no server was asked, and there is another way.
    this.#leave(unanswered, this.#isRefused ? 'late' : ended);
  }

  #leave(unanswered: readonly TcpQuery[], end: UpstreamEnd): void {
    const isReopened = end === 'late' || end === 'elsewhere';
    const which = isReopened ? counter.tcpUpstreamsReopened : counter.tcpUpstreamsFailed;
    if (unanswered.length > 0) this.#c.counters[which]!++;
    for (const query of this.#retries.leave(unanswered, end)) {
      this.#onUnanswered(query, outcome.unreachable);
    }
    if (this.#retries.count > 0) this.#events.onRetries();
  }

  #mayAskAgain({ framed, facts }: TcpQuery): boolean {
    const { query, lookup, moment } = this.#c;
    if (this.#isClosed) return false;
    parseQuery(query, framed, framedMessage, framed.length);
    return mayAskAgain(lookup, query, facts, moment.monotonicNs / 1e6);
  }

  #onUnanswered(query: TcpQuery, which: Outcome): void {
    this.#release(query);
    if (this.#isClosed) return;
    this.#events.onUnanswered(query, which);
  }

  /** The query is not in flight any more. */
  #release({ facts, framed }: TcpQuery): void {
    this.#c.lookup.limits.end(facts.endpointSlot, facts.policySlot);
    this.#c.octets.giveBack(this.#endpointSlot, framed.length - framedMessage);
  }
}
