// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Handles a batch of UDP queries: received into slots, parsed, decided on, forwarded or
 * answered by this member. Bounded work on bytes, no allocation, no exceptions.
 */

import { parseQuery, type QueryView, queryFormErr, queryOk } from '@tandem/core/dns/query';
import {
  RECORD_WORDS,
  RX_DESTINATION,
  RX_FLAG_TRUNCATED,
  RX_FLAGS,
  RX_LENGTH,
  RX_PEER,
  RX_PEER_PORT,
} from '@tandem/dns-sockets/layout';
import { counter } from '../counters.ts';
import type { QuerySlot } from '../journal/region.ts';
import {
  type QuerySlots,
  slotClient,
  slotClientId,
  slotClientPort,
  slotEndpointId,
  slotEndpointMs,
  slotLength,
  slotListener,
  slotReceivedMs,
  slotServer,
} from '../journal/slots.ts';
import { batchMax } from '../limits.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import type { Flow } from '../policy/flow-table.ts';
import { decide } from '../query/decide.ts';
import { protocolUdp, QueryFacts } from '../query/facts.ts';
import { countOutcome, type Outcome, outcome, outcomeEde, outcomeRcode } from '../query/outcome.ts';
import type { Batch } from './batch.ts';
import { claimed, type InFlight } from './in-flight.ts';
import type { Outgoing } from './outgoing.ts';
import type { UdpParts } from './parts.ts';
import { Receiving } from './receiving.ts';

/** Third word of ::ffff:a.b.c.d, little-endian. */
const ipv4Mapped = 0xffff0000;

export class UdpQueries {
  readonly #o: UdpParts;
  readonly #memory: Uint8Array;
  readonly #slots: QuerySlots;
  readonly #query: QueryView;
  readonly #batch: Batch;
  readonly #inFlight: InFlight;
  readonly #outgoing: Outgoing;
  readonly #receiving: Receiving;
  readonly #facts = new QueryFacts(protocolUdp);
  /** Queries of other members' journals in the batch. */
  #replays = 0;
  #listener4 = 0 as ListenerHandle;
  #listener6 = 0 as ListenerHandle;

  constructor(options: UdpParts) {
    this.#o = options;
    this.#memory = options.memory;
    this.#slots = options.slots;
    this.#query = options.query;
    this.#batch = options.batch;
    this.#inFlight = options.inFlight;
    this.#outgoing = options.outgoing;
    this.#receiving = new Receiving(options.slots, options.listeners);
    this.#facts.words = options.slots.words;
  }

  /** Own listeners, by which replayed queries are answered. */
  setListeners(ipv4: ListenerHandle, ipv6: ListenerHandle): void {
    this.#listener4 = ipv4;
    this.#listener6 = ipv6;
  }

  /** The batch received on one listener; its queries are answered by `listener`, an own one. */
  onQueries(listener: ListenerHandle, count: number): void {
    this.#o.lookup.begin();
    for (let i = 0; i < count; i++) this.#onQuery(listener, i);
    this.#o.counters[counter.queriesUdp]! += count;
    this.#flush();
    for (let i = 0; i < count; i++) this.#receiving.settle(i);
  }

  /** Before `replay`. */
  beginReplay(): void {
    this.#o.lookup.begin();
  }

  /**
   * Handles a query again that another member, or a former run of this one, left unfinished; its record was
   * copied into a free slot taken for it. Policy decides again: it may have changed.
   */
  replay(slot: QuerySlot): void {
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
    // A replayed query has paid its token.
    this.#handle(slot, cell, false, true);
    if (this.#slots.isInFlight(slot)) return;
    if (this.#slots.isReplying(slot)) this.#outgoing.releaseAfter(slot);
    else this.#slots.release(slot);
  }

  /** After the last `replay`: sends the forwards and replies of the batch. */
  endReplay(): void {
    this.#flush();
    this.#replays = 0;
  }

  #onQuery(listener: ListenerHandle, i: number): void {
    const { rx } = this.#o.listeners;
    const slots = this.#slots;
    const { words } = slots;
    const slot = this.#receiving.slotOf(i);
    const record = i * RECORD_WORDS;
    const at = slots.wordOf(slot);
    const length = rx[record + RX_LENGTH]!;
    for (let w = 0; w < 4; w++) {
      words[at + slotClient + w] = rx[record + RX_PEER + w]!;
      words[at + slotServer + w] = rx[record + RX_DESTINATION + w]!;
    }
    words[at + slotClientPort] = rx[record + RX_PEER_PORT]!;
    words[at + slotLength] = length;
    words[at + slotReceivedMs] = (this.#batch.monotonicNs / 1e6) >>> 0;
    // The endpoint in the slot is of its former use, perhaps within this millisecond.
    words[at + slotEndpointMs] = ~words[at + slotReceivedMs]!;
    words[at + slotListener] = listener;
    slots.filled(slot, length);
    const isTruncated = (rx[record + RX_FLAGS]! & RX_FLAG_TRUNCATED) !== 0;
    this.#handle(slot, slots.scrap(i), isTruncated, false);
    // It waits for its answer: another one receives.
    if (slots.isInFlight(slot)) this.#receiving.keep(i);
  }

  /**
   * Forwards the query in `slot`, or answers it with a reply written into the scrap slot `cell`: the query
   * stays as it came until the reply is sent.
   */
  #handle(slot: QuerySlot, cell: QuerySlot, isTruncated: boolean, hasPaid: boolean): void {
    const { lookup, counters, forwards, timeouts } = this.#o;
    const query = this.#query;
    const { words } = this.#slots;
    const at = this.#slots.wordOf(slot);
    const start = this.#slots.messageOf(slot);
    const parsed = parseQuery(query, this.#memory, start, start + this.#slots.lengthOf(slot));
    // Before any state after "received": a member that takes it over from there answers with this id.
    words[at + slotClientId] = query.id;
    const status = isTruncated && parsed === queryOk ? queryFormErr : parsed;
    const facts = this.#facts;
    facts.flow = -1 as Flow;
    facts.client = at + slotClient;
    facts.server = at + slotServer;
    facts.clientPort = words[at + slotClientPort]! & 0xffff;
    let result: Outcome = decide(
      lookup,
      query,
      status,
      facts,
      this.#batch.monotonicNs / 1e6,
      hasPaid,
    );
    if (this.#isOfOther(at)) {
      counters[counter.repliesToGonePods]!++;
      return;
    }
    if (result === outcome.forward) {
      result = this.#inFlight.begin(slot, facts, query);
      if (result === outcome.overServers && timeouts.giveUpServerFor(facts)) {
        // The view holds a query to that server by now.
        parseQuery(query, this.#memory, start, start + this.#slots.lengthOf(slot));
        result = this.#inFlight.begin(slot, facts, query);
      }
      if (result === claimed) return;
    }
    countOutcome(counters, result);
    if (result === outcome.forward) forwards.append(slot, query.messageEnd);
    else this.#answer(slot, cell, result);
  }

  /**
   * Whether the query in the slot at `at` is of another endpoint than the one for which it was decided on now: its pod is not at its
   * address any more, and the reply would reach another one (rule 18).
   */
  #isOfOther(at: number): boolean {
    const { lookup } = this.#o;
    const { words } = this.#slots;
    const { flow, endpointSlot } = this.#facts;
    if (words[at + slotEndpointMs] !== words[at + slotReceivedMs]) return false;
    const noted = words[at + slotEndpointId]!;
    if (flow < 0) return !lookup.isAddressOf(noted, words, at + slotClient);
    return lookup.limits.endpoints.ownerId[endpointSlot] !== noted;
  }

  /** Our own reply to a query that is not forwarded, or none. */
  #answer(slot: QuerySlot, cell: QuerySlot, result: Outcome): void {
    let rcode = outcomeRcode[result]!;
    if (rcode < 0) return;
    const { report, denial, counters } = this.#o;
    const query = this.#query;
    if (result === outcome.denied) {
      rcode = denial.rcodeFor(query);
      report.denied(this.#facts, query, rcode, this.#batch);
    } else if (result === outcome.serverDown) {
      this.#facts.startedUs = this.#batch.monotonicNs / 1000;
      report.failed(this.#facts, query, this.#batch);
    }
    if (this.#slots.reply(slot)) {
      this.#outgoing.write(slot, cell, query, rcode, outcomeEde[result]!);
    } else {
      counters[counter.queriesClaimed]!++;
    }
  }

  /** Sends what a batch of queries made: replies and forwards. */
  #flush(): void {
    this.#outgoing.flush();
    this.#o.forwards.flush();
  }
}
