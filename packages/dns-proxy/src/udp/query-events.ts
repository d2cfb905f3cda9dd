// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What the event ring is told of a query over UDP: denied, answered, or never answered. */

import { rcodeServFail } from '@tandem/core/dns/constants';
import { parseQuery, type QueryView } from '@tandem/core/dns/query';
import type { ReplyView } from '@tandem/core/dns/reply';
import type { Learner } from '../answer/learner.ts';
import { observeLatency } from '../counters.ts';
import {
  DnsEventFields,
  type DnsEventWriter,
  dnsVerdict,
  flagLearned,
  flagTrusted,
  flagUnselected,
} from '../dns-event.ts';
import type { PolicyLookup } from '../query/policy-lookup.ts';
import type { Batch } from './batch.ts';
import {
  type QuerySlots,
  slotClient,
  slotClientPort,
  slotEndpoint,
  slotLength,
  slotNamespace,
  slotPolicy,
  slotServer,
  slotTrusted,
} from './slots.ts';

export interface QueryEventsOptions {
  readonly memory: Uint8Array;
  readonly slots: QuerySlots;
  readonly lookup: PolicyLookup;
  readonly learner: Learner;
  readonly events: DnsEventWriter;
  readonly counters: Float64Array;
  readonly query: QueryView;
  readonly reply: ReplyView;
  readonly batch: Batch;
}

export class QueryEvents {
  readonly #o: QueryEventsOptions;
  readonly #fields = new DnsEventFields();

  constructor(options: QueryEventsOptions) {
    this.#o = options;
  }

  /** The query in the shared view was denied with this RCODE. */
  denied(slot: number, flow: number, rcode: number): void {
    const { lookup, events, query } = this.#o;
    const { flows, limits } = lookup;
    const fields = this.#fields;
    const endpointSlot = flows.endpointSlot[flow] as number;
    this.#fill(slot, limits.endpointId[endpointSlot] as number, 0);
    fields.verdict = dnsVerdict.denied;
    fields.flags = 0;
    fields.policyId = flows.policyId[flow] as number;
    fields.namespaceId = flows.namespaceId[flow] as number;
    fields.rcode = rcode;
    events.write(fields, query, null);
  }

  /** The reply in the shared view was taken in. `changed`: what the learner said of its addresses. */
  answered(slot: number, changed: number): void {
    const { slots, batch, counters, events, query, reply } = this.#o;
    const latencyUs = batch.monotonicNs / 1000 - (slots.startedUs[slot] as number);
    observeLatency(counters, latencyUs);
    const fields = this.#fields;
    this.#fillForwarded(slot, latencyUs);
    fields.verdict = dnsVerdict.allowed;
    if (changed !== 0) fields.flags |= changed > 0 ? flagLearned : flagUnselected;
    fields.rcode = reply.rcode;
    events.write(fields, query, reply);
  }

  /** No reply came in time. Reads the query in the slot into the shared view. */
  timedOut(slot: number, monotonicNs: number): void {
    const { slots, memory, events, query } = this.#o;
    const message = slots.messageOf(slot);
    const length = slots.words[slots.wordOf(slot) + slotLength] as number;
    parseQuery(query, memory, message, message + length);
    const fields = this.#fields;
    this.#fillForwarded(slot, monotonicNs / 1000 - (slots.startedUs[slot] as number));
    fields.verdict = dnsVerdict.timeout;
    fields.rcode = rcodeServFail;
    events.write(fields, query, null);
  }

  /** What a slot in flight says of its query. */
  #fillForwarded(slot: number, latencyUs: number): void {
    const { slots, lookup, learner, batch } = this.#o;
    const { words } = slots;
    const at = slots.wordOf(slot);
    const fields = this.#fields;
    const endpointSlot = words[at + slotEndpoint] as number;
    this.#fill(slot, lookup.limits.endpointId[endpointSlot] as number, Math.max(0, latencyUs));
    fields.flags = words[at + slotTrusted] === 1 ? flagTrusted : 0;
    fields.policyId = words[at + slotPolicy] as number;
    fields.namespaceId = words[at + slotNamespace] as number;
    fields.expiresBase = Math.floor(batch.boottimeNs / 1e9) + learner.graceSeconds;
    fields.ttlSecondsMin = learner.ttlSecondsMin;
  }

  #fill(slot: number, endpointId: number, latencyUs: number): void {
    const { slots, batch } = this.#o;
    const at = slots.wordOf(slot);
    const fields = this.#fields;
    fields.timeUs = batch.boottimeNs / 1000;
    fields.endpointId = endpointId;
    fields.latencyUs = latencyUs;
    fields.clientPort = slots.words[at + slotClientPort] as number;
    fields.words = slots.words;
    fields.client = at + slotClient;
    fields.server = at + slotServer;
  }
}
