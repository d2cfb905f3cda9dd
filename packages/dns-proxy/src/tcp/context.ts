// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import type { QueryView } from '@tandem/core/dns/query';
import type { ReplyView } from '@tandem/core/dns/reply';
import type { Answers } from '../query/answers.ts';
import type { Denial } from '../query/denial.ts';
import type { Moment } from '../query/moment.ts';
import type { PolicyLookup } from '../query/policy-lookup.ts';
import type { RandomSource } from '../query/random.ts';
import type { QueryReport } from '../query/report.ts';
import type { TcpOctets } from './octets.ts';
import type { TcpSystem } from './stream.ts';
import type { TcpTurns } from './turns.ts';

/** What all TCP connections of a member share. */
export interface TcpContext {
  readonly lookup: PolicyLookup;
  readonly answers: Answers;
  readonly report: QueryReport;
  readonly counters: Float64Array;
  /** Large and without memory of what they parsed last. */
  readonly query: QueryView;
  readonly reply: ReplyView;
  readonly denial: Denial;
  readonly random: RandomSource;
  readonly system: TcpSystem;
  readonly turns: TcpTurns;
  readonly octets: TcpOctets;
  /** The time of the turn at work. */
  readonly moment: Moment;
}
