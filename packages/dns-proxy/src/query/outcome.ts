// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The outcomes of a query, each with the reply that the pod gets and its counter. Outcomes are small integers, so that a decision
 * allocates nothing.
 */

import {
  edeNetworkError,
  edeNone,
  edeNoReachableAuthority,
  edeNotReady,
  edeOther,
  edeProhibited,
  rcodeFormErr,
  rcodeNotImp,
  rcodeRefused,
  rcodeServFail,
} from '@tandem/core/dns/constants';
import { type CounterName, counter } from '../counters.ts';

interface Row {
  /** null: no reply. */
  readonly rcode: number | null;
  readonly ede: number;
  /** null: counted where it was found. */
  readonly counter: CounterName | null;
}

const servFail = (name: CounterName | null, ede: number = edeOther): Row => ({
  rcode: rcodeServFail,
  ede,
  counter: name,
});

type OutcomeName =
  | 'forward'
  | 'notAQuery'
  | 'unknownSource'
  | 'notReady'
  | 'overRate'
  | 'formErr'
  | 'notImp'
  | 'denied'
  | 'overEndpoint'
  | 'overPolicy'
  | 'overNode'
  | 'overServers'
  | 'noSocket'
  | 'serverDown'
  | 'unreachable'
  | 'timedOut';

const rows: Readonly<Record<OutcomeName, Row>> = {
  forward: { rcode: null, ede: edeNone, counter: 'allowed' },
  notAQuery: { rcode: null, ede: edeNone, counter: 'droppedMalformed' },
  unknownSource: { rcode: null, ede: edeNone, counter: 'unknownSource' },
  /** No policy, or no rule set for this server, at this member yet. */
  notReady: servFail(null, edeNotReady),
  overRate: servFail('refusedEndpointRate'),
  formErr: { rcode: rcodeFormErr, ede: edeNone, counter: 'formatErrors' },
  notImp: { rcode: rcodeNotImp, ede: edeNone, counter: 'formatErrors' },
  /** The RCODE is the configured one: `Denial`. */
  denied: { rcode: rcodeRefused, ede: edeProhibited, counter: 'denied' },
  overEndpoint: servFail('refusedEndpointInFlight'),
  overPolicy: servFail('refusedPolicyInFlight'),
  overNode: servFail('refusedSlots'),
  overServers: servFail('refusedUpstreamServers'),
  noSocket: servFail('refusedUpstreamSockets'),
  /** ICMP errors have just said that the server cannot be reached: the query is not sent. */
  serverDown: servFail('refusedServerDown', edeNetworkError),
  /** The server cannot be reached: an ICMP error, a refused or broken connection. */
  unreachable: servFail('upstreamErrors', edeNetworkError),
  /** The server did not answer in time; over UDP the pod gets no reply. */
  timedOut: servFail('upstreamTimeouts', edeNoReachableAuthority),
};

/** An index into the tables below. */
export type Outcome = number;

const names = Object.keys(rows) as OutcomeName[];

/** Number of each outcome; `forward` is 0. */
export const outcome: Readonly<Record<OutcomeName, Outcome>> = Object.fromEntries(
  names.map((name, index) => [name, index]),
) as Record<OutcomeName, Outcome>;

/** RCODE of the reply; -1: no reply. */
export const outcomeRcode: Int32Array = Int32Array.from(names, (name) => rows[name].rcode ?? -1);
/** Extended error of the reply, or `edeNone`. */
export const outcomeEde: Int32Array = Int32Array.from(names, (name) => rows[name].ede);
/** Index of the counter; -1: counted where it was found. */
const outcomeCounter = Int32Array.from(names, (name) => {
  const counted = rows[name].counter;
  return counted === null ? -1 : counter[counted];
});

/** Counts what became of one query. */
export function countOutcome(counters: Float64Array, which: Outcome): void {
  const index = outcomeCounter[which]!;
  if (index >= 0) counters[index]!++;
}
