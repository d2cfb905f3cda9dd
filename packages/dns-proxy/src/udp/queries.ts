// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The way of a query over UDP, a batch at a time: received into slots, walked, judged, forwarded or
 * refused. Bounded work on bytes, no allocation, no exceptions.
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
import { setId } from '@tandem/core/dns/edit';
import {
  parseQuery,
  type QueryStatus,
  type QueryView,
  queryDrop,
  queryFormErr,
  queryOk,
} from '@tandem/core/dns/query';
import {
  HEADER_TX_COUNT,
  RECORD_WORDS,
  RX_DESTINATION,
  RX_FLAG_TRUNCATED,
  RX_FLAGS,
  RX_LENGTH,
  RX_PEER,
  RX_PEER_PORT,
  TX_RESULT,
} from '@tandem/dns-sockets/layout';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { counter } from '../counters.ts';
import { batchMax } from '../limits.ts';
import type { Denial } from '../query/denial.ts';
import { type PolicyLookup, unknownSource } from '../query/policy-lookup.ts';
import type { UdpPool } from '../udp/upstream.ts';
import type { Batch } from './batch.ts';
import type { UpstreamIds } from './ids.ts';
import type { InFlight } from './in-flight.ts';
import type { Outgoing } from './outgoing.ts';
import type { QueryEvents } from './query-events.ts';
import { Receiving } from './receiving.ts';
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
import { appendForward } from './transmit.ts';

const udp = 17;
/** Third word of ::ffff:a.b.c.d, little-endian. */
const ipv4Mapped = 0xffff0000;

export interface UdpQueriesOptions {
  readonly memory: Uint8Array;
  readonly slots: QuerySlots;
  readonly listeners: UdpLoop;
  readonly upstreams: UdpLoop;
  readonly lookup: PolicyLookup;
  readonly pool: UdpPool;
  readonly ids: UpstreamIds;
  readonly counters: Float64Array;
  readonly query: QueryView;
  readonly denial: Denial;
  readonly batch: Batch;
  readonly inFlight: InFlight;
  readonly outgoing: Outgoing;
  readonly queryEvents: QueryEvents;
}

export class UdpQueries {
  readonly #o: UdpQueriesOptions;
  readonly #memory: Uint8Array;
  readonly #slots: QuerySlots;
  readonly #counters: Float64Array;
  readonly #query: QueryView;
  readonly #batch: Batch;
  readonly #inFlight: InFlight;
  readonly #outgoing: Outgoing;
  readonly #receiving: Receiving;
  /** Slot of each query appended to the upstreams' batch. */
  readonly #forwarded = new Int32Array(batchMax);
  /** Queries of other members' journals in the batch. */
  #replays = 0;
  #listener4 = 0;
  #listener6 = 0;

  constructor(options: UdpQueriesOptions) {
    this.#o = options;
    this.#memory = options.memory;
    this.#slots = options.slots;
    this.#counters = options.counters;
    this.#query = options.query;
    this.#batch = options.batch;
    this.#inFlight = options.inFlight;
    this.#outgoing = options.outgoing;
    this.#receiving = new Receiving(options.slots, options.listeners);
  }

  /** Own listeners, by which replayed queries are answered. */
  setListeners(ipv4: number, ipv6: number): void {
    this.#listener4 = ipv4;
    this.#listener6 = ipv6;
  }

  /** The batch received on one listener; its queries are answered by `listener`, an own one. */
  onQueries(listener: number, count: number): void {
    this.#o.lookup.begin();
    for (let i = 0; i < count; i++) this.#onQuery(listener, i);
    this.#add(counter.queriesUdp, count);
    this.#flush();
    for (let i = 0; i < count; i++) this.#receiving.settle(i);
  }

  /** Before `replay`. CLOCK_MONOTONIC in nanoseconds. */
  beginReplay(monotonicNs: number): void {
    this.#batch.beginReplay(monotonicNs);
    this.#o.lookup.begin();
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
    this.#handle(slot, cell, false, true);
    if (this.#slots.isInFlight(slot)) return;
    if (this.#slots.isReplying(slot)) this.#outgoing.releaseAfter(slot);
    else this.#slots.release(slot);
  }

  /** After the last `replay`: sends what they made. */
  endReplay(): void {
    this.#flush();
    this.#replays = 0;
  }

  #onQuery(listener: number, i: number): void {
    const { rx } = this.#o.listeners;
    const slots = this.#slots;
    const { words } = slots;
    const slot = this.#receiving.slotOf(i);
    const record = i * RECORD_WORDS;
    const at = slots.wordOf(slot);
    const length = rx[record + RX_LENGTH] as number;
    for (let w = 0; w < 4; w++) {
      words[at + slotClient + w] = rx[record + RX_PEER + w] as number;
      words[at + slotServer + w] = rx[record + RX_DESTINATION + w] as number;
    }
    words[at + slotClientPort] = rx[record + RX_PEER_PORT] as number;
    words[at + slotLength] = length;
    words[at + slotReceivedMs] = (this.#batch.monotonicNs / 1e6) >>> 0;
    words[at + slotListener] = listener;
    slots.filled(slot, length);
    const isTruncated = ((rx[record + RX_FLAGS] as number) & RX_FLAG_TRUNCATED) !== 0;
    this.#handle(slot, slots.scrap(i), isTruncated, false);
    // It waits for its answer: another one receives.
    if (slots.isInFlight(slot)) this.#receiving.keep(i);
  }

  /**
   * Forwards the query in `slot`, or refuses it with a reply written into the scrap slot `cell`: the query
   * stays as it came until the reply is sent.
   */
  #handle(slot: number, cell: number, isTruncated: boolean, isReplay: boolean): void {
    const { lookup } = this.#o;
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
    const nowMs = this.#batch.monotonicNs / 1e6;
    const flow = lookup.flowOf(words, at + slotClient, at + slotServer, udp, nowMs);
    if (flow === unknownSource) {
      this.#add(counter.unknownSource, 1);
      return;
    }
    if (flow < 0) {
      this.#answer(slot, cell, rcodeServFail, edeNotReady);
      return;
    }
    const endpointSlot = lookup.flows.endpointSlot[flow] as number;
    // A replayed query has paid its token.
    if (!isReplay && !lookup.limits.takeToken(endpointSlot, nowMs)) {
      this.#refuse(slot, cell, counter.refusedEndpointRate);
    } else if (status !== queryOk || isTruncated) {
      this.#onMalformed(slot, cell, status);
    } else if (!lookup.isAllowed(flow, this.#query)) {
      this.#add(counter.denied, 1);
      const rcode = this.#o.denial.rcodeFor(this.#query);
      this.#answer(slot, cell, rcode, edeProhibited);
      this.#o.queryEvents.denied(slot, flow, rcode);
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
    const { lookup, pool, ids, upstreams } = this.#o;
    const slots = this.#slots;
    const limits = lookup.limits;
    if (!limits.hasRoom(endpointSlot)) {
      this.#refuse(slot, cell, counter.refusedEndpointInFlight);
      return;
    }
    if (slots.isScrap(slot)) {
      this.#refuse(slot, cell, counter.refusedSlots);
      return;
    }
    const server = lookup.flows.server[flow] as number;
    const handle = pool.draw(server, this.#batch.number, this.#batch.monotonicNs / 1e6);
    const id = handle === -1 ? -1 : ids.take(slot, pool.saltOf(handle));
    if (id === -1) {
      this.#refuse(slot, cell, counter.refusedUpstreamSockets);
      return;
    }
    this.#note(slot, flow, endpointSlot, handle, id);
    if (!slots.arm(slot, this.#batch.monotonicNs / 1000)) {
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
    const { lookup } = this.#o;
    const { words } = this.#slots;
    const at = this.#slots.wordOf(slot);
    words[at + slotLength] = this.#query.messageEnd;
    words[at + slotEndpoint] = endpointSlot;
    words[at + slotPolicy] = lookup.flows.policyId[flow] as number;
    words[at + slotNamespace] = lookup.flows.namespaceId[flow] as number;
    words[at + slotTrusted] = lookup.flows.trusted[flow] as number;
    words[at + slotQuestionEnd] = this.#query.questionEnd;
    words[at + slotAcceptSet] = lookup.acceptSet;
    words[at + slotTables] = lookup.installs;
    words[at + slotUpstream] = handle;
    words[at + slotUpstreamId] = id;
  }

  /** Sends what a batch of queries made: forwards and refusals. */
  #flush(): void {
    const { upstreams } = this.#o;
    this.#outgoing.flush();
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
      this.#inFlight.endUpstream(slot, false);
      this.#add(counter.upstreamSendErrors, 1);
      if (!this.#inFlight.endReply(slot)) continue;
      this.#outgoing.write(slot, slots.scrap(i), rcodeServFail, edeNetworkError);
      this.#outgoing.releaseAfter(slot);
    }
    this.#outgoing.flush();
  }

  #refuse(slot: number, cell: number, reason: number): void {
    this.#add(reason, 1);
    this.#answer(slot, cell, rcodeServFail, edeOther);
  }

  /** Our own reply to a query that was not forwarded. */
  #answer(slot: number, cell: number, rcode: number, ede: number): void {
    if (this.#slots.reply(slot)) this.#outgoing.write(slot, cell, rcode, ede);
    else this.#add(counter.queriesClaimed, 1);
  }

  #add(index: number, count: number): void {
    this.#counters[index] = (this.#counters[index] as number) + count;
  }
}
