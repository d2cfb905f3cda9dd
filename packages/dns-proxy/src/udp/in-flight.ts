// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Begin and end of a query in flight: `begin` takes its room in the limits, its upstream socket and its slot of the journal, and
 * `end` gives them back.
 */

import { setId } from '@tandem/core/dns/edit';
import type { AcceptSet } from '@tandem/core/dns/matcher';
import { parseQuery, type QueryView, queryOk } from '@tandem/core/dns/query';
import type { NamespaceId, PolicyId } from '@tandem/core/ids';
import { counter } from '../counters.ts';
import type { QuerySlot } from '../journal/region.ts';
import {
  slotAcceptSet,
  slotClient,
  slotClientId,
  slotClientPort,
  slotEndpoint,
  slotEndpointId,
  slotEndpointMs,
  slotFormerId,
  slotFormerUpstream,
  slotLength,
  slotNamespace,
  slotPolicy,
  slotPolicySlot,
  slotQuestionEnd,
  slotReceivedMs,
  slotServer,
  slotTables,
  slotTrusted,
  slotUpstream,
  slotUpstreamId,
} from '../journal/slots.ts';
import type { EndpointSlot, PolicySlot } from '../policy/owner-slots.ts';
import type { QueryFacts } from '../query/facts.ts';
import { type Outcome, outcome } from '../query/outcome.ts';
import type { ServerHandle } from './servers.ts';
import type { UdpShared } from './shared.ts';
import type { SocketHandle } from './upstream-sockets.ts';

type InFlightOptions = Pick<
  UdpShared,
  'memory' | 'slots' | 'lookup' | 'pool' | 'ids' | 'counters' | 'batch'
>;

/** Another member has taken the query over: nothing is to be sent. */
export const claimed = -1;
/** Another pod has the address of the client, or none: nothing is to be sent, and the slot is free. */
export const gone = -2;
/** The reply may be sent. */
export const replying = 0;

export class InFlight {
  readonly #o: InFlightOptions;
  readonly #server = new Uint8Array(16);
  readonly #serverWords = new Uint32Array(this.#server.buffer);
  /** By slot: `endpointsGeneration` when its query was decided on. */
  readonly #generations: Uint32Array;

  constructor(options: InFlightOptions) {
    this.#o = options;
    this.#generations = new Uint32Array(options.slots.startedUs.length);
  }

  /**
   * The query in the slot is in flight from now on, its message ready to be sent from the socket in
   * `slotUpstream`. `forward`, or why it is not, or `claimed`.
   */
  begin(slot: QuerySlot, facts: QueryFacts, query: QueryView): Outcome | typeof claimed {
    const { slots, lookup, pool, ids, counters, batch, memory } = this.#o;
    if (slots.isScrap(slot)) return outcome.overNode;
    const server = this.#serverOf(facts);
    if (server === -1) return outcome.overServers;
    if (pool.isUnreachable(server, batch.monotonicNs / 1e6)) return outcome.serverDown;
    const at = slots.wordOf(slot);
    const nowMs = batch.monotonicNs / 1e6;
    if (!this.#takeId(slot, at, pool.draw(server, batch.number, nowMs))) return outcome.noSocket;
    const { words } = slots;
    words[at + slotLength] = query.messageEnd;
    words[at + slotEndpointId] = lookup.limits.endpoints.ownerId[facts.endpointSlot]!;
    words[at + slotEndpointMs] = words[at + slotReceivedMs]!;
    words[at + slotEndpoint] = facts.endpointSlot;
    words[at + slotPolicySlot] = facts.policySlot;
    words[at + slotPolicy] = facts.policyId;
    words[at + slotNamespace] = facts.namespaceId;
    words[at + slotTrusted] = facts.isTrusted ? 1 : 0;
    words[at + slotQuestionEnd] = query.questionEnd;
    words[at + slotAcceptSet] = facts.acceptSet;
    words[at + slotTables] = facts.installs;
    words[at + slotFormerUpstream] = 0;
    if (!slots.arm(slot, batch.monotonicNs / 1000)) {
      const socket = words[at + slotUpstream]!;
      ids.release(words[at + slotUpstreamId]!, pool.saltOf(socket));
      counters[counter.queriesClaimed]!++;
      return claimed;
    }
    this.#generations[slot] = lookup.endpointsGeneration;
    lookup.limits.begin(facts.endpointSlot, facts.policySlot);
    pool.sent(words[at + slotUpstream]!, batch.monotonicNs / 1e6);
    // Only now: who finds the slot received and not in flight takes its message as it came.
    setId(memory, slots.messageOf(slot), words[at + slotUpstreamId]!);
    return outcome.forward;
  }

  /** Sends a query in flight from another socket to its server as well; false if there is none. */
  askAgain(slot: QuerySlot): boolean {
    const { slots } = this.#o;
    const { words } = slots;
    const at = slots.wordOf(slot);
    const socket = words[at + slotUpstream]!;
    const id = words[at + slotUpstreamId]!;
    if (!this.#takeOther(slot, at)) return false;
    // An answer to the first may come yet.
    words[at + slotFormerUpstream] = socket;
    words[at + slotFormerId] = id;
    return true;
  }

  /** The query could not be sent from its socket, so it leaves it for another one to its server; false if there is none. */
  move(slot: QuerySlot): boolean {
    const { slots, pool, ids } = this.#o;
    const { words } = slots;
    const at = slots.wordOf(slot);
    const socket = words[at + slotUpstream]!;
    const id = words[at + slotUpstreamId]!;
    if (!this.#takeOther(slot, at)) return false;
    ids.release(id, pool.saltOf(socket));
    pool.unanswered(socket);
    return true;
  }

  /** The query has another socket to its server, with an id there: it is ready to be sent. */
  #takeOther(slot: QuerySlot, at: number): boolean {
    const { slots, pool, batch, memory, lookup, counters } = this.#o;
    const { words } = slots;
    for (let w = 0; w < 4; w++) this.#serverWords[w] = words[at + slotServer + w]!;
    const owner = {
      endpointId: lookup.limits.endpoints.ownerId[words[at + slotEndpoint]!]!,
      policyId: words[at + slotPolicy]! as PolicyId,
      isResolver: words[at + slotTrusted] === 1,
    };
    const nowMs = batch.monotonicNs / 1e6;
    const server = pool.serverOf(this.#server, owner, nowMs);
    if (server === -1) return false;
    const other = pool.drawAgain(server, words[at + slotUpstream]!, batch.number, nowMs);
    if (!this.#takeId(slot, at, other)) return false;
    pool.sent(words[at + slotUpstream]!, nowMs);
    setId(memory, slots.messageOf(slot), words[at + slotUpstreamId]!);
    counters[counter.queriesAskedAgain]!++;
    return true;
  }

  /** Whether the query in the slot was sent from this socket with this id: both times from one, perhaps. */
  isSent(slot: QuerySlot, socket: SocketHandle, id: number): boolean {
    const { slots } = this.#o;
    const { words } = slots;
    const at = slots.wordOf(slot);
    if (words[at + slotUpstream] === socket && words[at + slotUpstreamId] === id) return true;
    return words[at + slotFormerUpstream] === socket && words[at + slotFormerId] === id;
  }

  /**
   * Reads the query in a slot in flight, with the id that the pod gave it, into `query` and `facts`. It was checked when it came in;
   * false: another process has written over it since, and there is nothing to answer.
   */
  read(slot: QuerySlot, facts: QueryFacts, query: QueryView): boolean {
    const { slots, memory } = this.#o;
    const { words } = slots;
    const at = slots.wordOf(slot);
    const start = slots.messageOf(slot);
    if (parseQuery(query, memory, start, start + slots.lengthOf(slot)) !== queryOk) return false;
    query.id = words[at + slotClientId]!;
    facts.words = words;
    facts.client = at + slotClient;
    facts.server = at + slotServer;
    facts.clientPort = words[at + slotClientPort]! & 0xffff;
    facts.startedUs = slots.startedUs[slot]!;
    facts.endpointSlot = words[at + slotEndpoint]! as EndpointSlot;
    facts.policySlot = words[at + slotPolicySlot]! as PolicySlot;
    facts.policyId = words[at + slotPolicy]! as PolicyId;
    facts.namespaceId = words[at + slotNamespace]! as NamespaceId;
    facts.isTrusted = words[at + slotTrusted] === 1;
    facts.acceptSet = words[at + slotAcceptSet]! as AcceptSet;
    facts.installs = words[at + slotTables]!;
    return true;
  }

  /**
   * The query is not in flight any more, answered on `socket`, or, if that is 0, not answered. After `replying` the slot
   * must be released.
   */
  end(slot: QuerySlot, socket: SocketHandle): typeof replying | typeof claimed | typeof gone {
    const { slots, counters } = this.#o;
    const isClients = this.#isAddressOfClient(slot);
    this.#giveBack(slot, socket);
    if (!isClients) {
      const isLost = slots.isLost(slot);
      counters[isLost ? counter.queriesClaimed : counter.repliesToGonePods]!++;
      slots.forget(slot);
      return gone;
    }
    if (slots.reply(slot)) return replying;
    counters[counter.queriesClaimed]!++;
    return claimed;
  }

  /** As `end`, and the pod gets no reply: the slot is free. */
  forget(slot: QuerySlot): void {
    this.#giveBack(slot, 0);
    this.#o.slots.forget(slot);
  }

  #isAddressOfClient(slot: QuerySlot): boolean {
    const { slots, lookup } = this.#o;
    const { words } = slots;
    const at = slots.wordOf(slot);
    const generation = this.#generations[slot]!;
    return lookup.isStillOf(generation, words[at + slotEndpointId]!, words, at + slotClient);
  }

  #giveBack(slot: QuerySlot, answeredOn: number): void {
    const { slots, lookup } = this.#o;
    const { words } = slots;
    const at = slots.wordOf(slot);
    this.#leaveSocket(at + slotUpstream, at + slotUpstreamId, answeredOn);
    if (words[at + slotFormerUpstream] !== 0)
      this.#leaveSocket(at + slotFormerUpstream, at + slotFormerId, answeredOn);
    lookup.limits.end(
      words[at + slotEndpoint]! as EndpointSlot,
      words[at + slotPolicySlot]! as PolicySlot,
    );
  }

  #leaveSocket(socketWord: number, idWord: number, answeredOn: number): void {
    const { slots, pool, ids, batch } = this.#o;
    const socket = slots.words[socketWord]!;
    ids.release(slots.words[idWord]!, pool.saltOf(socket));
    if (socket === answeredOn) pool.answered(socket, batch.monotonicNs / 1e6);
    else pool.unanswered(socket);
  }

  /** Handle of the flow's server; -1 when a bound refuses it. */
  #serverOf(facts: QueryFacts): ServerHandle {
    const { lookup, pool, batch } = this.#o;
    const { flows, limits } = lookup;
    const remembered = flows.server[facts.flow]! as ServerHandle;
    if (remembered !== 0 && pool.isServer(remembered)) return remembered;
    for (let w = 0; w < 4; w++) this.#serverWords[w] = facts.words[facts.server + w]!;
    const owner = {
      endpointId: limits.endpoints.ownerId[facts.endpointSlot]!,
      policyId: facts.policyId,
      isResolver: facts.isTrusted,
    };
    const server = pool.serverOf(this.#server, owner, batch.monotonicNs / 1e6);
    if (server !== -1) flows.server[facts.flow] = server;
    return server;
  }

  /** Draws an id for the slot on a socket; false if there is none, or no socket (-1). */
  #takeId(slot: QuerySlot, at: number, socket: SocketHandle): boolean {
    const { slots, pool, ids } = this.#o;
    const id = socket === -1 ? -1 : ids.take(slot, pool.saltOf(socket));
    if (id === -1) return false;
    slots.words[at + slotUpstream] = socket;
    slots.words[at + slotUpstreamId] = id;
    return true;
  }
}
