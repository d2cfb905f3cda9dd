// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Knows what is right: of every query what became of it, and by its parts which policy a pod has, which addresses may
 * be learned, and what TCP owes. Finds the first thing that is wrong.
 */

import { rcodeNoError, rcodeRefused, rcodeServFail } from '@tandem/core/dns/constants';
import { LearnedOracle } from './learned-oracle.ts';
import { PodPolicies } from './pod-policies.ts';
import {
  clientIdOf,
  type Excuse,
  firstPort,
  hasQuestion,
  isAbout,
  type QueryClient,
  type SimQuery,
} from './sim-query.ts';
import { optOf } from './tcp-messages.ts';
import { TcpOracle } from './tcp-oracle.ts';
import type { Trace } from './trace.ts';
import { names, pods, serverWords } from './universe.ts';
import { type Invariant, Verdict, type Violation } from './violation.ts';

export interface Counts {
  asked: number;
  answered: number;
  refused: number;
  failed: number;
  again: number;
  silent: number;
  excused: number;
}

export class Oracle {
  readonly queries: SimQuery[] = [];
  readonly counts: Counts = {
    asked: 0,
    answered: 0,
    refused: 0,
    failed: 0,
    again: 0,
    silent: 0,
    excused: 0,
  };
  readonly excused: Map<Excuse, number> = new Map();
  readonly pods: PodPolicies;
  readonly learned: LearnedOracle;
  readonly tcp: TcpOracle;
  readonly #verdict: Verdict;
  readonly #trace: Trace;
  readonly #nowNs: () => number;
  /** Compilation by revision. */
  readonly #published = new Map<number, number>();

  constructor(options: {
    readonly trace: Trace;
    readonly nowNs: () => number;
    readonly nowSeconds: () => number;
    readonly idleSeconds: number;
  }) {
    const { trace, nowNs, nowSeconds, idleSeconds } = options;
    this.#trace = trace;
    this.#nowNs = nowNs;
    this.#verdict = new Verdict(trace);
    const { fail } = this.#verdict;
    this.pods = new PodPolicies(nowNs);
    this.learned = new LearnedOracle(fail, nowSeconds, idleSeconds);
    const judgeRcode = this.#judgeRcode.bind(this);
    this.tcp = new TcpOracle({ fail, pods: this.pods, counts: this.counts, nowNs, judgeRcode });
  }

  get violation(): Violation | null {
    return this.#verdict.violation;
  }

  fail(invariant: Invariant, text: string): void {
    this.#verdict.fail(invariant, text);
  }

  /** An agent tells members of a policy under this number: every life of the agent uses a number for one policy alone. */
  onPublish(revision: number, policy: number): void {
    const former = this.#published.get(revision) ?? policy;
    this.#published.set(revision, policy);
    if (former !== policy) this.fail(4, `revision ${revision} is the number of two policies`);
  }

  /** The query that a message of a pod or of a member carries. */
  queryOfMessage(message: Uint8Array): SimQuery | undefined {
    for (let name = 0; name < names.length; name++) {
      if (!isAbout(message, 0, name)) continue;
      return this.queries[optOf(message, name).number];
    }
    return undefined;
  }

  ask(pod: number, server: number, name: number, client: QueryClient | null = null): SimQuery {
    const query: SimQuery = {
      number: this.queries.length,
      pod,
      server,
      name,
      askedNs: this.#nowNs(),
      forwards: 0,
      sockets: [],
      forwarders: new Set(),
      lostForwards: 0,
      answers: 0,
      excuse: null,
      client,
      isSent: client === null,
      policies: [],
      endpoints: [],
      tcpServer: null,
      startedNs: 0,
      answerer: '',
      copies: 0,
    };
    this.queries.push(query);
    this.counts.asked += 1;
    return query;
  }

  queryOfPort(port: number): SimQuery | undefined {
    return this.queries[port - firstPort];
  }

  excuse(query: SimQuery | undefined, excuse: Excuse): void {
    if (query === undefined || query.answers > 0) return;
    query.excuse = excuse;
    this.#trace.note(`excused: ${excuse}`, query.number);
  }

  /** A member that judged it at `judgedNs` sends the query to its server. */
  onForward(
    query: SimQuery | undefined,
    server: number,
    memory: Uint8Array,
    at: number,
    judgedNs: number,
    policyId: number,
  ): void {
    if (query === undefined) {
      this.fail(2, 'a query of nobody is forwarded');
      return;
    }
    query.forwards += 1;
    if (query.forwards === 1)
      query.endpoints.push(...this.pods.endpointsSince(query.pod, judgedNs));
    if (server !== query.server) this.fail(2, `query ${query.number} goes to server ${server}`);
    if (!hasQuestion(memory, at, query))
      this.fail(2, `query ${query.number} is forwarded with another's question`);
    if (!this.pods.hadPolicy(query.pod, policyId, judgedNs)) {
      this.fail(4, `pod ${pods[query.pod]?.name} is judged by a policy that it has not`);
    }
    if (!this.pods.sometime(query.pod, server, query.name, judgedNs, true)) {
      this.fail(
        4,
        `${names[query.name]?.text} is forwarded for pod ${pods[query.pod]?.name}, policy denies it`,
      );
    }
  }

  onReply(
    port: number,
    client: Uint32Array,
    server: Uint32Array,
    memory: Uint8Array,
    at: number,
    judgedNs: number,
    life: string,
  ): SimQuery | undefined {
    const query = this.queryOfPort(port);
    if (query === undefined || client[3] !== pods[query.pod]?.words[3]) {
      this.fail(2, `a reply goes to port ${port} of no pod that asked`);
      return undefined;
    }
    const id = (memory[at]! << 8) | memory[at + 1]!;
    if (id !== clientIdOf(query))
      this.fail(2, `the reply to query ${query.number} has the id of another`);
    if (server[3] !== serverWords[query.server]?.[3])
      this.fail(2, `query ${query.number} is answered by another server`);
    if (!hasQuestion(memory, at, query))
      this.fail(2, `query ${query.number} gets the answer to another question`);
    this.#judgeRcode(query, memory[at + 3]! & 15, Math.min(query.askedNs, judgedNs));
    query.answers += 1;
    if (query.answers === 1) {
      this.counts.answered += 1;
      query.answerer = life;
    } else {
      this.counts.again += 1;
      // A query that was taken over may also be answered by the member that had it before.
      if (query.answerer === life && query.copies === 0)
        this.fail(2, `query ${query.number} is answered twice by ${life}`);
    }
    return query;
  }

  #judgeRcode(query: SimQuery, rcode: number, sinceNs: number): void {
    const { pod, server, name } = query;
    if (rcode === rcodeRefused) {
      this.counts.refused += 1;
      if (!this.pods.sometime(pod, server, name, sinceNs, false)) {
        this.fail(4, `${names[name]?.text} is refused to pod ${pods[pod]?.name}, policy allows it`);
      }
    } else if (rcode === rcodeServFail) {
      this.counts.failed += 1;
    } else if (rcode === rcodeNoError) {
      if (!this.pods.sometime(pod, server, name, sinceNs, true)) {
        this.fail(
          4,
          `${names[name]?.text} is answered to pod ${pods[pod]?.name}, policy denies it`,
        );
      }
    } else {
      this.fail(2, `query ${query.number} is answered with rcode ${rcode}`);
    }
  }

  /** Whether the address of its pod was that of more than one endpoint since it was asked. */
  hasOtherPod({ pod, askedNs }: SimQuery): boolean {
    return new Set(this.pods.endpointsSince(pod, askedNs)).size > 1;
  }

  /** When all is healed and quiet: what was taken in was answered, or is excused. */
  settle(): void {
    for (const query of this.queries) {
      if (query.answers > 0) continue;
      if (!query.isSent) {
        this.counts.asked -= 1;
        continue;
      }
      if (query.excuse === null && query.lostForwards > 0) query.excuse = 'upstream silent';
      if (query.excuse === null) {
        this.fail(
          2,
          `query ${query.number} is lost: asked at ${(query.askedNs / 1e6).toFixed(3)} ms, forwarded ${query.forwards} times`,
        );
      } else {
        this.counts.excused += 1;
        this.excused.set(query.excuse, (this.excused.get(query.excuse) ?? 0) + 1);
      }
    }
  }
}
