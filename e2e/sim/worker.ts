// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The product's DNS worker (packages/dns-proxy/src/worker/dns-worker.ts) over {@link SimSystem}. This class runs its thread and
 * reports to the oracle. One call of `iterate` is one turn of its event loop.
 */

import { QueryView } from '@tandem/core/dns/query';
import { ReplyView } from '@tandem/core/dns/reply';
import {
  TD_JOURNAL_CELL_BYTES,
  TD_JOURNAL_VERSION,
  tdJournalHeader,
} from '@tandem/datapath/abi.gen';
import { counter, sharedCountersLength } from '@tandem/dns-proxy/counters';
import type { QuerySlot } from '@tandem/dns-proxy/journal/region';
import { type QuerySlots, slotClientPort, slotPolicy } from '@tandem/dns-proxy/journal/slots';
import { inFlightMax } from '@tandem/dns-proxy/limits';
import type { MemberLife } from '@tandem/dns-proxy/member-life';
import type { TakeoverEvent } from '@tandem/dns-proxy/peer/takeover';
import type { PolicyLookup } from '@tandem/dns-proxy/query/policy-lookup';
import type { TcpServer } from '@tandem/dns-proxy/tcp/server';
import { DnsWorker } from '@tandem/dns-proxy/worker/dns-worker';
import type { FromWorker } from '@tandem/dns-proxy/worker-messages';
import {
  RECORD_WORDS,
  RX_OFFSET,
  TX_DESTINATION,
  TX_OFFSET,
  TX_PORT,
  TX_SOURCE,
} from '@tandem/dns-sockets/layout';
import type { Life, Thread } from './life.ts';
import { clientIdOf, clientPortOf, type SimQuery } from './sim-query.ts';
import { connectionsPerPod, graceSeconds, memberSizes } from './sizes.ts';
import type { SimSocket } from './sockets.ts';
import { SimSystem } from './system-sim.ts';
import { names, pods, serverWords } from './universe.ts';
import { backendOf } from './universe-objects.ts';
import { type PolicyOfVariant } from './universe-policies.ts';
import type { UpstreamSocket } from './upstream.ts';
import { WorkerLimits } from './worker-limits.ts';
import { WorkerTcp } from './worker-tcp.ts';

const key = { low: 1, high: 2 };
const batchMax = 64;
/** Without a turn for so long, a process was stopped. */
const stallNs = 1000e6;

export type ToWorker =
  | { readonly kind: 'policy'; readonly policy: PolicyOfVariant; readonly revision: number }
  | { readonly kind: 'drain'; readonly tokenTimeoutMs: number }
  | { readonly kind: 'stop' };

/** Large and without memory of what they parsed last: of a member, whatever its life. */
const views = [0, 1].map(() => ({ query: new QueryView(key), reply: new ReplyView(key) }));

export class SimWorker {
  readonly life: Life;
  readonly thread: Thread;
  readonly inbox: ToWorker[] = [];
  readonly counters: Float64Array = new Float64Array(sharedCountersLength);
  /** The policy in force here. */
  policy: PolicyOfVariant | null = null;
  /** When the turn, or the batch in it, began: what was judged then was judged by the policy of then. */
  judgedNs = 0;
  /** When it read the replies of servers that it handles. */
  repliesNs = 0;
  readonly tcp: WorkerTcp;
  readonly #system: SimSystem;
  readonly #worker: DnsWorker;
  readonly #memory: Uint8Array;
  readonly #words: Uint32Array;
  readonly #limits: WorkerLimits;
  /** It closes what it has. */
  isStopping = false;
  /** When it had its turn again after a long time without. */
  stalledNs = 0;
  #turnNs: number;
  #turns = 0;
  /** After so many turns it has heard that the other is gone. */
  #lostBy = Infinity;
  /** Queries of the batch that no slot was free for. */
  readonly #scrap: number[] = [];

  constructor(life: Life, thread: Thread) {
    this.life = life;
    this.thread = thread;
    const { world, index } = life;
    const buffer = world.journals[index] as ArrayBuffer;
    this.#memory = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer);
    this.#limits = new WorkerLimits(world, this.counters);
    this.tcp = new WorkerTcp(this, this.#limits, (ms, work) => this.#system.timers.after(ms, work));
    this.#system = new SimSystem({
      life,
      thread,
      tcp: this.tcp.system,
      onReply: (_socket, record) => this.#sendReply(record),
      onForward: (socket, record) => this.#forward(socket, record),
      onMessage: (message) => this.#onMessageOf(message),
      onClock: () => {
        this.judgedNs = world.nowNs;
      },
    });
    const former = this.#notedConnections;
    this.#worker = new DnsWorker(
      {
        // No pins, path or settings: the system has none.
        ...{ pinRoot: '', peerPath: '', port: 53, mark: 'auto', ownerUid: 0 },
        member: index,
        denial: { mode: 'refused', suffixes: [] },
        graceSeconds,
        ttlSecondsMin: 1,
        queriesPerSecond: world.limits.queryRate,
        tcpConnectionsPerPod: connectionsPerPod,
        counters: this.counters,
        ring: life.ring,
      },
      this.#system,
      { ...memberSizes, ...views[index], limits: this.#limits.limits },
    );
    this.#worker.start();
    if (this.counters[counter.tcpConnectionsLost] !== former)
      world.oracle.fail(
        6,
        `${life.name} counts other connections than the ${former} of its former run`,
      );
    this.#turnNs = world.nowNs;
  }

  get member(): MemberLife {
    return this.#worker.member.life;
  }

  get lookup(): PolicyLookup {
    return this.#worker.member.lookup;
  }

  get tcpServer(): TcpServer {
    return this.#worker.member.tcp;
  }

  get slots(): QuerySlots {
    return this.#worker.member.slots;
  }

  #onMessageOf(message: FromWorker): void {
    const { main } = this.life;
    if (message.kind === 'peer') this.#onPeer(message.event, message.member);
    else if (message.kind === 'installed' || message.kind === 'drained')
      main.fromWorker.push(message);
  }

  /** The process ends here, whatever it is doing. */
  onDeath(): void {
    const { oracle } = this.life.world;
    for (const number of this.#scrap) oracle.excuse(oracle.queries[number], 'the journal was full');
    this.#system.listeners.close();
    this.#system.upstreams.close();
    this.tcp.onDeath();
  }

  iterate(): void {
    const { world } = this.life;
    this.judgedNs = world.nowNs;
    if (world.nowNs - this.#turnNs > stallNs) this.stalledNs = world.nowNs;
    this.#turnNs = world.nowNs;
    this.#turns += 1;
    const isCurrent = this.#isCurrent();
    const unknown = this.counters[counter.unknownPolicy]!;
    this.#system.runTimers();
    this.tcp.call(() => world.links.turn(this.life, this.thread.seam));
    for (let message = this.inbox.shift(); message !== undefined; message = this.inbox.shift())
      this.#onMessage(message);
    const first = world.random.int(8);
    const { listeners, upstreams } = this.#system;
    listeners.visit((socket, handle) => this.#receiveQueries(socket, handle), first);
    upstreams.visit((socket, handle) => this.#receiveReplies(socket, handle), first);
    this.tcp.turn();
    let hasBeaten = false;
    this.tcp.call(() => {
      hasBeaten = this.#system.runTick();
    });
    if (hasBeaten) this.#checkNoted();
    this.#limits.check();
    this.#checkLink();
    if (isCurrent && this.#isCurrent() && this.counters[counter.unknownPolicy]! > unknown)
      world.oracle.fail(4, `${this.life.name} serves the policy in force and cannot judge a pod`);
  }

  /**
   * It has the policy that the kernel requires of members: so it has each that the kernel names. An agent that starts from a
   * snapshot older than that, because nothing could be written, cannot know what the kernel names.
   */
  #isCurrent(): boolean {
    const { group, hasUnsaved } = this.life.world;
    if (hasUnsaved) return false;
    return ((group.revisionOf(this.life.index) - group.requiredRevision) | 0) >= 0;
  }

  /** Names what it holds when no connection of a pod is left; null: nothing. See `WorkerLimits.leak`. */
  leak(hasNoneKept: boolean): string | null {
    return this.tcp.leak ?? this.#limits.leak(this.slots.inFlight, hasNoneKept);
  }

  #onMessage(message: ToWorker): void {
    this.thread.seam();
    if (message.kind === 'policy') {
      const { policy, revision } = message;
      this.policy = policy;
      this.life.world.trace.note('installs', revision, policy.variant, 0, this.life.name);
      const image = { ...policy.image, revision };
      this.tcp.call(() => this.#worker.onMessage({ kind: 'policy', image }));
      return;
    }
    if (message.kind === 'stop') {
      this.isStopping = true;
      this.life.world.dying = this.life;
    }
    this.tcp.call(() => this.#worker.onMessage(message));
  }

  /** The other process, which was linked, is gone. */
  expectLost(): void {
    this.#lostBy = this.#turns + 1;
  }

  #onPeer(event: TakeoverEvent, member: number): void {
    const { world, name } = this.life;
    world.trace.note(`the other is ${event}`, member, 0, 0, name);
    if (event === 'lost' || event === 'linked') this.#lostBy = Infinity;
    if (event === 'lost' && world.links.isLinked(this.life))
      world.oracle.fail(9, `${name} takes the other for gone, and is linked to it`);
  }

  /** TCP connections that the next run will count as lost. */
  get #notedConnections(): number {
    const isReadable = this.#words[tdJournalHeader.version / 4] === TD_JOURNAL_VERSION;
    return isReadable ? this.#words[tdJournalHeader.tcp_connections / 4]! : 0;
  }

  /** Each heartbeat notes them. */
  #checkNoted(): void {
    const { connections } = this.tcpServer;
    const noted = this.#notedConnections;
    if (noted !== connections)
      this.life.world.oracle.fail(
        6,
        `${this.life.name} has ${connections} connections and noted ${noted}`,
      );
  }

  #checkLink(): void {
    const { links, oracle } = this.life.world;
    links.onTurned(this.life);
    if (this.#turns <= this.#lostBy) return;
    oracle.fail(9, `${this.life.name} has not heard that the other is gone`);
  }

  /** It has left the group just now: before its time is up it must leave somebody behind. */
  checkLeaving(): void {
    const { world, main, name, index } = this.life;
    const isDue = world.nowNs >= main.tokenDeadlineNs || !this.member.hasJoined;
    if (!isDue && !world.group.isServing(1 - index, world.nowNs))
      world.oracle.fail(5, `${name} leaves the group to nobody`);
  }

  #receiveQueries(socket: SimSocket, handle: number): void {
    const { world } = this.life;
    if (socket.queue.length === 0) return;
    const { oracle } = world;
    const { listeners } = this.#system;
    const most = 1 + world.random.int(8);
    let count = 0;
    // Another process may read the same queue, between any two datagrams.
    for (let next = socket.queue.shift(); next !== undefined; next = socket.queue.shift()) {
      const query = oracle.queries[next] as (typeof oracle.queries)[number];
      world.trace.note('receives', query.number, socket.member, 0, this.life.name);
      if (this.#isScrap(count)) this.#scrap.push(next);
      listeners.receive(count, {
        payload: (names[query.name] as (typeof names)[number]).query,
        id: clientIdOf(query),
        peer: (pods[query.pod] as (typeof pods)[number]).words,
        peerPort: clientPortOf(query),
        destination: serverWords[query.server] as Uint32Array,
      });
      count += 1;
      this.#limits.take(query.pod, 1);
      if (count === most) break;
    }
    this.#system.readInto(listeners.clock);
    this.judgedNs = world.nowNs;
    listeners.deliver(handle, count);
    this.#scrap.length = 0;
  }

  /** Whether rx record `i` receives where nobody else looks, because no slot was free. */
  #isScrap(i: number): boolean {
    const at = this.#system.listeners.rx[i * RECORD_WORDS + RX_OFFSET]!;
    return at >= this.slots.messageOf(inFlightMax as QuerySlot);
  }

  #receiveReplies(socket: UpstreamSocket, handle: number): void {
    if (socket.error !== 0) this.#receiveError(socket, handle);
    const replies = socket.queue.splice(0, batchMax);
    if (replies.length === 0) return;
    const { upstreams } = this.#system;
    for (const [i, reply] of replies.entries()) upstreams.receive(i, reply);
    this.#system.readInto(upstreams.clock);
    this.repliesNs = this.life.world.nowNs;
    upstreams.deliver(handle, replies.length);
    for (const { query } of replies) this.#checkDone(query, 'has an answer that is not passed on');
  }

  #receiveError(socket: UpstreamSocket, handle: number): void {
    const errno = socket.error;
    socket.error = 0;
    socket.hasFailed = true;
    const refused = socket.refused.splice(0);
    this.#system.upstreams.reportError(handle, errno);
    for (const { query, forwards } of refused) {
      // One that was asked again may still be answered on its first socket.
      const isAwaited = query.sockets.some(({ isOpen, hasFailed }) => isOpen && !hasFailed);
      if (query.forwards === forwards && !isAwaited)
        this.#checkDone(query, 'waits on a socket that has an error');
    }
  }

  /** Nobody took the query over: it is answered, unless it was given up before. */
  #checkDone({ number, answers, excuse, copies }: SimQuery, otherwise: string): void {
    if (answers === 0 && excuse === null && copies === 0)
      this.life.world.oracle.fail(2, `query ${number} ${otherwise}`);
  }

  #forward(socket: UpstreamSocket, record: number): void {
    const at = this.#system.upstreams.tx[record + TX_OFFSET]!;
    const { world } = this.life;
    const first = this.slots.messageOf(0 as QuerySlot);
    const slot = Math.floor((at - first) / TD_JOURNAL_CELL_BYTES) as QuerySlot;
    const port = this.#words[this.slots.wordOf(slot) + slotClientPort]!;
    const query = world.oracle.queryOfPort(port);
    const policyId = this.#words[this.slots.wordOf(slot) + slotPolicy]!;
    if (socket.server === 0 && socket.backend !== backendOf(this.policy?.variant ?? 0))
      world.oracle.fail(2, 'a query is sent from a socket whose backends are gone');
    world.oracle.onForward(query, socket.server, this.#memory, at, this.judgedNs, policyId);
    if (query === undefined) return;
    const id = (this.#memory[at]! << 8) | this.#memory[at + 1]!;
    world.onForwarded(this.life, socket, query, id, policyId);
  }

  #sendReply(record: number): void {
    const { tx } = this.#system.listeners;
    const at = tx[record + TX_OFFSET]!;
    const port = tx[record + TX_PORT]!;
    const client = tx.subarray(record + TX_DESTINATION, record + TX_DESTINATION + 4);
    const server = tx.subarray(record + TX_SOURCE, record + TX_SOURCE + 4);
    this.life.world.replies.onUdp(this, port, client, server, this.#memory, at);
  }
}
