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
import { TD_JOURNAL_CELL_BYTES } from '@tandem/datapath/abi.gen';
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
  slotReceivedMs,
  slotServer,
  slotTables,
  slotTrusted,
  slotUpstream,
  slotUpstreamId,
} from './slots.ts';
import { appendForward, appendReply } from './transmit.ts';

const udp = 17;
/** In `#armed`: the slot that was there is in flight. */
const none = -1;
/** Third word of ::ffff:a.b.c.d, little-endian. */
const ipv4Mapped = 0xffff0000;

export interface UdpServerOptions {
  /** The journal: holds the slots, and in its scratch cells room for a batch of replies. */
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
  /** Slot that each rx record of the listeners receives into, or `none`. */
  readonly #armed = new Int32Array(batchMax);
  /** Slot of each query appended to the upstreams' batch. */
  readonly #forwarded = new Int32Array(batchMax);
  readonly #fields = new DnsEventFields();
  /** Slots whose reply is in the batch: free when it is sent. */
  readonly #replied = new Int32Array(batchMax);
  #repliedCount = 0;
  /** Queries of other members' journals in the batch. */
  #replays = 0;
  #listener4 = 0;
  #listener6 = 0;
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
    const replies = this.#slots.region.scratchByte + batchMax * TD_JOURNAL_CELL_BYTES;
    for (let i = 0; i < batchMax; i++) {
      this.#arm(i);
      options.upstreams.rx[i * RECORD_WORDS + RX_OFFSET] = replies + i * udpReplyBytesMax;
    }
  }

  /** Own listeners, by which replayed queries are answered. */
  setListeners(ipv4: number, ipv6: number): void {
    this.#listener4 = ipv4;
    this.#listener6 = ipv6;
  }

  /** Queries received on one listener; they are answered by `listener`, an own one. */
  onQueries(listener: number, count: number): void {
    const { listeners, judge } = this.#o;
    this.#begin(listeners);
    judge.begin();
    for (let i = 0; i < count; i++) this.#onQuery(listener, i);
    this.#add(counter.queriesUdp, count);
    this.#flushQueries();
    for (let i = 0; i < count; i++) this.#settle(i);
  }

  /** Replies received on one upstream socket. */
  onReplies(socket: number, count: number): void {
    const { upstreams, learner } = this.#o;
    this.#begin(upstreams);
    learner.begin();
    for (let i = 0; i < count; i++) this.#onReply(socket, i);
    // The datapath knows the addresses before any pod does.
    learner.flush();
    this.#flushReplies();
  }

  /** Before `replay`. CLOCK_MONOTONIC in nanoseconds. */
  beginReplay(monotonicNs: number): void {
    this.#batch = (this.#batch + 1) | 0;
    this.#monotonicNs = monotonicNs;
    this.#o.judge.begin();
  }

  /**
   * Does a query anew that another member, or a former life of this one, had in hand; its story was
   * copied into a free slot taken for it. Policy is asked again: it may have changed.
   */
  replay(slot: number): void {
    if (this.#replays === batchMax) this.endReplay();
    const { words } = this.#slots;
    const at = this.#slots.wordOf(slot);
    const isIpv4 =
      words[at + slotClient] === 0 &&
      words[at + slotClient + 1] === 0 &&
      words[at + slotClient + 2] === ipv4Mapped;
    words[at + slotListener] = isIpv4 ? this.#listener4 : this.#listener6;
    const cell = this.#slots.scrap(this.#replays);
    this.#replays += 1;
    this.#judge(slot, cell, false, true);
    if (!this.#slots.isInFlight(slot)) this.#slots.giveBack(slot);
  }

  /** After the last `replay`: sends what they made. */
  endReplay(): void {
    this.#flushQueries();
    this.#replays = 0;
  }

  /**
   * Forgets queries whose server did not answer in time: the pod gets no reply, as without a proxy. And
   * those that another member took over while this process was stopped.
   */
  sweep(monotonicNs: number): void {
    const slots = this.#slots;
    const deadline = monotonicNs / 1000 - upstreamTimeoutMs * 1000;
    for (let slot = 0; slot < inFlightMax && slots.inFlight > 0; slot++) {
      // Looks at one array alone: a walk through the slots themselves would miss the cache each time.
      const startedUs = slots.startedUs[slot] as number;
      if (startedUs === Infinity) continue;
      if (slots.isLost(slot)) {
        this.#endUpstream(slot, true);
        this.#endReply(slot);
      } else if (startedUs <= deadline) {
        this.#emitTimeout(slot, monotonicNs);
        this.#endUpstream(slot, false);
        this.#endEndpoint(slot);
        slots.forget(slot);
        this.#add(counter.upstreamTimeouts, 1);
      }
    }
    slots.collect(monotonicNs / 1e6);
  }

  #begin(loop: UdpLoop): void {
    this.#batch = (this.#batch + 1) | 0;
    this.#monotonicNs = loop.clock[0] as number;
    this.#boottimeNs = loop.clock[1] as number;
    this.#o.beat(this.#monotonicNs);
  }

  #onQuery(listener: number, i: number): void {
    const { rx } = this.#o.listeners;
    const slots = this.#slots;
    const { words } = slots;
    const slot = this.#armed[i] as number;
    const record = i * RECORD_WORDS;
    const at = slots.wordOf(slot);
    const length = rx[record + RX_LENGTH] as number;
    for (let w = 0; w < 4; w++) {
      words[at + slotClient + w] = rx[record + RX_PEER + w] as number;
      words[at + slotServer + w] = rx[record + RX_DESTINATION + w] as number;
    }
    words[at + slotClientPort] = rx[record + RX_PEER_PORT] as number;
    words[at + slotLength] = length;
    words[at + slotReceivedMs] = (this.#monotonicNs / 1e6) >>> 0;
    words[at + slotListener] = listener;
    slots.filled(slot, length);
    const isTruncated = ((rx[record + RX_FLAGS] as number) & RX_FLAG_TRUNCATED) !== 0;
    this.#judge(slot, slots.scrap(i), isTruncated, false);
    // It waits for its answer: another one receives.
    if (slots.isInFlight(slot)) this.#armed[i] = none;
  }

  /**
   * Forwards the query in `slot`, or refuses it with a reply written into the scrap slot `cell`: the query
   * stays as it came until the reply is sent.
   */
  #judge(slot: number, cell: number, isTruncated: boolean, isReplay: boolean): void {
    const { judge } = this.#o;
    const { words } = this.#slots;
    const at = this.#slots.wordOf(slot);
    const start = this.#slots.messageOf(slot);
    const end = start + (words[at + slotLength] as number);
    const status = parseQuery(this.#query, this.#memory, start, end);
    if (status === queryDrop) {
      this.#add(counter.droppedMalformed, 1);
      return;
    }
    // Before any other state than "received": whoever takes it over from there answers with this id.
    words[at + slotClientId] = this.#query.id;
    const nowMs = this.#monotonicNs / 1e6;
    const flow = judge.flowOf(words, at + slotClient, at + slotServer, udp, nowMs);
    if (flow === unknownSource) {
      this.#add(counter.unknownSource, 1);
      return;
    }
    if (flow < 0) {
      this.#answer(slot, cell, rcodeServFail, edeNotReady);
      return;
    }
    const endpointSlot = judge.flows.endpointSlot[flow] as number;
    // A replayed query has paid its token.
    if (!isReplay && !judge.limits.takeToken(endpointSlot, nowMs)) {
      this.#refuse(slot, cell, counter.refusedEndpointRate);
    } else if (status !== queryOk || isTruncated) {
      this.#onMalformed(slot, cell, status);
    } else if (!judge.isAllowed(flow, this.#query)) {
      this.#add(counter.denied, 1);
      this.#answer(slot, cell, this.#o.denialRcode, edeProhibited);
      this.#emitDenied(slot, flow);
    } else {
      this.#forward(slot, cell, flow, endpointSlot);
    }
  }

  #onMalformed(slot: number, cell: number, status: QueryStatus): void {
    this.#add(counter.formatErrors, 1);
    const isFormErr = status === queryFormErr || status === queryOk;
    this.#answer(slot, cell, isFormErr ? rcodeFormErr : rcodeNotImp, edeNone);
  }

  #forward(slot: number, cell: number, flow: number, endpointSlot: number): void {
    const { judge, pool, ids, upstreams } = this.#o;
    const slots = this.#slots;
    const limits = judge.limits;
    if (!limits.hasRoom(endpointSlot)) {
      this.#refuse(slot, cell, counter.refusedEndpointInFlight);
      return;
    }
    if (slots.isScrap(slot)) {
      this.#refuse(slot, cell, counter.refusedSlots);
      return;
    }
    const server = judge.flows.server[flow] as number;
    const handle = pool.draw(server, this.#batch, this.#monotonicNs / 1e6);
    const id = handle === -1 ? -1 : ids.take(slot, pool.saltOf(handle));
    if (id === -1) {
      this.#refuse(slot, cell, counter.refusedUpstreamSockets);
      return;
    }
    this.#note(slot, flow, endpointSlot, handle, id);
    if (!slots.arm(slot, this.#monotonicNs / 1000)) {
      ids.release(id, pool.saltOf(handle));
      this.#add(counter.queriesClaimed, 1);
      return;
    }
    limits.inFlight[endpointSlot] = (limits.inFlight[endpointSlot] as number) + 1;
    pool.sent(handle);
    const message = slots.messageOf(slot);
    // Only now: who finds the slot received and not in flight takes its message as it came.
    setId(this.#memory, message, id);
    this.#forwarded[appendForward(upstreams, handle, message, this.#query.messageEnd)] = slot;
    this.#add(counter.allowed, 1);
  }

  /** What is needed to answer. */
  #note(slot: number, flow: number, endpointSlot: number, handle: number, id: number): void {
    const { judge } = this.#o;
    const { words } = this.#slots;
    const at = this.#slots.wordOf(slot);
    words[at + slotLength] = this.#query.messageEnd;
    words[at + slotEndpoint] = endpointSlot;
    words[at + slotPolicy] = judge.flows.policyId[flow] as number;
    words[at + slotNamespace] = judge.flows.namespaceId[flow] as number;
    words[at + slotTrusted] = judge.flows.trusted[flow] as number;
    words[at + slotQuestionEnd] = this.#query.questionEnd;
    words[at + slotAcceptSet] = judge.acceptSet;
    words[at + slotTables] = judge.installs;
    words[at + slotUpstream] = handle;
    words[at + slotUpstreamId] = id;
  }

  /** Sends what a batch of queries made: forwards and refusals. */
  #flushQueries(): void {
    const { upstreams, listeners } = this.#o;
    if ((listeners.header[HEADER_TX_COUNT] as number) > 0) listeners.flush();
    const forwards = upstreams.header[HEADER_TX_COUNT] as number;
    if (forwards > 0 && upstreams.flush() < forwards) this.#onSendFailures(forwards);
  }

  /** Queries that could not be sent: the pod hears it at once. */
  #onSendFailures(forwards: number): void {
    const { upstreams } = this.#o;
    const slots = this.#slots;
    for (let i = 0; i < forwards; i++) {
      if (upstreams.tx[i * RECORD_WORDS + TX_RESULT] === 0) continue;
      const slot = this.#forwarded[i] as number;
      const at = slots.wordOf(slot);
      const start = slots.messageOf(slot);
      const query = this.#query;
      parseQuery(query, this.#memory, start, start + (slots.words[at + slotLength] as number));
      query.id = slots.words[at + slotClientId] as number;
      this.#endUpstream(slot, false);
      this.#add(counter.upstreamSendErrors, 1);
      if (!this.#endReply(slot)) continue;
      this.#writeReply(slot, slots.scrap(i), rcodeServFail, edeNetworkError);
      this.#replied[this.#repliedCount++] = slot;
    }
    this.#flushReplies();
  }

  /** Sends the replies of a batch; then their slots are free. */
  #flushReplies(): void {
    if ((this.#o.listeners.header[HEADER_TX_COUNT] as number) > 0) this.#o.listeners.flush();
    for (let i = 0; i < this.#repliedCount; i++) this.#slots.release(this.#replied[i] as number);
    this.#repliedCount = 0;
  }

  /** The id and the socket of a query in flight have done their work. */
  #endUpstream(slot: number, isAnswered: boolean): void {
    const { ids, pool } = this.#o;
    const { words } = this.#slots;
    const at = this.#slots.wordOf(slot);
    const handle = words[at + slotUpstream] as number;
    ids.release(words[at + slotUpstreamId] as number, pool.saltOf(handle));
    if (isAnswered) pool.answered(handle);
    else pool.timedOut(handle);
  }

  /** A query in flight is about to be answered; false if another member has it by now. */
  #endReply(slot: number): boolean {
    this.#endEndpoint(slot);
    if (this.#slots.reply(slot)) return true;
    this.#add(counter.queriesClaimed, 1);
    return false;
  }

  #endEndpoint(slot: number): void {
    const { inFlight } = this.#o.judge.limits;
    const endpointSlot = this.#slots.words[this.#slots.wordOf(slot) + slotEndpoint] as number;
    inFlight[endpointSlot] = (inFlight[endpointSlot] as number) - 1;
  }

  #onReply(socket: number, i: number): void {
    const { upstreams, ids, pool } = this.#o;
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
    this.#endUpstream(slot, true);
    // Another member may have answered it while this process was stopped.
    if (!this.#endReply(slot)) return;
    const isTruncated = ((rx[record + RX_FLAGS] as number) & RX_FLAG_TRUNCATED) !== 0;
    const replyLength = this.#learn(slot, start, length, isTruncated);
    setId(memory, start, slots.words[at + slotClientId] as number);
    this.#append(slot, start, replyLength);
    this.#replied[this.#repliedCount++] = slot;
    this.#add(counter.replies, 1);
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

  #refuse(slot: number, cell: number, reason: number): void {
    this.#add(reason, 1);
    this.#answer(slot, cell, rcodeServFail, edeOther);
  }

  /** Our own reply to a query that was not forwarded. */
  #answer(slot: number, cell: number, rcode: number, ede: number): void {
    if (this.#slots.reply(slot)) this.#writeReply(slot, cell, rcode, ede);
    else this.#add(counter.queriesClaimed, 1);
  }

  #writeReply(slot: number, cell: number, rcode: number, ede: number): void {
    const memory = this.#memory;
    const message = this.#slots.messageOf(slot);
    const start = this.#slots.messageOf(cell);
    const end = start + udpQueryBytesMax;
    const length = writeReply(memory, start, end, memory, message, this.#query, rcode, ede);
    if (length > 0) this.#append(slot, start, length);
  }

  /** A reply of `length` bytes at `start`, to whoever asked what is in the slot. */
  #append(slot: number, start: number, length: number): void {
    const { words } = this.#slots;
    const at = this.#slots.wordOf(slot);
    const listener = words[at + slotListener] as number;
    const port = words[at + slotClientPort] as number;
    const { listeners } = this.#o;
    appendReply(listeners, listener, start, length, words, at + slotClient, port, at + slotServer);
  }

  /** After its batch rx record `i` receives into its slot again, or into a new one. */
  #settle(i: number): void {
    const slots = this.#slots;
    const slot = this.#armed[i] as number;
    if (slot === none || slots.isScrap(slot) || !slots.recycle(slot)) this.#arm(i);
  }

  #arm(i: number): void {
    const slots = this.#slots;
    const { rx } = this.#o.listeners;
    const taken = slots.take();
    const slot = taken === -1 ? slots.scrap(i) : taken;
    if (taken !== -1) slots.receive(taken);
    this.#armed[i] = slot;
    rx[i * RECORD_WORDS + RX_OFFSET] = slots.messageOf(slot);
    rx[i * RECORD_WORDS + RX_CAPACITY] = udpQueryBytesMax;
  }

  #emitDenied(slot: number, flow: number): void {
    const { flows, limits } = this.#o.judge;
    const { words } = this.#slots;
    const at = this.#slots.wordOf(slot);
    const fields = this.#fields;
    fields.verdict = dnsVerdict.denied;
    fields.flags = 0;
    fields.timeUs = this.#boottimeNs / 1000;
    fields.endpointId = limits.endpointId[flows.endpointSlot[flow] as number] as number;
    fields.latencyUs = 0;
    fields.clientPort = words[at + slotClientPort] as number;
    fields.policyId = flows.policyId[flow] as number;
    fields.namespaceId = flows.namespaceId[flow] as number;
    fields.rcode = this.#o.denialRcode;
    fields.words = words;
    fields.client = at + slotClient;
    fields.server = at + slotServer;
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
