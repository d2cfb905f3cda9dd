// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { QueryView } from '@tandem/core/dns/query';
import type { ReplyView } from '@tandem/core/dns/reply';
import type { Answers } from './answers.ts';
import type { Denial } from './denial.ts';
import type { PolicyLookup } from './policy-lookup.ts';
import type { QueryReport } from './report.ts';

/** The part that the transports share: one member's decisions, acceptance of answers and report of events. */
export interface QueryPath {
  readonly lookup: PolicyLookup;
  readonly answers: Answers;
  readonly report: QueryReport;
  readonly denial: Denial;
  readonly counters: Float64Array;
  /** Large, one of each for a thread: they hold the message that was parsed last. */
  readonly query: QueryView;
  readonly reply: ReplyView;
}
