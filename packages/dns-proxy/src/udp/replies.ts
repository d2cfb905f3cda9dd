// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The way of a reply over UDP, a batch at a time: checked against the query in flight, learned, and only
 * then passed on to the pod. Bounded work on bytes, no allocation, no exceptions.
 */

import { setId, truncateReply } from '@tandem/core/dns/edit';
import { parseQuery, type QueryView } from '@tandem/core/dns/query';
import {
  parseReply,
  type ReplyView,
  replyNegative,
  replyOk,
  replyTruncated,
} from '@tandem/core/dns/reply';
import { matchExact, matchReply } from '@tandem/core/dns/reply-match';
import { TD_JOURNAL_CELL_BYTES } from '@tandem/datapath/abi.gen';
import {
  RECORD_WORDS,
  RX_FLAG_TRUNCATED,
  RX_FLAGS,
  RX_LENGTH,
  RX_OFFSET,
} from '@tandem/dns-sockets/layout';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import type { Learner } from '../answer/learner.ts';
import { counter } from '../counters.ts';
import { batchMax, udpReplyBytesMax, upstreamTimeoutMs } from '../limits.ts';
import type { PolicyLookup } from '../query/policy-lookup.ts';
import type { UdpPool } from '../udp/upstream.ts';
import type { Batch } from './batch.ts';
import type { UpstreamIds } from './ids.ts';
import type { InFlight } from './in-flight.ts';
import type { Outgoing } from './outgoing.ts';
import type { QueryEvents } from './query-events.ts';
import {
  type QuerySlots,
  slotAcceptSet,
  slotClientId,
  slotLength,
  slotNamespace,
  slotPolicy,
  slotQuestionEnd,
  slotTables,
  slotTrusted,
  slotUpstream,
  slotUpstreamId,
} from './slots.ts';

export interface UdpRepliesOptions {
  readonly memory: Uint8Array;
  readonly slots: QuerySlots;
  readonly upstreams: UdpLoop;
  readonly lookup: PolicyLookup;
  readonly pool: UdpPool;
  readonly ids: UpstreamIds;
  readonly learner: Learner;
  readonly counters: Float64Array;
  readonly query: QueryView;
  readonly reply: ReplyView;
  readonly batch: Batch;
  readonly inFlight: InFlight;
  readonly outgoing: Outgoing;
  readonly queryEvents: QueryEvents;
}

export class UdpReplies {
  readonly #o: UdpRepliesOptions;
  readonly #memory: Uint8Array;
  readonly #slots: QuerySlots;
  readonly #counters: Float64Array;
  readonly #query: QueryView;
  readonly #reply: ReplyView;
  readonly #replyWords: Uint32Array;
  readonly #batch: Batch;
  readonly #inFlight: InFlight;
  readonly #outgoing: Outgoing;

  constructor(options: UdpRepliesOptions) {
    this.#o = options;
    this.#memory = options.memory;
    this.#slots = options.slots;
    this.#counters = options.counters;
    this.#query = options.query;
    this.#reply = options.reply;
    this.#batch = options.batch;
    this.#inFlight = options.inFlight;
    this.#outgoing = options.outgoing;
    const { buffer, byteOffset, byteLength } = options.reply.addresses;
    this.#replyWords = new Uint32Array(buffer, byteOffset, byteLength / 4);
    // The scratch cells of the journal: refusals in the first of them, replies behind.
    const replies = options.slots.region.scratchByte + batchMax * TD_JOURNAL_CELL_BYTES;
    for (let i = 0; i < batchMax; i++) {
      options.upstreams.rx[i * RECORD_WORDS + RX_OFFSET] = replies + i * udpReplyBytesMax;
    }
  }

  /** The batch received on one upstream socket. */
  onReplies(socket: number, count: number): void {
    const { learner } = this.#o;
    learner.begin();
    for (let i = 0; i < count; i++) this.#onReply(socket, i);
    // The datapath knows the addresses before any pod does.
    learner.flush();
    this.#outgoing.flush();
  }

  /**
   * Forgets queries whose server did not answer in time: the pod gets no reply, as without a proxy. And
   * those that another member took over while this process was stopped.
   */
  sweep(monotonicNs: number): void {
    const slots = this.#slots;
    const deadline = monotonicNs / 1000 - upstreamTimeoutMs * 1000;
    const count = slots.startedUs.length;
    for (let slot = 0; slot < count && slots.inFlight > 0; slot++) {
      // Looks at one array alone: a walk through the slots themselves would miss the cache each time.
      const startedUs = slots.startedUs[slot] as number;
      if (startedUs === Infinity) continue;
      if (slots.isLost(slot)) {
        this.#inFlight.endUpstream(slot, true);
        this.#inFlight.endReply(slot);
      } else if (startedUs <= deadline) {
        this.#o.queryEvents.timedOut(slot, monotonicNs);
        this.#inFlight.endUpstream(slot, false);
        this.#inFlight.endEndpoint(slot);
        slots.forget(slot);
        this.#add(counter.upstreamTimeouts, 1);
      }
    }
    slots.collect();
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
    if (matchReply(memory, start, start + length, memory, message, questionEnd) !== matchExact) {
      // Somebody else's answer does not end the wait for ours (TuDoor, CVE-2023-28452).
      this.#add(counter.repliesMismatched, 1);
      return;
    }
    this.#inFlight.endUpstream(slot, true);
    // Another member may have answered it while this process was stopped.
    if (!this.#inFlight.endReply(slot)) return;
    const isTruncated = ((rx[record + RX_FLAGS] as number) & RX_FLAG_TRUNCATED) !== 0;
    const replyLength = this.#learn(slot, start, length, isTruncated);
    setId(memory, start, slots.words[at + slotClientId] as number);
    this.#outgoing.append(slot, start, replyLength);
    this.#outgoing.releaseAfter(slot);
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
      replyLength = truncateReply(this.#memory, start, start + length, reply, this.#query);
    } else if (status === replyOk) {
      if (reply.addressCount > 0) changed = this.#collect(at);
    } else if (status !== replyNegative && status !== replyTruncated) {
      this.#add(counter.repliesMalformed, 1);
    }
    if (reply.skipped > 0) this.#add(counter.addressesSkipped, reply.skipped);
    if (reply.aliasesSkipped > 0) this.#add(counter.aliasesOverLimit, 1);
    if (reply.mapped > 0) this.#add(counter.learnRefusedAddress, reply.mapped);
    this.#o.queryEvents.answered(slot, changed);
    return replyLength;
  }

  #collect(at: number): number {
    const { lookup, learner } = this.#o;
    const { words } = this.#slots;
    const { tables } = lookup;
    if (tables === null) return 0;
    const { matcher } = tables;
    let acceptSet = words[at + slotAcceptSet] as number;
    // The set found when the query came in is of no use if the tables are newer, or it was a passing one.
    if (words[at + slotTables] !== lookup.installs || !matcher.isStable(acceptSet)) {
      acceptSet = matcher.match(this.#query);
    }
    return learner.collect(
      this.#query.hash,
      this.#reply,
      this.#replyWords,
      tables,
      acceptSet,
      words[at + slotTrusted] === 1,
      words[at + slotPolicy] as number,
      words[at + slotNamespace] as number,
      Math.floor(this.#batch.boottimeNs / 1e9),
    );
  }

  #add(index: number, count: number): void {
    this.#counters[index] = (this.#counters[index] as number) + count;
  }
}
