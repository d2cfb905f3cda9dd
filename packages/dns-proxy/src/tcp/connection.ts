// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One pod's TCP connection: its messages are judged one by one, answered in whatever order. */

import type { Socket } from 'node:net';
import {
  edeNetworkError,
  edeNone,
  edeNotReady,
  edeOther,
  edeProhibited,
  rcodeFormErr,
  rcodeNotImp,
  rcodeServFail,
} from '@tandem/core/dns/constants';
import { setId, writeReply, writtenReplyBytesMax } from '@tandem/core/dns/edit';
import {
  parseQuery,
  type QueryView,
  queryDrop,
  queryNotImp,
  queryOk,
} from '@tandem/core/dns/query';
import {
  parseReply,
  type ReplyStatus,
  type ReplyView,
  replyNegative,
  replyOk,
  replyTruncated,
} from '@tandem/core/dns/reply';
import { matchExact, matchReply } from '@tandem/core/dns/reply-match';
import type { Learner } from '../answer/learner.ts';
import { counter, observeLatency } from '../counters.ts';
import {
  DnsEventFields,
  type DnsEventWriter,
  dnsVerdict,
  flagLearned,
  flagTrusted,
  flagUnselected,
} from '../dns-event.ts';
import {
  tcpBacklogBytesMax,
  tcpIdleTimeoutMs,
  tcpInFlightPerConnectionMax,
  tcpMessageTimeoutMs,
} from '../limits.ts';
import type { Denial } from '../query/denial.ts';
import type { PolicyLookup } from '../query/policy-lookup.ts';
import type { RandomPool } from '../query/random.ts';
import { frame, MessageReader } from './framing.ts';
import { type PendingQuery, TcpUpstream } from './upstream.ts';

/** What all connections of a member share. */
export interface TcpContext {
  readonly lookup: PolicyLookup;
  readonly learner: Learner;
  readonly events: DnsEventWriter;
  readonly counters: Float64Array;
  readonly query: QueryView;
  readonly reply: ReplyView;
  readonly replyWords: Uint32Array;
  readonly random: RandomPool;
  readonly denial: Denial;
  readonly monotonicNs: () => number;
  readonly boottimeNs: () => number;
  readonly count: (index: number) => void;
}

const tcp = 6;

export class TcpConnection {
  readonly #socket: Socket;
  readonly #addresses: Uint32Array;
  readonly #endpointSlot: number;
  readonly #c: TcpContext;
  readonly #onClosed: () => void;
  readonly #reader = new MessageReader();
  readonly #fields = new DnsEventFields();
  #upstream: TcpUpstream | null = null;
  #messageTimer: NodeJS.Timeout | null = null;
  #isClosed = false;
  #closesWhenIdle = false;

  /** `addresses`: client and server, 4 words each. */
  constructor(
    socket: Socket,
    addresses: Uint32Array,
    endpointSlot: number,
    context: TcpContext,
    onClosed: () => void,
  ) {
    this.#socket = socket;
    this.#addresses = addresses;
    this.#endpointSlot = endpointSlot;
    this.#c = context;
    this.#onClosed = onClosed;
    socket.setTimeout(tcpIdleTimeoutMs, () => this.#timeout());
    socket.on('data', (chunk) => this.#onData(chunk));
    socket.on('end', () => this.closeWhenIdle());
    socket.on('error', () => this.close());
    socket.on('close', () => this.close());
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#messageTimer !== null) clearTimeout(this.#messageTimer);
    this.#releaseInFlight(this.#upstream?.inFlight ?? 0);
    this.#upstream?.close();
    this.#socket.destroy();
    this.#onClosed();
  }

  /** No more queries will come: close as soon as those in flight are answered. */
  closeWhenIdle(): void {
    this.#closesWhenIdle = true;
    this.#closeIfIdle();
  }

  #closeIfIdle(): void {
    if (!this.#closesWhenIdle || this.#isClosed || (this.#upstream?.inFlight ?? 0) > 0) return;
    this.#socket.end(() => this.close());
  }

  #timeout(): void {
    this.#c.count(counter.tcpTimeouts);
    this.close();
  }

  #onData(chunk: Uint8Array): void {
    this.#reader.push(chunk);
    for (let message = this.#reader.next(); message !== null; message = this.#reader.next()) {
      if (this.#isClosed) return;
      this.#onMessage(message);
    }
    this.#watchMessage();
  }

  /** A message that has begun must be whole within its time. */
  #watchMessage(): void {
    if (!this.#reader.isPartial) {
      if (this.#messageTimer !== null) clearTimeout(this.#messageTimer);
      this.#messageTimer = null;
    } else if (this.#messageTimer === null) {
      this.#messageTimer = setTimeout(() => this.#timeout(), tcpMessageTimeoutMs);
    }
  }

  #onMessage(message: Uint8Array): void {
    const c = this.#c;
    c.count(counter.queriesTcp);
    const status = parseQuery(c.query, message, 0, message.length);
    if (status === queryDrop) {
      c.count(counter.droppedMalformed);
      this.close();
      return;
    }
    c.lookup.begin();
    const nowMs = c.monotonicNs() / 1e6;
    const flow = c.lookup.flowOf(this.#addresses, 0, 4, tcp, nowMs);
    if (flow < 0) {
      this.#answer(message, rcodeServFail, edeNotReady);
    } else if (!c.lookup.limits.takeToken(this.#endpointSlot, nowMs)) {
      this.#refuse(message, counter.refusedEndpointRate);
    } else if (status !== queryOk) {
      c.count(counter.formatErrors);
      this.#answer(message, status === queryNotImp ? rcodeNotImp : rcodeFormErr, edeNone);
    } else if (c.lookup.isAllowed(flow, c.query)) {
      this.#forward(message, flow);
    } else {
      c.count(counter.denied);
      const rcode = c.denial.rcodeFor(c.query);
      this.#answer(message, rcode, edeProhibited);
      this.#emit(dnsVerdict.denied, 0, flow, 0, rcode, null);
    }
  }

  #forward(message: Uint8Array, flow: number): void {
    const c = this.#c;
    const { limits, flows } = c.lookup;
    if (!limits.hasRoom(this.#endpointSlot)) {
      this.#refuse(message, counter.refusedEndpointInFlight);
      return;
    }
    if (this.#upstream === null || !this.#upstream.isOpen) this.#upstream = this.#connect();
    const upstream = this.#upstream;
    if (upstream.inFlight >= tcpInFlightPerConnectionMax) {
      this.#refuse(message, counter.refusedEndpointInFlight);
      return;
    }
    let id = c.random.u16();
    while (upstream.has(id)) id = c.random.u16();
    const sent = message.subarray(0, c.query.messageEnd);
    setId(sent, 0, id);
    limits.inFlight[this.#endpointSlot] = (limits.inFlight[this.#endpointSlot] as number) + 1;
    c.count(counter.allowed);
    upstream.send(id, {
      message: sent,
      clientId: c.query.id,
      questionEnd: c.query.questionEnd,
      flow: {
        policyId: flows.policyId[flow] as number,
        namespaceId: flows.namespaceId[flow] as number,
        trusted: flows.trusted[flow] === 1,
      },
      startedNs: c.monotonicNs(),
    });
  }

  #connect(): TcpUpstream {
    const server = new Uint8Array(this.#addresses.buffer, 16, 16);
    return new TcpUpstream(server, {
      onReply: (pending, reply) => this.#onReply(pending, reply),
      onFailed: (pending) => this.#onUpstreamFailed(pending),
    });
  }

  #onReply(pending: PendingQuery, reply: Uint8Array): boolean {
    const c = this.#c;
    if (((reply[2] as number) & 0x80) === 0) {
      // A query is no answer, whatever its id and question.
      c.count(counter.repliesUnsolicited);
      return false;
    }
    const sent = pending.message;
    if (matchReply(reply, 0, reply.length, sent, 0, pending.questionEnd) !== matchExact) {
      c.count(counter.repliesMismatched);
      return false;
    }
    this.#releaseInFlight(1);
    parseQuery(c.query, pending.message, 0, pending.message.length);
    const status = parseReply(c.reply, reply, 0, reply.length, c.query);
    const changed = status === replyOk ? this.#learn(pending) : 0;
    this.#countReply(status);
    setId(reply, 0, pending.clientId);
    this.#write(reply);
    c.count(counter.replies);
    const latencyUs = (c.monotonicNs() - pending.startedNs) / 1000;
    observeLatency(c.counters, latencyUs);
    this.#emitReply(pending, latencyUs, changed);
    queueMicrotask(() => this.#closeIfIdle());
    return true;
  }

  /** What of a reply was not taken. */
  #countReply(status: ReplyStatus): void {
    const { counters, reply } = this.#c;
    const add = (index: number, count: number): void => {
      counters[index] = (counters[index] as number) + count;
    };
    if (status !== replyOk && status !== replyNegative && status !== replyTruncated) {
      add(counter.repliesMalformed, 1);
    }
    add(counter.addressesSkipped, reply.skipped);
    if (reply.aliasesSkipped > 0) add(counter.aliasesOverLimit, 1);
    add(counter.learnRefusedAddress, reply.mapped);
  }

  /** Learn before reply, over TCP as over UDP. */
  #learn(pending: PendingQuery): number {
    const c = this.#c;
    const { tables } = c.lookup;
    if (tables === null || c.reply.addressCount === 0) return 0;
    const acceptSet = tables.matcher.match(c.query);
    c.learner.begin();
    const { trusted, policyId, namespaceId } = pending.flow;
    const nowSeconds = Math.floor(c.boottimeNs() / 1e9);
    const changed = c.learner.collect(
      c.query.hash,
      c.reply,
      c.replyWords,
      tables,
      acceptSet,
      trusted,
      policyId,
      namespaceId,
      nowSeconds,
    );
    c.learner.flush();
    return changed;
  }

  #onUpstreamFailed(pending: readonly PendingQuery[]): void {
    const c = this.#c;
    c.count(counter.tcpUpstreamErrors);
    this.#releaseInFlight(pending.length);
    if (this.#isClosed) return;
    for (const query of pending) {
      parseQuery(c.query, query.message, 0, query.message.length);
      setId(query.message, 0, query.clientId);
      c.query.id = query.clientId;
      this.#answer(query.message, rcodeServFail, edeNetworkError);
    }
    this.#closeIfIdle();
  }

  #releaseInFlight(count: number): void {
    const { inFlight } = this.#c.lookup.limits;
    inFlight[this.#endpointSlot] = (inFlight[this.#endpointSlot] as number) - count;
  }

  #refuse(message: Uint8Array, reason: number): void {
    this.#c.count(reason);
    this.#answer(message, rcodeServFail, edeOther);
  }

  /** Our own reply to the query that the shared view holds. */
  #answer(message: Uint8Array, rcode: number, ede: number): void {
    const out = new Uint8Array(writtenReplyBytesMax);
    const length = writeReply(out, 0, out.length, message, 0, this.#c.query, rcode, ede);
    if (length > 0) this.#write(out.subarray(0, length));
  }

  #write(message: Uint8Array): void {
    if (this.#isClosed) return;
    if (this.#socket.writableLength > tcpBacklogBytesMax) {
      // The client does not read what it asked for.
      this.#timeout();
      return;
    }
    this.#socket.write(frame(message));
  }

  #emitReply(pending: PendingQuery, latencyUs: number, changed: number): void {
    const learned = changed > 0 ? flagLearned : changed < 0 ? flagUnselected : 0;
    const flags = (pending.flow.trusted ? flagTrusted : 0) | learned;
    const fields = this.#fields;
    fields.policyId = pending.flow.policyId;
    fields.namespaceId = pending.flow.namespaceId;
    this.#emit(dnsVerdict.allowed, flags, -1, latencyUs, this.#c.reply.rcode, this.#c.reply);
  }

  /** `flow` -1: policy and namespace are in the fields already. */
  #emit(
    verdict: number,
    flags: number,
    flow: number,
    latencyUs: number,
    rcode: number,
    reply: ReplyView | null,
  ): void {
    const c = this.#c;
    const fields = this.#fields;
    const { flows, limits } = c.lookup;
    const boottimeNs = c.boottimeNs();
    if (flow >= 0) {
      fields.policyId = flows.policyId[flow] as number;
      fields.namespaceId = flows.namespaceId[flow] as number;
    }
    fields.verdict = verdict;
    fields.protocol = tcp;
    fields.flags = flags;
    fields.timeUs = boottimeNs / 1000;
    fields.endpointId = limits.endpointId[this.#endpointSlot] as number;
    fields.latencyUs = Math.max(0, latencyUs);
    fields.clientPort = this.#socket.remotePort ?? 0;
    fields.rcode = rcode;
    fields.words = this.#addresses;
    fields.client = 0;
    fields.server = 4;
    fields.expiresBase = Math.floor(boottimeNs / 1e9) + c.learner.graceSeconds;
    fields.ttlSecondsMin = c.learner.ttlSecondsMin;
    c.events.write(fields, c.query, reply);
  }
}
