// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Accepts replies, for every transport: parses a reply that belongs to a query in flight, learns from it and reports it.
 * The transport sends it after `flush`, when the addresses are in the datapath.
 */

import type { QueryView } from '@tandem/core/dns/query';
import {
  parseReply,
  type ReplyView,
  replyNegative,
  replyOk,
  replyTruncated,
} from '@tandem/core/dns/reply';
import type { Learner } from '../answer/learner.ts';
import { counter } from '../counters.ts';
import type { QueryFacts } from './facts.ts';
import type { Moment } from './moment.ts';
import type { PolicyLookup } from './policy-lookup.ts';
import type { QueryReport } from './report.ts';

export interface AnswersOptions {
  readonly lookup: PolicyLookup;
  readonly learner: Learner;
  readonly report: QueryReport;
  readonly counters: Float64Array;
}

export class Answers {
  readonly #o: AnswersOptions;

  constructor(options: AnswersOptions) {
    this.#o = options;
  }

  /** Before the first of a batch. */
  begin(): void {
    this.#o.learner.begin();
  }

  /**
   * Takes in the reply in [start, start + length) of `bytes` to the query that `query` holds, and leaves it
   * parsed in `reply`. `mayLearn`: false for a reply that is delivered and teaches nothing, because it was
   * cut, or because its question is not the query's, octet by octet.
   */
  accept(
    bytes: Uint8Array,
    start: number,
    length: number,
    mayLearn: boolean,
    facts: QueryFacts,
    query: QueryView,
    reply: ReplyView,
    moment: Moment,
  ): void {
    const { counters, learner, report } = this.#o;
    const status = parseReply(reply, bytes, start, start + length, query);
    let changed = 0;
    if (status === replyOk) {
      if (mayLearn && reply.addressCount > 0) changed = this.#learn(facts, query, reply, moment);
    } else if (mayLearn && status !== replyNegative && status !== replyTruncated) {
      counters[counter.repliesMalformed]!++;
    }
    if (reply.skipped > 0) counters[counter.addressesSkipped]! += reply.skipped;
    if (reply.aliasesSkipped > 0) counters[counter.aliasesOverLimit]!++;
    if (reply.mapped > 0) counters[counter.learnRefusedAddress]! += reply.mapped;
    counters[counter.replies]!++;
    const isReported = report.answered(facts, query, reply, changed, moment);
    if (!isReported && changed > 0) learner.forgetNames();
  }

  /** After the last of a batch: writes learned addresses into the datapath. */
  flush(): void {
    this.#o.learner.flush();
  }

  #learn(facts: QueryFacts, query: QueryView, reply: ReplyView, moment: Moment): number {
    const { lookup, learner } = this.#o;
    const { tables } = lookup;
    if (tables === null) return 0;
    const { matcher } = tables;
    let { acceptSet } = facts;
    // The set found when the query came in is of no use if the tables are newer, or it was a passing one.
    if (facts.installs !== lookup.installs || !matcher.isStable(acceptSet)) {
      acceptSet = matcher.match(query);
    }
    return learner.collect(
      query.hash,
      reply,
      reply.addressWords,
      tables,
      acceptSet,
      facts.isTrusted,
      facts.policyId,
      facts.namespaceId,
      Math.floor(moment.boottimeNs / 1e9),
    );
  }
}
