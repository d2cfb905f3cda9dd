// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod's TCP connection: queries, framed and cut at random, then its own end, polite or not. Knows what it may
 * get: of each query at most one answer, and of a connection that ends the cause.
 */

import { clientIdOf, type Excuse, type SimQuery } from './sim-query.ts';
import { framedQuery, idOf } from './tcp-messages.ts';
import type { QueuedConnection, StreamWatcher } from './tcp-system.ts';
import { connectEnds, Frames, type TcpEnd } from './tcp-wire.ts';
import { names, pods, serverWords } from './universe.ts';
import type { SimWorker } from './worker.ts';
import type { World } from './world.ts';

const ms = 1e6;
/** A member may close a connection on which nothing happens after 10 s, and one that asks nothing after 1 s. */
const idleNs = 9500 * ms;
const unusedNs = 900 * ms;
/** A message that takes longer may cost its connection. */
const slowMessageNs = 1900 * ms;
const firstClientPort = 30_000;

interface Action {
  readonly atNs: number;
  readonly kind: 'send' | 'end' | 'close' | 'reset' | 'read';
  readonly bytes: Uint8Array | null;
}

/** A query on its connection. */
interface Asked {
  readonly query: SimQuery;
  /** Octets of the stream with which it is whole. */
  readonly endsAt: number;
  isReplied: boolean;
}

export class TcpClient {
  readonly number: number;
  readonly pod: number;
  readonly server: number;
  readonly asked: Asked[] = [];
  isOver = false;
  isAccepted = false;
  readonly openedNs: number;
  readonly queued: QueuedConnection;
  /** The life that accepted it. */
  worker: SimWorker | null = null;
  readonly #world: World;
  readonly #end: TcpEnd;
  readonly #plan: Action[] = [];
  readonly #frames = new Frames();
  /** Why the other side ended it. */
  #cause: Excuse | null = null;
  #sent = 0;
  #delivered = 0;
  #hasHalfClosed = false;
  #isSlow = false;
  #closesWhenAnswered: boolean;
  /** When octets last came or went, at the member. */
  #activeNs: number;
  /** Endpoints that the pod's address may have been when it was accepted. */
  #endpoints: readonly number[] = [];

  constructor(world: World, number: number, pod: number, server: number) {
    this.#world = world;
    this.number = number;
    this.pod = pod;
    this.server = server;
    this.openedNs = world.nowNs;
    this.#activeNs = world.nowNs;
    this.#closesWhenAnswered = world.random.chance(0.7);
    const [mine, theirs] = connectEnds();
    this.#end = mine;
    const addresses = new Uint32Array(8);
    addresses.set((pods[pod] as (typeof pods)[number]).words);
    addresses.set(serverWords[server] as Uint32Array, 4);
    this.queued = {
      addresses,
      clientPort: firstClientPort + number,
      end: theirs,
      watcher: this.#watcher(),
      onAccepted: () => undefined,
      onOpened: () => undefined,
      onRefused: () => this.#onRefused(),
    };
    this.#makePlan();
  }

  /** Nothing more will come of it. */
  get isAtRest(): boolean {
    if (this.isOver) return true;
    return this.#plan.length === 0 && this.#end.inbox.length === 0;
  }

  /** Queries that were sent and not answered. */
  unanswered(): SimQuery[] {
    return this.asked
      .filter(({ query }) => query.isSent && query.answers === 0)
      .map((a) => a.query);
  }

  /** A process takes it from the accept queue. */
  accept(worker: SimWorker): QueuedConnection {
    const { oracle, trace } = this.#world;
    this.isAccepted = true;
    this.worker = worker;
    this.#activeNs = this.#world.nowNs;
    this.#endpoints = oracle.pods.endpointsSince(this.pod, this.#world.nowNs);
    trace.note('accepts', this.number, 0, 0, worker.life.name);
    return this.queued;
  }

  /** No socket is left to accept it. */
  lose(excuse: Excuse): void {
    this.#cause = excuse;
    this.#finish('is lost in the accept queue');
  }

  turn(): void {
    const { nowNs } = this.#world;
    while (!this.isOver && (this.#plan[0]?.atNs ?? Infinity) <= nowNs)
      this.#act(this.#plan.shift() as Action);
    for (let segment = this.#due(); segment !== undefined; segment = this.#due()) {
      this.#end.inbox.shift();
      if (segment.kind === 'data') this.#onData(segment.bytes);
      else this.#finish(segment.kind === 'end' ? 'sees the end' : 'is reset');
    }
    if (this.#closesWhenAnswered && this.#plan.length === 0 && this.#isAnswered()) this.leave();
  }

  /** The pod closes it now. */
  leave(): void {
    if (this.isOver) return;
    const isPolite = this.#isAnswered();
    if (isPolite) this.#end.close(this.#world.nowNs);
    else this.#end.reset(this.#world.nowNs);
    this.#finish('closes');
  }

  /** The endpoint that the pod's address is now is the one that the connection was accepted for. */
  isOfPod(sinceNs: number): boolean {
    const since = this.#world.oracle.pods.endpointsSince(this.pod, sinceNs);
    return since.some((endpoint) => this.#endpoints.includes(endpoint));
  }

  get #member(): string {
    return this.worker?.life.name ?? '';
  }

  #due(): TcpEnd['inbox'][number] | undefined {
    return this.isOver ? undefined : this.#end.due(this.#world.nowNs);
  }

  #isAnswered(): boolean {
    return this.asked.every(({ query }) => query.answers > 0);
  }

  #makePlan(): void {
    const { random, oracle, nowNs } = this.#world;
    const isStream = random.chance(0.03);
    const count = isStream ? 6 : 1 + random.int(random.chance(0.2) ? 6 : 3);
    const framed: Uint8Array[] = [];
    let endsAt = 0;
    for (let i = 0; i < count; i++) {
      const query = oracle.ask(this.pod, this.server, random.int(names.length), this);
      const bytes = framedQuery(query.name, clientIdOf(query), query.number);
      endsAt += bytes.length;
      framed.push(bytes);
      this.asked.push({ query, endsAt, isReplied: false });
    }
    const all = Buffer.concat(framed);
    let atNs = nowNs + random.int(random.chance(0.9) ? 3 : 1500) * ms;
    // A stream's pieces end each with the beginning of the next query.
    const cuts = isStream
      ? this.asked.map((each) => each.endsAt + 1 + random.int(20))
      : Array.from({ length: random.int(4) }, () => random.int(all.length));
    // Between two queries a pod may take its time.
    const restsAt = random.chance(0.15) ? (this.asked[random.int(count)]?.endsAt ?? 0) : -1;
    cuts.push(restsAt, all.length);
    cuts.sort((a, b) => a - b);
    let from = 0;
    for (const cut of cuts) {
      if (cut <= from || cut > all.length) continue;
      this.#plan.push({ atNs, kind: 'send', bytes: all.subarray(from, cut) });
      if (cut === restsAt) atNs += random.int(2000) * ms;
      else if (isStream) atNs += 450 * ms;
      else atNs += random.int(random.chance(0.9) ? 20 : random.chance(0.7) ? 300 : 2500) * ms;
      from = cut;
    }
    this.#isSlow = this.#hasSlowMessage();
    if (random.chance(0.08)) {
      this.#end.window = random.int(300);
      const readNs = atNs + random.int(2000) * ms;
      this.#plan.push({ atNs: readNs, kind: 'read', bytes: null });
    }
    const manner = random.next();
    if (manner < 0.15) this.#planEnd('end', atNs);
    else if (manner < 0.2) this.#planEnd('close', atNs + random.int(60) * ms);
    else if (manner < 0.25) this.#planEnd('reset', atNs + random.int(60) * ms);
    this.#plan.sort((a, b) => a.atNs - b.atNs);
  }

  /** Whether a message takes so long that it may cost the connection. */
  #hasSlowMessage(): boolean {
    let sent = 0;
    const sentAt = this.#plan.map(({ atNs, bytes }) => {
      sent += bytes?.length ?? 0;
      return { sent, atNs };
    });
    const timeOf = (octet: number): number => sentAt.find((each) => each.sent > octet)?.atNs ?? 0;
    return this.asked.some(({ endsAt }, i) => {
      const begins = this.asked[i - 1]?.endsAt ?? 0;
      return timeOf(endsAt - 1) - timeOf(begins) >= slowMessageNs;
    });
  }

  #planEnd(kind: 'end' | 'close' | 'reset', atNs: number): void {
    this.#plan.push({ atNs, kind, bytes: null });
  }

  #act({ atNs, kind, bytes }: Action): void {
    const { nowNs, random, trace } = this.#world;
    if (kind === 'send' && bytes !== null) {
      // Time may have passed in one leap since it was due: a process was stopped. The octets came meanwhile.
      this.#end.send('data', Math.min(atNs, nowNs) + random.int(2) * ms, bytes);
      this.#sent += bytes.length;
      trace.note('a pod sends octets', bytes.length, this.number);
      for (const { query, endsAt } of this.asked) if (endsAt <= this.#sent) query.isSent = true;
      return;
    }
    trace.note(`a pod's connection: ${kind}`, this.number);
    if (kind === 'read') {
      this.#end.window = Infinity;
    } else if (kind === 'end') {
      this.#hasHalfClosed = true;
      this.#end.end(nowNs);
    } else {
      if (kind === 'close') this.#end.close(nowNs);
      else this.#end.reset(nowNs);
      this.#finish('closes');
    }
  }

  #onData(bytes: Uint8Array): void {
    const { oracle } = this.#world;
    for (const message of this.#frames.push(bytes)) {
      const asked = this.#askedWith(idOf(message));
      if (asked === undefined)
        oracle.fail(2, `connection ${this.number} gets a reply with an id that it did not use`);
      else oracle.tcp.onAnswer(asked.query);
    }
  }

  #askedWith(id: number): Asked | undefined {
    return this.asked.find(({ query }) => clientIdOf(query) === id);
  }

  #finish(how: string): void {
    if (this.isOver) return;
    this.isOver = true;
    const { oracle, trace } = this.#world;
    trace.note(`a pod's connection ${how}`, this.number);
    this.#end.isClosed = true;
    for (const query of this.unanswered()) oracle.excuse(query, this.#cause ?? 'the client closed');
  }

  #watcher(): StreamWatcher {
    return {
      onWrite: (bytes) => this.#onReply(bytes),
      onRead: (octets) => {
        const { trace, nowNs } = this.#world;
        this.#delivered += octets;
        trace.note('reads octets of connection', octets, this.number, 0, this.#member);
        this.#activeNs = nowNs;
      },
      onEnd: () => this.#onEnd(),
      onDestroy: () => this.#onDestroy(),
      onOver: (isDeath) => {
        if (isDeath) this.#cause ??= 'its connection ended with its member';
      },
    };
  }

  /** A member answers, or passes an answer on. */
  #onReply(framed: Uint8Array): void {
    const { oracle } = this.#world;
    const worker = this.worker as SimWorker;
    this.#activeNs = this.#world.nowNs;
    const message = framed.subarray(2);
    const asked = this.#askedWith(idOf(message));
    if (asked === undefined) {
      oracle.fail(2, `a reply on connection ${this.number} has the id of another`);
      return;
    }
    if (asked.isReplied) oracle.fail(2, `query ${asked.query.number} is answered twice`);
    if (!this.#isDelivered(asked))
      oracle.fail(2, `query ${asked.query.number} is answered before it is read`);
    asked.isReplied = true;
    oracle.tcp.onReply(asked.query, message, worker.judgedNs, worker.stalledNs);
    this.#world.replies.onTcp(worker, asked.query, framed);
  }

  #isDelivered({ endsAt }: Asked): boolean {
    return endsAt <= this.#delivered;
  }

  /** Read by the member, and not answered. */
  #owed(): Asked[] {
    return this.asked.filter((asked) => this.#isDelivered(asked) && !asked.isReplied);
  }

  #onRefused(): void {
    const { oracle, trace } = this.#world;
    trace.note('refuses connection', this.number, 0, 0, this.worker?.life.name);
    this.#cause = 'its connection was refused';
    if (
      this.worker !== null &&
      this.worker.tcp.knowsPod(this.pod, this.server) &&
      !this.worker.isStopping
    )
      oracle.fail(2, `connection ${this.number} is refused by a member that knows its pod`);
  }

  #onEnd(): void {
    const { oracle, nowNs, trace } = this.#world;
    trace.note('ends connection', this.number, 0, 0, this.#member);
    this.#cause = 'its connection was closed between two queries';
    const [owed] = this.#owed();
    if (owed !== undefined)
      oracle.fail(
        2,
        `connection ${this.number} is ended before query ${owed.query.number} is answered`,
      );
    const isUnused = !this.asked.some(({ isReplied }) => isReplied);
    if (isUnused && !this.#hasHalfClosed && nowNs - this.#activeNs < unusedNs)
      oracle.fail(2, `connection ${this.number} is ended before it asked anything`);
  }

  #onDestroy(): void {
    const { oracle, nowNs, trace } = this.#world;
    trace.note('closes connection', this.number, 0, 0, this.#member);
    const worker = this.worker as SimWorker;
    this.#cause = worker.isStopping
      ? 'its connection ended with its member'
      : 'its connection was closed';
    if (this.isOver || worker.isStopping || this.#isSlow || !this.isOfPod(worker.judgedNs)) return;
    const [owed] = this.#owed();
    if (owed !== undefined)
      oracle.fail(
        2,
        `connection ${this.number} is closed before query ${owed.query.number} is answered`,
      );
    else if (nowNs - this.#activeNs < idleNs)
      oracle.fail(2, `connection ${this.number} is closed though it was not idle`);
  }
}
