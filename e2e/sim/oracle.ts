// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Knows what is right: of every query what became of it, of every pod which policy holds since when, of
 * every name which addresses an upstream server has told for whom. Finds the first thing that is wrong.
 */

import {
  edeNetworkError,
  edeNoReachableAuthority,
  rcodeNoError,
  rcodeRefused,
  rcodeServFail,
} from '@tandem/core/dns/constants';
import { tdLearnOp } from '@tandem/datapath/abi.gen';
import { upstreamTimeoutMs } from '@tandem/dns-proxy/limits';
import type { FqdnSlot, FqdnWatcher, UsedOf } from './fqdn-map.ts';
import type { TcpClient } from './tcp-client.ts';
import { optOf } from './tcp-messages.ts';
import type { TcpServerConnection } from './tcp-server.ts';
import type { Trace } from './trace.ts';
import {
  followedBy,
  isAllowed,
  names,
  pods,
  selectorFacts,
  serverWords,
  variantsOfId,
} from './universe.ts';

/** What must hold, by number; docs/adr/0006-simulation.md. */
export const invariants = {
  1: 'no entry in the fqdn map that no policy allows',
  2: 'no query in flight is lost, and none is mixed with another',
  3: 'after the heal caches and map agree, and nothing expired early',
  4: 'policy is never weaker than what is in force',
  5: 'the socket is never empty while a member lives',
  6: 'what is bounded stays in bounds and counts what it refuses',
  7: 'nothing throws',
  8: 'what is answered within its TTL, in a namespace under its share, stays',
  9: 'a worker hears of the end of the other, and of no end that was none',
} as const;
export type Invariant = keyof typeof invariants;

export interface Violation {
  readonly invariant: Invariant;
  readonly text: string;
}

/** Client port of query 0. */
export const firstPort = 1024;

export const excuses = [
  'upstream silent',
  'in hand for longer than the bound',
  'nobody else lived when its socket closed',
  'the members had not linked yet',
  'the journal was full',
  'the client closed',
  'its connection ended with its member',
  'its connection was closed between two queries',
  'its connection was closed',
  'its connection was refused',
] as const;
export type Excuse = (typeof excuses)[number];

export interface SimQuery {
  readonly number: number;
  readonly pod: number;
  readonly server: number;
  readonly name: number;
  readonly askedNs: number;
  forwards: number;
  /** Names of the lives that forwarded it. */
  readonly forwarders: Set<string>;
  /** Of its forwards, those that the server will never answer. */
  lostForwards: number;
  answers: number;
  excuse: Excuse | null;
  /** Over TCP; null over UDP. */
  readonly client: TcpClient | null;
  /** The client sent all of it. */
  isSent: boolean;
  /** Policies that may have let it pass. */
  policies: readonly number[];
  /** Where it was sent last, over TCP, and when it was sent first. */
  tcpServer: TcpServerConnection | null;
  startedNs: number;
  /** The life that answered it first. */
  answerer: string;
  /** How often it was copied to be done anew. */
  copies: number;
}

/** The server may have begun to answer before. */
const deadlineNs = (upstreamTimeoutMs - 100) * 1e6;

export interface Counts {
  asked: number;
  answered: number;
  refused: number;
  failed: number;
  again: number;
  silent: number;
  excused: number;
}

/** What the map `endpoints` says of a pod's address. */
interface PodRow {
  readonly sinceNs: number;
  readonly policyId: number;
  readonly endpointId: number;
}

export class Oracle implements FqdnWatcher {
  violation: Violation | null = null;
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
  readonly #trace: Trace;
  readonly #nowNs: () => number;
  readonly #nowSeconds: () => number;
  /** Of each pod: policy ids that it had, and since when. */
  readonly #policies: PodRow[][] = pods.map(() => []);
  /** "name server policy": told by an upstream server to somebody. */
  readonly #told = new Set<number>();
  /** Compilation by revision. */
  readonly #published = new Map<number, number>();
  /** Seconds that an expired address is kept. */
  readonly #idleSeconds: number;
  /** By "address selector": namespaces that were answered it and want it, and until when. */
  readonly #guaranteed = new Map<string, Map<number, number>>();

  constructor(options: {
    readonly trace: Trace;
    readonly nowNs: () => number;
    readonly nowSeconds: () => number;
    readonly idleSeconds: number;
  }) {
    this.#trace = options.trace;
    this.#nowNs = options.nowNs;
    this.#nowSeconds = options.nowSeconds;
    this.#idleSeconds = options.idleSeconds;
  }

  fail(invariant: Invariant, text: string): void {
    if (this.violation !== null) return;
    this.violation = { invariant, text };
    this.#trace.note(`VIOLATION of ${invariant}: ${text}`);
  }

  /** An agent tells members of a policy under this number: every life of the agent uses a number for one policy alone. */
  onPublish(revision: number, policy: number): void {
    const former = this.#published.get(revision) ?? policy;
    this.#published.set(revision, policy);
    if (former !== policy) this.fail(4, `revision ${revision} is the number of two policies`);
  }

  /** The map `endpoints` says so from now on. */
  setPolicy(pod: number, policyId: number, endpointId: number): void {
    this.#policies[pod]?.push({ sinceNs: this.#nowNs(), policyId, endpointId });
  }

  /** Rows that were in force at some time since then. */
  #rowsSince(pod: number, sinceNs: number): PodRow[] {
    const rows = this.#policies[pod] ?? [];
    let first = rows.length - 1;
    while (first > 0 && (rows[first] as PodRow).sinceNs > sinceNs) first -= 1;
    return rows.slice(Math.max(0, first));
  }

  policiesSince(pod: number, sinceNs: number): number[] {
    return this.#rowsSince(pod, sinceNs).map(({ policyId }) => policyId);
  }

  endpointsSince(pod: number, sinceNs: number): number[] {
    return this.#rowsSince(pod, sinceNs).map(({ endpointId }) => endpointId);
  }

  policyIdOf(pod: number): number {
    return this.#policies[pod]?.at(-1)?.policyId ?? 0;
  }

  /** Whether some policy that the pod had since then says `isAllowed`. */
  #sometime(pod: number, server: number, name: number, sinceNs: number, wanted: boolean): boolean {
    const rows = this.#policies[pod] ?? [];
    for (let i = rows.length - 1; i >= 0; i--) {
      const row = rows[i] as (typeof rows)[number];
      const variant = variantsOfId.get(row.policyId)?.[0] ?? 0;
      if (isAllowed(variant, pod, server, name) === wanted) return true;
      if (row.sinceNs <= sinceNs) return false;
    }
    return false;
  }

  #hadPolicy(pod: number, policyId: number, sinceNs: number): boolean {
    const rows = this.#policies[pod] ?? [];
    for (let i = rows.length - 1; i >= 0; i--) {
      const row = rows[i] as (typeof rows)[number];
      if (row.policyId === policyId) return true;
      if (row.sinceNs <= sinceNs) return false;
    }
    return false;
  }

  ask(pod: number, server: number, name: number, client: TcpClient | null = null): SimQuery {
    const query: SimQuery = {
      number: this.queries.length,
      pod,
      server,
      name,
      askedNs: this.#nowNs(),
      forwards: 0,
      forwarders: new Set(),
      lostForwards: 0,
      answers: 0,
      excuse: null,
      client,
      isSent: client === null,
      policies: [],
      tcpServer: null,
      startedNs: 0,
      answerer: '',
      copies: 0,
    };
    this.queries.push(query);
    this.counts.asked += 1;
    return query;
  }

  /** Every query has its own port, and an id that can be told from it. */
  portOf(query: SimQuery): number {
    return firstPort + query.number;
  }

  idOf(query: SimQuery): number {
    return (query.number * 40_503 + 12_345) & 0xffff;
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
    if (server !== query.server) this.fail(2, `query ${query.number} goes to server ${server}`);
    if (!hasQuestion(memory, at, query))
      this.fail(2, `query ${query.number} is forwarded with another's question`);
    if (!this.#hadPolicy(query.pod, policyId, judgedNs)) {
      this.fail(4, `pod ${pods[query.pod]?.name} is judged by a policy that it has not`);
    }
    if (!this.#sometime(query.pod, server, query.name, judgedNs, true)) {
      this.fail(
        4,
        `${names[query.name]?.text} is forwarded for pod ${pods[query.pod]?.name}, policy denies it`,
      );
    }
  }

  /** The server answers the query that this member forwarded for a pod of this policy. */
  onTold(query: SimQuery, policyId: number): void {
    this.#told.add(query.name * 16 + query.server);
    this.#told.add((query.name * 16 + query.server) * 4_294_967_296 + policyId);
  }

  /** The query that a message of a pod or of a member carries. */
  queryOfMessage(message: Uint8Array): SimQuery | undefined {
    for (let name = 0; name < names.length; name++) {
      if (!isAbout(message, 0, name)) continue;
      return this.queries[optOf(message, name).number];
    }
    return undefined;
  }

  /** A member that decided on it at `judgedNs`, or later, sends the query to its server over TCP. */
  onTcpForward(query: SimQuery, server: number, message: Uint8Array, judgedNs: number): void {
    const { pod, name, client } = query;
    query.forwards += 1;
    if (query.forwards === 1) query.startedNs = this.#nowNs();
    if (server !== query.server) this.fail(2, `query ${query.number} goes to server ${server}`);
    if (!hasQuestion(message, 0, query))
      this.fail(2, `query ${query.number} is forwarded with another's question`);
    if (client === null || !client.isOfPod(judgedNs))
      this.fail(4, `query ${query.number} is forwarded for a pod that its connection is not of`);
    query.policies = this.policiesSince(pod, judgedNs).filter((id) =>
      (variantsOfId.get(id) ?? []).some((variant) => isAllowed(variant, pod, server, name)),
    );
    if (query.policies.length === 0) {
      this.fail(
        4,
        `${names[name]?.text} is forwarded over TCP for pod ${pods[pod]?.name}, policy denies it`,
      );
    }
  }

  /** A member gives the kernel a reply for the query's connection. */
  onTcpReply(query: SimQuery, message: Uint8Array, judgedNs: number, stalledNs: number): void {
    const rcode = message[3]! & 15;
    if (!hasQuestion(message, 0, query))
      this.fail(2, `query ${query.number} gets the answer to another question`);
    const { number, server, ede } = optOf(message, query.name);
    if (rcode === rcodeNoError && (number !== query.number || server !== query.server))
      this.fail(2, `query ${query.number} gets server ${server}'s answer to query ${number}`);
    this.#judgeRcode(query, rcode, Math.min(query.askedNs, judgedNs));
    // Who was stopped meanwhile gives up what it might have had.
    if (rcode !== rcodeServFail || query.startedNs <= stalledNs) return;
    if (ede === edeNetworkError && query.tcpServer?.isBroken === false)
      this.fail(2, `query ${query.number} fails though its server is well`);
    const isLate = this.#nowNs() - query.startedNs >= deadlineNs;
    if (ede === edeNoReachableAuthority && !isLate)
      this.fail(2, `query ${query.number} is given up before its time`);
    if (ede === edeNoReachableAuthority && query.lostForwards === 0)
      this.fail(2, `query ${query.number} is given up, and its server was not silent`);
  }

  /** The pod has a reply over TCP. */
  onTcpAnswer(query: SimQuery): void {
    query.answers += 1;
    if (query.answers > 1) this.fail(2, `a pod gets two answers to query ${query.number}`);
    else this.counts.answered += 1;
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
    if (id !== this.idOf(query))
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
      if (!this.#sometime(pod, server, name, sinceNs, false)) {
        this.fail(4, `${names[name]?.text} is refused to pod ${pods[pod]?.name}, policy allows it`);
      }
    } else if (rcode === rcodeServFail) {
      this.counts.failed += 1;
    } else if (rcode === rcodeNoError) {
      if (!this.#sometime(pod, server, name, sinceNs, true)) {
        this.fail(
          4,
          `${names[name]?.text} is answered to pod ${pods[pod]?.name}, policy denies it`,
        );
      }
    } else {
      this.fail(2, `query ${query.number} is answered with rcode ${rcode}`);
    }
  }

  onAdd(address: number, selector: number, expires: number, _namespaceId: number): void {
    const facts = selectorFacts.get(selector);
    if (facts === undefined) {
      this.fail(1, `selector ${selector} is of no policy`);
      return;
    }
    for (const name of facts.names) {
      if (!(names[name]?.hosts.includes(address) === true)) continue;
      // Everybody's selectors learn from the cluster's resolver, those of one policy from what it was told.
      if (facts.policyId === 0 ? this.#told.has(name * 16) : this.#toldTo(name, facts.policyId)) {
        if (expires <= this.#nowSeconds() + 700_000) return;
      }
    }
    this.fail(1, `address ${address} gets selector ${selector}, nobody was told so`);
  }

  /** To pods of the policy, or of one whose place it takes. */
  #toldTo(name: number, policyId: number): boolean {
    const policies = [policyId, ...(followedBy.get(policyId) ?? [])];
    return serverWords.some((_, server) =>
      policies.some((each) => this.#told.has((name * 16 + server) * 4_294_967_296 + each)),
    );
  }

  /** A pod of the namespace was answered the address, its policies name the selector. */
  guarantees(namespaceId: number, address: number, selector: number, until: number): void {
    const key = `${address} ${selector}`;
    const namespaces = this.#guaranteed.get(key) ?? new Map<number, number>();
    this.#guaranteed.set(key, namespaces);
    namespaces.set(namespaceId, Math.max(until, namespaces.get(namespaceId) ?? 0));
  }

  onRemove(address: number, slot: FqdnSlot, op: number, isLast: boolean, usedOf: UsedOf): void {
    const namespaces = this.#guaranteed.get(`${address} ${slot.selector}`) ?? new Map();
    for (const [namespaceId, until] of isLast ? namespaces : []) {
      const { used, share } = usedOf(namespaceId);
      if (until <= this.#nowSeconds()) continue;
      if (used >= share) {
        // With all of its share it makes room for itself: what it learns again is another pair.
        namespaces.delete(namespaceId);
        continue;
      }
      this.fail(
        8,
        `address ${address} goes ${until - this.#nowSeconds()} s before its TTL is over, and namespace ${namespaceId} has ${used} of the ${share} of its share`,
      );
    }
    if (op === tdLearnOp.EXPIRE) {
      if (slot.expires + this.#idleSeconds <= this.#nowSeconds()) return;
      this.fail(
        3,
        `address ${address} is emptied ${slot.expires - this.#nowSeconds()} s before its time`,
      );
    } else if (op === tdLearnOp.REMOVE && slot.expires > this.#nowSeconds()) {
      this.fail(3, `address ${address} is removed before its time`);
    }
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

/** The question's name of the message at `at` is the query's. */
function hasQuestion(memory: Uint8Array, at: number, query: SimQuery): boolean {
  return isAbout(memory, at, query.name);
}

function isAbout(memory: Uint8Array, at: number, name: number): boolean {
  const wire = names[name]?.wire as Uint8Array;
  for (let i = 0; i < wire.length; i++) if (memory[at + 12 + i] !== wire[i]) return false;
  return true;
}
