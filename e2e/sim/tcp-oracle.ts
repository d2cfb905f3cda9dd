// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Rules for queries over TCP: who may forward which for whom, and which replies their connections may get. */

import {
  edeNetworkError,
  edeNoReachableAuthority,
  rcodeNoError,
  rcodeServFail,
} from '@tandem/core/dns/constants';
import { upstreamTimeoutMs } from '@tandem/dns-proxy/limits';
import type { PodPolicies } from './pod-policies.ts';
import { hasQuestion, type SimQuery } from './sim-query.ts';
import { optOf } from './tcp-messages.ts';
import { isAllowed, names, pods } from './universe.ts';
import { variantsOfId } from './universe-policies.ts';
import type { Verdict } from './violation.ts';

/** The server may have begun to answer before. */
const deadlineNs = (upstreamTimeoutMs - 100) * 1e6;

export interface TcpOracleOptions {
  readonly fail: Verdict['fail'];
  readonly pods: PodPolicies;
  readonly counts: { answered: number };
  readonly nowNs: () => number;
  /** Whether policy since then allows a reply with this rcode. */
  readonly judgeRcode: (query: SimQuery, rcode: number, sinceNs: number) => void;
}

export class TcpOracle {
  readonly #o: TcpOracleOptions;

  constructor(options: TcpOracleOptions) {
    this.#o = options;
  }

  /** A member that decided on it at `judgedNs`, or later, sends the query to its server over TCP. */
  onForward(query: SimQuery, server: number, message: Uint8Array, judgedNs: number): void {
    const { fail } = this.#o;
    const { pod, name, client } = query;
    query.forwards += 1;
    if (query.forwards === 1) query.startedNs = this.#o.nowNs();
    if (server !== query.server) fail(2, `query ${query.number} goes to server ${server}`);
    if (!hasQuestion(message, 0, query))
      fail(2, `query ${query.number} is forwarded with another's question`);
    if (client === null || !client.isOfPod(judgedNs))
      fail(4, `query ${query.number} is forwarded for a pod that its connection is not of`);
    query.policies = this.#o.pods
      .policiesSince(pod, judgedNs)
      .filter((id) =>
        (variantsOfId.get(id) ?? []).some((variant) => isAllowed(variant, pod, server, name)),
      );
    if (query.policies.length === 0) {
      fail(
        4,
        `${names[name]?.text} is forwarded over TCP for pod ${pods[pod]?.name}, policy denies it`,
      );
    }
  }

  /** A member gives the kernel a reply for the query's connection. */
  onReply(query: SimQuery, message: Uint8Array, judgedNs: number, stalledNs: number): void {
    const { fail } = this.#o;
    const rcode = message[3]! & 15;
    if (!hasQuestion(message, 0, query))
      fail(2, `query ${query.number} gets the answer to another question`);
    const { number, server, ede } = optOf(message, query.name);
    if (rcode === rcodeNoError && (number !== query.number || server !== query.server))
      fail(2, `query ${query.number} gets server ${server}'s answer to query ${number}`);
    this.#o.judgeRcode(query, rcode, Math.min(query.askedNs, judgedNs));
    // Who was stopped meanwhile gives up what it might have had.
    if (rcode !== rcodeServFail || query.startedNs <= stalledNs) return;
    if (ede === edeNetworkError && query.tcpServer?.isBroken === false)
      fail(2, `query ${query.number} fails though its server is well`);
    const isLate = this.#o.nowNs() - query.startedNs >= deadlineNs;
    if (ede === edeNoReachableAuthority && !isLate)
      fail(2, `query ${query.number} is given up before its time`);
    if (ede === edeNoReachableAuthority && query.lostForwards === 0)
      fail(2, `query ${query.number} is given up, and its server was not silent`);
  }

  /** The pod has a reply over TCP. */
  onAnswer(query: SimQuery): void {
    const { fail } = this.#o;
    query.answers += 1;
    if (query.answers > 1) fail(2, `a pod gets two answers to query ${query.number}`);
    else this.#o.counts.answered += 1;
  }
}
