// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The one report of events, for every transport: a query was denied, answered, or not answered. */

import { rcodeServFail } from '@tandem/core/dns/constants';
import type { QueryView } from '@tandem/core/dns/query';
import type { ReplyView } from '@tandem/core/dns/reply';
import { observeLatency } from '../counters.ts';
import {
  DnsEventFields,
  type DnsEventWriter,
  dnsVerdict,
  flagLearned,
  flagTrusted,
  flagUnselected,
} from '../records/dns-event.ts';
import type { QueryFacts } from './facts.ts';
import type { Moment } from './moment.ts';
import type { PolicyLookup } from './policy-lookup.ts';

export interface QueryReportOptions {
  readonly events: DnsEventWriter;
  readonly lookup: PolicyLookup;
  readonly counters: Float64Array;
  /** Seconds that the learner adds to TTLs: events carry the same expiry. */
  readonly graceSeconds: number;
  readonly ttlSecondsMin: number;
}

export class QueryReport {
  readonly #o: QueryReportOptions;
  readonly #fields = new DnsEventFields();

  constructor(options: QueryReportOptions) {
    this.#o = options;
    this.#fields.ttlSecondsMin = options.ttlSecondsMin;
  }

  /** Policy denied the query; the pod gets `rcode`. */
  denied(facts: QueryFacts, query: QueryView, rcode: number, moment: Moment): void {
    this.#write(dnsVerdict.denied, 0, facts, query, null, rcode, 0, moment);
  }

  /**
   * A reply came. `changed`: positive if it taught the datapath something, negative if no selector wants it. False: there was no room to
   * report it.
   */
  answered(
    facts: QueryFacts,
    query: QueryView,
    reply: ReplyView,
    changed: number,
    moment: Moment,
  ): boolean {
    const latencyUs = latencyOf(facts, moment);
    observeLatency(this.#o.counters, latencyUs);
    const learned = changed > 0 ? flagLearned : changed < 0 ? flagUnselected : 0;
    const flags = (facts.isTrusted ? flagTrusted : 0) | learned;
    const { rcode } = reply;
    return this.#write(dnsVerdict.allowed, flags, facts, query, reply, rcode, latencyUs, moment);
  }

  /** No reply came in time. */
  timedOut(facts: QueryFacts, query: QueryView, moment: Moment): void {
    this.#unanswered(dnsVerdict.timeout, facts, query, moment);
  }

  /** The server could not be reached. */
  failed(facts: QueryFacts, query: QueryView, moment: Moment): void {
    this.#unanswered(dnsVerdict.failed, facts, query, moment);
  }

  #unanswered(verdict: number, facts: QueryFacts, query: QueryView, moment: Moment): void {
    const flags = facts.isTrusted ? flagTrusted : 0;
    const latencyUs = latencyOf(facts, moment);
    this.#write(verdict, flags, facts, query, null, rcodeServFail, latencyUs, moment);
  }

  #write(
    verdict: number,
    flags: number,
    facts: QueryFacts,
    query: QueryView,
    reply: ReplyView | null,
    rcode: number,
    latencyUs: number,
    moment: Moment,
  ): boolean {
    const { events, lookup, graceSeconds } = this.#o;
    const fields = this.#fields;
    fields.verdict = verdict;
    fields.protocol = facts.protocol;
    fields.flags = flags;
    fields.timeUs = moment.boottimeNs / 1000;
    fields.endpointId = lookup.limits.endpoints.ownerId[facts.endpointSlot]!;
    fields.latencyUs = latencyUs;
    fields.clientPort = facts.clientPort;
    fields.policyId = facts.policyId;
    fields.namespaceId = facts.namespaceId;
    fields.rcode = rcode;
    fields.words = facts.words;
    fields.client = facts.client;
    fields.server = facts.server;
    fields.expiresBase = Math.floor(moment.boottimeNs / 1e9) + graceSeconds;
    return events.write(fields, query, reply);
  }
}

function latencyOf({ startedUs }: QueryFacts, moment: Moment): number {
  return Math.max(0, moment.monotonicNs / 1000 - startedUs);
}
