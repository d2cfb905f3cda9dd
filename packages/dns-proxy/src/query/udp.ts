// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The path of a query over UDP, a batch at a time: received into slots, walked, judged, forwarded or
 * refused; and back: checked, learned, replied. Bounded work on bytes, no allocation, no exceptions.
 */

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
import { setId, truncateReply, writeReply } from '@tandem/core/dns/edit';
import {
  parseQuery,
  type QueryStatus,
  type QueryView,
  queryDrop,
  queryFormErr,
  queryOk,
} from '@tandem/core/dns/query';
import {
  parseReply,
  questionMatches,
  type ReplyView,
  replyNegative,
  replyOk,
  replyTruncated,
} from '@tandem/core/dns/reply';
import {
  HEADER_TX_COUNT,
  RECORD_WORDS,
  RX_CAPACITY,
  RX_DESTINATION,
  RX_FLAG_TRUNCATED,
  RX_FLAGS,
  RX_LENGTH,
  RX_OFFSET,
  RX_PEER,
  RX_PEER_PORT,
  TX_RESULT,
} from '@tandem/dns-sockets/layout';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
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
  batchMax,
  inFlightMax,
  slotBytes,
  udpQueryBytesMax,
  udpReplyBytesMax,
  upstreamTimeoutMs,
} from '../limits.ts';
import type { UdpPool } from '../upstream/udp-pool.ts';
import type { UpstreamIds } from './ids.ts';
import { type Judge, unknownSource } from './judge.ts';
import {
  type QuerySlots,
  slotAcceptSet,
  slotClient,
  slotClientId,
  slotClientPort,
  slotEndpoint,
  slotLength,
  slotListener,
  slotNamespace,
  slotPolicy,
  slotQuestionEnd,
  slotServer,
  slotTables,
  slotTrusted,
  slotUpstream,
  slotUpstreamId,
} from './slots.ts';
import { appendForward, appendReply } from './transmit.ts';

const udp = 17;

export interface UdpServerOptions {
  /** Holds the slots, then room for a batch of replies. */
  readonly memory: Uint8Array;
  readonly slots: QuerySlots;
  readonly listeners: UdpLoop;
  readonly upstreams: UdpLoop;
  readonly judge: Judge;
  readonly pool: UdpPool;
  readonly ids: UpstreamIds;
  readonly learner: Learner;
  readonly events: DnsEventWriter;
  readonly counters: Float64Array;
  readonly query: QueryView;
  readonly reply: ReplyView;
  /** RCODE of a denial: REFUSED or NXDOMAIN. */
  readonly denialRcode: number;
  /** Called at the start of each batch, with CLOCK_MONOTONIC in nanoseconds. */
  readonly beat: (monotonicNs: number) => void;
}

export class UdpServer {
  readonly #o: UdpServerOptions;
  readonly #memory: Uint8Array;
  readonly #slots: QuerySlots;
  readonly #counters: Float64Array;
  readonly #query: QueryView;
  readonly #reply: ReplyView;
  readonly #replyWords: Uint32Array;
  /** Slot that each rx record of the listeners receives into. */
  readonly #armed = new Int32Array(batchMax);
  /** Slot of each query appended to the upstreams' batch. */
  readonly #forwarded = new Int32Array(batchMax);
  readonly #fields = new DnsEventFields();
  #batch = 0;
  #monotonicNs = 0;
  #boottimeNs = 0;

  constructor(options: UdpServerOptions) {
    this.#o = options;
    this.#memory = options.memory;
    this.#slots = options.slots;
    this.#counters = options.counters;
    this.#query = options.query;
    this.#reply = options.reply;
    this.#replyWords = new Uint32Array(
      this.#reply.addresses.buffer,
      this.#reply.addresses.byteOffset,
      this.#reply.addresses.byteLength / 4,
    );
    for (let i = 0; i < batchMax; i++) {
      this.#arm(i, this.#slots.take());
      options.upstreams.rx[i * RECORD_WORDS + RX_OFFSET] =
        inFlightMax * slotBytes + i * udpReplyBytesMax;
    }
  }

  /** Queries received on one listener. */
  onQueries(listener: number, count: number): void {
    const { listeners, upstreams, judge } = this.#o;
    this.#begin(listeners);
    judge.begin();
    for (let i = 0; i < count; i++) this.#onQuery(listener, i);
    this.#add(counter.queriesUdp, count);
    const forwards = upstreams.header[HEADER_TX_COUNT] as number;
    if (forwards > 0 && upstreams.flush() < forwards) this.#onSendFailures(forwards);
  }

  /** Replies received on one upstream socket. */
  onReplies(socket: number, count: number): void {
    const { listeners, upstreams, learner } = this.#o;
    this.#begin(upstreams);
    learner.begin();
    for (let i = 0; i < count; i++) this.#onReply(socket, i);
    // The datapath knows the addresses before any pod does.
    learner.flush();
    listeners.flush();
  }

  /** Forgets queries whose server did not answer in time. The pod gets no reply, as without a proxy. */
  sweep(monotonicNs: number): void {
    const slots = this.#slots;
    const deadline = monotonicNs / 1000 - upstreamTimeoutMs * 1000;
    if (slots.inFlight === 0) return;
    for (let slot = 0; slot < inFlightMax; slot++) {
      // Looks at one array alone: a walk through the slots themselves would miss the cache each time.
      if ((slots.startedUs[slot] as number) > deadline) continue;
      const word = slots.wordOf(slot);
      const handle = slots.words[word + slotUpstream] as number;
      this.#emitTimeout(slot, monotonicNs);
      this.#o.ids.release(
        slots.words[word + slotUpstreamId] as number,
        this.#o.pool.saltOf(handle),
      );
      this.#o.pool.timedOut(handle);
      this.#release(slot);
      this.#add(counter.upstreamTimeouts, 1);
    }
  }

  #begin(loop: UdpLoop): void {
    this.#batch = (this.#batch + 1) | 0;
    this.#monotonicNs = loop.clock[0] as number;
    this.#boottimeNs = loop.clock[1] as number;
    this.#o.beat(this.#monotonicNs);
  }

  #onQuery(listener: number, i: number): void {
    const { rx } = this.#o.listeners;
    const record = i * RECORD_WORDS;
    const start = rx[record + RX_OFFSET] as number;
    const end = start + (rx[record + RX_LENGTH] as number);
    const status = parseQuery(this.#query, this.#memory, start, end);
    if (status === queryDrop) {
      this.#add(counter.droppedMalformed, 1);
      return;
    }
    const { judge } = this.#o;
    const nowMs = this.#monotonicNs / 1e6;
    const flow = judge.flowOf(rx, record + RX_PEER, record + RX_DESTINATION, udp, nowMs);
    if (flow === unknownSource) {
      this.#add(counter.unknownSource, 1);
      return;
    }
    if (flow < 0) {
      this.#answer(listener, i, rcodeServFail, edeNotReady);
      return;
    }
    const endpointSlot = judge.flows.endpointSlot[flow] as number;
    if (!judge.limits.takeToken(endpointSlot, nowMs)) {
      this.#add(counter.refusedEndpointRate, 1);
      this.#answer(listener, i, rcodeServFail, edeOther);
    } else if (
      status !== queryOk ||
      ((rx[record + RX_FLAGS] as number) & RX_FLAG_TRUNCATED) !== 0
    ) {
      this.#onMalformed(listener, i, status);
    } else if (!judge.isAllowed(flow, this.#query)) {
      this.#add(counter.denied, 1);
      this.#answer(listener, i, this.#o.denialRcode, edeProhibited);
      this.#emitDenied(i, flow);
    } else {
      this.#forward(listener, i, flow, endpointSlot);
    }
  }

  /** Queries that could not be sent: the pod hears it at once. */
  #onSendFailures(forwards: number): void {
    const { upstreams, listeners, ids, pool } = this.#o;
    const slots = this.#slots;
    for (let i = 0; i < forwards; i++) {
      if (upstreams.tx[i * RECORD_WORDS + TX_RESULT] === 0) continue;
      const slot = this.#forwarded[i] as number;
      const at = slots.wordOf(slot);
      const handle = slots.words[at + slotUpstream] as number;
      const start = slots.messageOf(slot);
      const query = this.#query;
      parseQuery(query, this.#memory, start, start + (slots.words[at + slotLength] as number));
      query.id = slots.words[at + slotClientId] as number;
      const end = start + udpQueryBytesMax;
      const length = writeReply(
        this.#memory,
        start,
        end,
        this.#memory,
        start,
        query,
        rcodeServFail,
        edeNetworkError,
      );
      const listener = slots.words[at + slotListener] as number;
      const port = slots.words[at + slotClientPort] as number;
      appendReply(
        listeners,
        listener,
        start,
        length,
        slots.words,
        at + slotClient,
        port,
        at + slotServer,
      );
      ids.release(slots.words[at + slotUpstreamId] as number, pool.saltOf(handle));
      pool.timedOut(handle);
      this.#release(slot);
      this.#add(counter.upstreamSendErrors, 1);
    }
  }

  #onMalformed(listener: number, i: number, status: QueryStatus): void {
    this.#add(counter.formatErrors, 1);
    const isFormErr = status === queryFormErr || status === queryOk;
    this.#answer(listener, i, isFormErr ? rcodeFormErr : rcodeNotImp, edeNone);
  }

  #forward(listener: number, i: number, flow: number, endpointSlot: number): void {
    const { judge, pool, ids, upstreams } = this.#o;
    const slots = this.#slots;
    const limits = judge.limits;
    if (!limits.hasRoom(endpointSlot)) {
      this.#refuse(listener, i, counter.refusedEndpointInFlight);
      return;
    }
    if (!slots.hasFree) {
      this.#refuse(listener, i, counter.refusedSlots);
      return;
    }
    const server = judge.flows.server[flow] as number;
    const handle = pool.draw(server, this.#batch, this.#monotonicNs / 1e6);
    const slot = this.#armed[i] as number;
    const id = handle === -1 ? -1 : ids.take(slot, pool.saltOf(handle));
    if (id === -1) {
      this.#refuse(listener, i, counter.refusedUpstreamSockets);
      return;
    }
    this.#fillSlot(slot, listener, i, flow, endpointSlot, handle, id);
    slots.arm(slot, this.#monotonicNs / 1000);
    limits.inFlight[endpointSlot] = (limits.inFlight[endpointSlot] as number) + 1;
    pool.sent(handle);
    const message = slots.messageOf(slot);
    setId(this.#memory, message, id);
    this.#forwarded[appendForward(upstreams, handle, message, this.#query.messageEnd)] = slot;
    this.#add(counter.allowed, 1);
    this.#arm(i, slots.take());
  }

  #fillSlot(
    slot: number,
    listener: number,
    i: number,
    flow: number,
    endpointSlot: number,
    handle: number,
    id: number,
  ): void {
    const { rx } = this.#o.listeners;
    const { judge } = this.#o;
    const { words } = this.#slots;
    const record = i * RECORD_WORDS;
    const at = this.#slots.wordOf(slot);
    for (let w = 0; w < 4; w++) {
      words[at + slotClient + w] = rx[record + RX_PEER + w] as number;
      words[at + slotServer + w] = rx[record + RX_DESTINATION + w] as number;
    }
    words[at + slotClientPort] = rx[record + RX_PEER_PORT] as number;
    words[at + slotLength] = this.#query.messageEnd;
    words[at + slotListener] = listener;
    words[at + slotEndpoint] = endpointSlot;
    words[at + slotPolicy] = judge.flows.policyId[flow] as number;
    words[at + slotNamespace] = judge.flows.namespaceId[flow] as number;
    words[at + slotTrusted] = judge.flows.trusted[flow] as number;
    words[at + slotClientId] = this.#query.id;
    words[at + slotQuestionEnd] = this.#query.questionEnd;
    words[at + slotAcceptSet] = judge.acceptSet;
    words[at + slotTables] = judge.installs;
    words[at + slotUpstream] = handle;
    words[at + slotUpstreamId] = id;
  }

  #onReply(socket: number, i: number): void {
    const { upstreams, ids, pool, listeners } = this.#o;
    const memory = this.#memory;
    const slots = this.#slots;
    const { rx } = upstreams;
    const record = i * RECORD_WORDS;
    const start = rx[record + RX_OFFSET] as number;
    const length = rx[record + RX_LENGTH] as number;
    if (length < 12 || ((memory[start + 2] as number) & 0x80) === 0) {
      this.#add(counter.repliesUnsolicited, 1);
      return;
    }
    const id = ((memory[start] as number) << 8) | (memory[start + 1] as number);
    const salt = pool.saltOf(socket);
    const slot = ids.find(id, salt);
    const at = slots.wordOf(slot);
    if (
      slot === -1 ||
      !slots.isInFlight(slot) ||
      slots.words[at + slotUpstream] !== socket ||
      slots.words[at + slotUpstreamId] !== id
    ) {
      this.#add(counter.repliesUnsolicited, 1);
      return;
    }
    const message = slots.messageOf(slot);
    const questionEnd = slots.words[at + slotQuestionEnd] as number;
    if (!questionMatches(memory, start, start + length, memory, message, questionEnd)) {
      // Somebody else's answer does not end the wait for ours (TuDoor, CVE-2023-28452).
      this.#add(counter.repliesMismatched, 1);
      return;
    }
    ids.release(id, salt);
    pool.answered(socket);
    const isTruncated = ((rx[record + RX_FLAGS] as number) & RX_FLAG_TRUNCATED) !== 0;
    const replyLength = this.#learn(slot, start, length, isTruncated);
    setId(memory, start, slots.words[at + slotClientId] as number);
    const listener = slots.words[at + slotListener] as number;
    const port = slots.words[at + slotClientPort] as number;
    appendReply(
      listeners,
      listener,
      start,
      replyLength,
      slots.words,
      at + slotClient,
      port,
      at + slotServer,
    );
    this.#add(counter.replies, 1);
    this.#release(slot);
  }

  /** Takes in the answer; returns the length of the reply to send. */
  #learn(slot: number, start: number, length: number, isTruncated: boolean): number {
    const slots = this.#slots;
    const reply = this.#reply;
    const at = slots.wordOf(slot);
    const message = slots.messageOf(slot);
    // The question was checked when it came in; this reads its name into the view again.
    parseQuery(
      this.#query,
      this.#memory,
      message,
      message + (slots.words[at + slotLength] as number),
    );
    const status = parseReply(reply, this.#memory, start, start + length, this.#query);
    let replyLength = length;
    let changed = 0;
    if (isTruncated) {
      this.#add(counter.repliesTruncated, 1);
      replyLength = truncateReply(this.#memory, start, reply);
    } else if (status === replyOk) {
      if (reply.addressCount > 0) changed = this.#collect(at);
    } else if (status !== replyNegative && status !== replyTruncated) {
      this.#add(counter.repliesMalformed, 1);
    }
    if (reply.skipped > 0) this.#add(counter.addressesSkipped, reply.skipped);
    if (reply.mapped > 0) this.#add(counter.learnRefusedAddress, reply.mapped);
    this.#emitReply(slot, changed);
    return replyLength;
  }

  #collect(at: number): number {
    const { judge, learner } = this.#o;
    const { words } = this.#slots;
    const { tables } = judge;
    if (tables === null) return 0;
    const { matcher } = tables;
    let acceptSet = words[at + slotAcceptSet] as number;
    // The set found when the query came in is of no use if the tables are newer, or it was a passing one.
    if (words[at + slotTables] !== judge.installs || !matcher.isStable(acceptSet)) {
      acceptSet = matcher.match(this.#query);
    }
    return learner.collect(
      this.#reply,
      this.#replyWords,
      tables,
      acceptSet,
      words[at + slotTrusted] === 1,
      words[at + slotPolicy] as number,
      words[at + slotNamespace] as number,
      Math.floor(this.#boottimeNs / 1e9),
    );
  }

  #refuse(listener: number, i: number, reason: number): void {
    this.#add(reason, 1);
    this.#answer(listener, i, rcodeServFail, edeOther);
  }

  /** Turns the query of rx record `i` into our own reply, in its place, and sends it. */
  #answer(listener: number, i: number, rcode: number, ede: number): void {
    const { listeners } = this.#o;
    const { rx } = listeners;
    const record = i * RECORD_WORDS;
    const start = rx[record + RX_OFFSET] as number;
    const end = start + udpQueryBytesMax;
    const memory = this.#memory;
    const length = writeReply(memory, start, end, memory, start, this.#query, rcode, ede);
    if (length === 0) return;
    const port = rx[record + RX_PEER_PORT] as number;
    appendReply(
      listeners,
      listener,
      start,
      length,
      rx,
      record + RX_PEER,
      port,
      record + RX_DESTINATION,
    );
  }

  /** Rx record `i` receives into `slot` from now on. */
  #arm(i: number, slot: number): void {
    const { rx } = this.#o.listeners;
    this.#armed[i] = slot;
    rx[i * RECORD_WORDS + RX_OFFSET] = this.#slots.messageOf(slot);
    rx[i * RECORD_WORDS + RX_CAPACITY] = udpQueryBytesMax;
  }

  #release(slot: number): void {
    const { limits } = this.#o.judge;
    const word = this.#slots.wordOf(slot);
    const endpointSlot = this.#slots.words[word + slotEndpoint] as number;
    limits.inFlight[endpointSlot] = (limits.inFlight[endpointSlot] as number) - 1;
    this.#slots.release(slot);
  }

  #emitDenied(i: number, flow: number): void {
    const { rx } = this.#o.listeners;
    const { flows, limits } = this.#o.judge;
    const fields = this.#fields;
    const record = i * RECORD_WORDS;
    fields.verdict = dnsVerdict.denied;
    fields.flags = 0;
    fields.timeUs = this.#boottimeNs / 1000;
    fields.endpointId = limits.endpointId[flows.endpointSlot[flow] as number] as number;
    fields.latencyUs = 0;
    fields.clientPort = rx[record + RX_PEER_PORT] as number;
    fields.policyId = flows.policyId[flow] as number;
    fields.namespaceId = flows.namespaceId[flow] as number;
    fields.rcode = this.#o.denialRcode;
    fields.words = rx;
    fields.client = record + RX_PEER;
    fields.server = record + RX_DESTINATION;
    this.#o.events.write(fields, this.#query, null);
  }

  #emitReply(slot: number, changed: number): void {
    const latencyUs = this.#monotonicNs / 1000 - (this.#slots.startedUs[slot] as number);
    observeLatency(this.#counters, latencyUs);
    const fields = this.#fillFields(slot, latencyUs);
    fields.verdict = dnsVerdict.allowed;
    if (changed !== 0) fields.flags |= changed > 0 ? flagLearned : flagUnselected;
    fields.rcode = this.#reply.rcode;
    this.#o.events.write(fields, this.#query, this.#reply);
  }

  #emitTimeout(slot: number, monotonicNs: number): void {
    const message = this.#slots.messageOf(slot);
    const length = this.#slots.words[this.#slots.wordOf(slot) + slotLength] as number;
    parseQuery(this.#query, this.#memory, message, message + length);
    const fields = this.#fillFields(
      slot,
      monotonicNs / 1000 - (this.#slots.startedUs[slot] as number),
    );
    fields.verdict = dnsVerdict.timeout;
    fields.rcode = rcodeServFail;
    this.#o.events.write(fields, this.#query, null);
  }

  #fillFields(slot: number, latencyUs: number): DnsEventFields {
    const { words } = this.#slots;
    const at = this.#slots.wordOf(slot);
    const fields = this.#fields;
    fields.flags = words[at + slotTrusted] === 1 ? flagTrusted : 0;
    fields.timeUs = this.#boottimeNs / 1000;
    fields.endpointId = this.#o.judge.limits.endpointId[
      words[at + slotEndpoint] as number
    ] as number;
    fields.latencyUs = Math.max(0, latencyUs);
    fields.clientPort = words[at + slotClientPort] as number;
    fields.policyId = words[at + slotPolicy] as number;
    fields.namespaceId = words[at + slotNamespace] as number;
    fields.words = words;
    fields.client = at + slotClient;
    fields.server = at + slotServer;
    fields.expiresBase = Math.floor(this.#boottimeNs / 1e9) + this.#o.learner.graceSeconds;
    fields.ttlSecondsMin = this.#o.learner.ttlSecondsMin;
    return fields;
  }

  #add(index: number, count: number): void {
    this.#counters[index] = (this.#counters[index] as number) + count;
  }
}
