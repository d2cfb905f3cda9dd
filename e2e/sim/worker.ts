// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The DNS worker of one life: the product's objects, put together as packages/dns-proxy/src/worker.ts does,
 * over the simulated kernel. One call of `iterate` is one turn of its event loop.
 */

import { QueryView } from '@tandem/core/dns/query';
import { ReplyView } from '@tandem/core/dns/reply';
import { TD_JOURNAL_CELL_BYTES, tdListenerKind } from '@tandem/datapath/abi.gen';
import { KernelWriter } from '@tandem/dns-proxy/answer/kernel-writer';
import { Learner } from '@tandem/dns-proxy/answer/learner';
import { sharedCountersLength } from '@tandem/dns-proxy/counters';
import { DnsEventWriter } from '@tandem/dns-proxy/dns-event';
import { GroupMember } from '@tandem/dns-proxy/group-member';
import { JournalReplay } from '@tandem/dns-proxy/journal/replay';
import { heartbeatIntervalMs, inFlightMax, sweepIntervalMs } from '@tandem/dns-proxy/limits';
import { MemberLife } from '@tandem/dns-proxy/member-life';
import { Takeover } from '@tandem/dns-proxy/peer/takeover';
import { FlowTable } from '@tandem/dns-proxy/policy/flow-table';
import { PolicyTables } from '@tandem/dns-proxy/policy/tables';
import { Answers } from '@tandem/dns-proxy/query/answers';
import { Denial } from '@tandem/dns-proxy/query/denial';
import { PolicyLookup } from '@tandem/dns-proxy/query/policy-lookup';
import { QueryReport } from '@tandem/dns-proxy/query/report';
import { UpstreamIds } from '@tandem/dns-proxy/udp/ids';
import { UdpServer } from '@tandem/dns-proxy/udp/server';
import { QuerySlots, slotClientPort, slotPolicy } from '@tandem/dns-proxy/udp/slots';
import { UdpPool } from '@tandem/dns-proxy/udp/upstream';
import {
  HEADER_TX_COUNT,
  RECORD_WORDS,
  RX_OFFSET,
  TX_DESTINATION,
  TX_OFFSET,
  TX_PORT,
  TX_SOURCE,
} from '@tandem/dns-sockets/layout';
import { SharedRingWriter } from '@tandem/runtime/shared-ring';
import type { Life, Thread } from './life.ts';
import type { SimQuery } from './oracle.ts';
import { SimRegion } from './sim-region.ts';
import { graceSeconds } from './sizes.ts';
import { listenerKinds, type SimSocket } from './sockets.ts';
import { LoopRecords, SimUdpLoop } from './udp-loop.ts';
import { backendOf, names, type PolicyOfVariant, pods, serverWords } from './universe.ts';
import { serverOf, type UpstreamSocket } from './upstream.ts';
import { WorkerLimits } from './worker-limits.ts';
import { WorkerTcp } from './worker-tcp.ts';

const key = { low: 1, high: 2 };
const batchMax = 64;
const idsMax = 256;
/** Without a turn for so long, a process was stopped. */
const stallNs = 1000e6;

export type ToWorker =
  | { readonly kind: 'policy'; readonly policy: PolicyOfVariant; readonly revision: number }
  | { readonly kind: 'drain'; readonly tokenTimeoutMs: number }
  | { readonly kind: 'stop' };

export type LinkEvent =
  | {
      readonly kind: 'hello';
      readonly link: object;
      readonly member: number;
      readonly fds: readonly number[];
    }
  | { readonly kind: 'end'; readonly link: object; readonly member: number };

/** Large and without memory of what they parsed last: of a member, whatever its life. */
const views = [0, 1].map(() => ({
  query: new QueryView(key),
  reply: new ReplyView(key),
  listeners: new LoopRecords(),
  upstreams: new LoopRecords(),
}));

export class SimWorker {
  readonly life: Life;
  readonly thread: Thread;
  readonly inbox: ToWorker[] = [];
  readonly linkEvents: LinkEvent[] = [];
  readonly counters: Float64Array = new Float64Array(sharedCountersLength);
  readonly member: MemberLife;
  readonly lookup: PolicyLookup;
  readonly slots: QuerySlots;
  /** By td_listener_kind. */
  readonly fds: readonly number[];
  /** The policy in force here. */
  policy: PolicyOfVariant | null = null;
  /** When the turn, or the batch in it, began: what was judged then was judged by the policy of then. */
  judgedNs = 0;
  readonly #self: GroupMember;
  readonly #memory: Uint8Array;
  readonly #words: Uint32Array;
  readonly #udp: UdpServer;
  readonly tcp: WorkerTcp;
  readonly #limits: WorkerLimits;
  readonly #takeover: Takeover;
  readonly #listeners: SimUdpLoop<SimSocket>;
  readonly #upstreams: SimUdpLoop<UpstreamSocket>;
  readonly #clock = new Float64Array(2);
  readonly #links = new Map<object, number>();
  #timers: { readonly dueNs: number; readonly work: () => void }[] = [];
  /** It closes what it has. */
  isStopping = false;
  /** When it had its turn again after a long time without. */
  stalledNs = 0;
  #turnNs: number;
  #tickNs: number;
  #sweepNs: number;
  /** Queries of the batch that no slot was free for. */
  readonly #scrap: number[] = [];

  constructor(life: Life, thread: Thread) {
    this.life = life;
    this.thread = thread;
    const { world, index } = life;
    const buffer = world.journals[index] as ArrayBuffer;
    this.#memory = new Uint8Array(buffer);
    this.#words = new Uint32Array(buffer);
    this.#self = new GroupMember(world.group, index);
    const region = new SimRegion(this, buffer, index);
    this.slots = new QuerySlots(region);
    this.#listeners = this.#createListeners();
    this.#upstreams = this.#createUpstreams();
    const { query, reply } = views[index] as (typeof views)[number];
    const pool = new UdpPool(
      this.#upstreams,
      world.random,
      ({ address }) => life.openUpstream(serverOf(address)),
      (fd) => life.closeUpstream(fd),
    );
    this.#limits = new WorkerLimits(world, this.counters);
    this.lookup = new PolicyLookup({
      flows: new FlowTable(1, 64),
      limits: this.#limits.limits,
      endpoints: world.endpoints,
      self: this.#self,
      counters: this.counters,
    });
    const report = new QueryReport({
      events: new DnsEventWriter(new SharedRingWriter(life.ring), this.counters, index),
      lookup: this.lookup,
      counters: this.counters,
      graceSeconds,
      ttlSecondsMin: 1,
    });
    const learner = this.#createLearner();
    const shared = {
      lookup: this.lookup,
      answers: new Answers({ lookup: this.lookup, learner, report, counters: this.counters }),
      report,
      counters: this.counters,
      query,
      reply,
      denial: new Denial({ mode: 'refused', suffixes: [] }),
    };
    this.#udp = new UdpServer({
      ...shared,
      memory: this.#memory,
      slots: this.slots,
      listeners: this.#listeners.asUdpLoop,
      upstreams: this.#upstreams.asUdpLoop,
      pool,
      ids: new UpstreamIds(world.random, idsMax),
      beat: (monotonicNs) => this.member.beat(monotonicNs),
    });
    this.tcp = new WorkerTcp({
      worker: this,
      limits: this.#limits,
      path: shared,
      beforeCall: () => {
        this.judgedNs = world.nowNs;
      },
      after: (ms, work) => this.#after(ms, work),
      onDrain: () => this.#checkLeaving(),
    });
    const formerBeatNs = world.group.beatNsOf(index);
    const replay = this.#createReplay();
    this.#takeover = this.#createTakeover(replay);
    this.member = new MemberLife({
      self: this.#self,
      lookup: this.lookup,
      slots: this.slots,
      udp: this.#udp,
      tcp: this.tcp.ofMember,
      pool,
      replay,
      takeover: this.#takeover,
      formerBeatNs,
      clock: this.#clock,
      readClock: () => this.#readClock(this.#clock),
      readListeners: () => this.#readListeners(),
      onInstalled: (revision) => life.main.fromWorker.push({ kind: 'installed', revision }),
      after: (ms, work) => this.#after(ms, work),
      onDrained: () => life.main.fromWorker.push({ kind: 'drained' }),
    });
    this.fds = listenerKinds.map((kind) => life.openListener(kind));
    this.#tickNs = world.nowNs;
    this.#sweepNs = world.nowNs;
    this.#turnNs = world.nowNs;
  }

  #createListeners(): SimUdpLoop<SimSocket> {
    const { life, thread } = this;
    const { world } = life;
    return new SimUdpLoop<SimSocket>({
      memory: this.#memory,
      find: (fd) => life.socketOf(fd),
      onAdd: (socket) => world.sockets.open(socket),
      onRemove: (socket) => world.sockets.close(socket),
      send: (socket, record) => this.#sendReply(socket, record),
      seam: thread.seam,
      records: (views[life.index] as (typeof views)[number]).listeners,
    });
  }

  #createUpstreams(): SimUdpLoop<UpstreamSocket> {
    const { life, thread } = this;
    return new SimUdpLoop<UpstreamSocket>({
      memory: this.#memory,
      find: (fd) => life.upstreamOf(fd),
      onAdd: (socket) => {
        socket.isOpen = true;
      },
      onRemove: (socket) => {
        socket.isOpen = false;
      },
      send: (socket, record) =>
        this.#forward(socket, this.#upstreams.tx[record + TX_OFFSET] as number),
      seam: thread.seam,
      records: (views[life.index] as (typeof views)[number]).upstreams,
    });
  }

  #createLearner(): Learner {
    const { world, index } = this.life;
    return new Learner({
      writer: new KernelWriter(world.fqdn, this.life.learnProgram(this.thread), index),
      counters: this.counters,
      graceSeconds,
      ttlSecondsMin: 1,
      seed: 1,
      group: world.group,
      knownPairs: 128,
    });
  }

  #createReplay(): JournalReplay {
    const { world } = this.life;
    return new JournalReplay({
      slots: this.slots,
      region: (member) => new SimRegion(this, world.journals[member] as ArrayBuffer, member),
      counters: this.counters,
      begin: () => {
        this.judgedNs = world.nowNs;
        this.#udp.beginReplay(this.#clock);
      },
      replay: (slot) => this.#udp.replay(slot),
      end: () => this.#udp.endReplay(),
    });
  }

  #createTakeover(replay: JournalReplay): Takeover {
    const { life } = this;
    const { trace } = life.world;
    return new Takeover({
      self: this.#self,
      loop: this.#listeners,
      tcp: this.tcp.server,
      closeFd: (fd) => life.closeFd(fd),
      replay: (member, lastBeatNs, now) => replay.takeOver(member, lastBeatNs, now),
      onEvent: (event, member) => {
        if (event === 'back') replay.leave(member);
        trace.note(`the other is ${event}`, member, 0, 0, life.name);
      },
    });
  }

  /** The process ends here, whatever it is doing. */
  onDeath(): void {
    const { oracle } = this.life.world;
    for (const number of this.#scrap) oracle.excuse(oracle.queries[number], 'the journal was full');
    this.#listeners.close();
    this.#upstreams.close();
    this.tcp.onDeath();
  }

  iterate(): void {
    const { world } = this.life;
    this.judgedNs = world.nowNs;
    if (world.nowNs - this.#turnNs > stallNs) this.stalledNs = world.nowNs;
    this.#turnNs = world.nowNs;
    this.#runTimers();
    this.#readLinks();
    for (let message = this.inbox.shift(); message !== undefined; message = this.inbox.shift())
      this.#onMessage(message);
    if (this.life.isDead) return;
    const first = world.random.int(8);
    this.#listeners.visit((socket, handle) => this.#receiveQueries(socket, handle), first);
    this.#upstreams.visit((socket, handle) => this.#receiveReplies(socket, handle), first);
    this.tcp.turn();
    this.#tick();
    this.#limits.check();
  }

  /** After what is ready, as the wait for sockets has it: what came during a stop is read before anything is late. */
  #tick(): void {
    const { world } = this.life;
    if (world.nowNs >= this.#tickNs) {
      this.#tickNs = world.nowNs + heartbeatIntervalMs * 1e6;
      this.member.tick();
    }
    if (world.nowNs >= this.#sweepNs) {
      this.#sweepNs = world.nowNs + sweepIntervalMs * 1e6;
      this.member.sweep();
    }
  }

  /** What it holds when no connection of a pod is left; null: nothing. See `WorkerLimits.leak`. */
  leak(hasNoneKept: boolean): string | null {
    return this.tcp.leak ?? this.#limits.leak(this.slots.inFlight, hasNoneKept);
  }

  #onMessage(message: ToWorker): void {
    this.thread.seam();
    if (message.kind === 'policy') {
      const { policy, revision } = message;
      this.policy = policy;
      this.life.world.trace.note('installs', revision, policy.variant, 0, this.life.name);
      this.member.install(new PolicyTables({ ...policy.image, revision }));
    } else if (message.kind === 'drain') {
      this.member.drain(message.tokenTimeoutMs);
    } else {
      this.isStopping = true;
      this.member.leave();
      this.life.world.dying = this.life;
      this.#takeover.close();
      this.tcp.close();
      this.life.end('stops');
    }
  }

  #after(ms: number, work: () => void): void {
    this.#timers.push({ dueNs: this.life.world.nowNs + ms * 1e6, work });
  }

  #runTimers(): void {
    if (this.#timers.length === 0) return;
    const { nowNs } = this.life.world;
    const due = this.#timers.filter(({ dueNs }) => dueNs <= nowNs);
    this.#timers = this.#timers.filter(({ dueNs }) => dueNs > nowNs);
    for (const { work } of due) work();
  }

  #readLinks(): void {
    const { linkEvents } = this;
    // Connections are read in the order they were made, but the end of one may be seen after the next hello.
    if (linkEvents[0]?.kind === 'end' && this.life.world.random.chance(0.3)) {
      linkEvents.push(linkEvents.shift() as LinkEvent);
    }
    for (let event = linkEvents.shift(); event !== undefined; event = linkEvents.shift()) {
      this.thread.seam();
      const { link, member } = event;
      if (event.kind === 'hello') {
        this.#links.set(link, member);
        this.#takeover.onLinked({ member, listeners: event.fds }, this.member.now());
        this.member.linked();
      } else {
        this.#links.delete(link);
        // A later life has linked already: nobody is lost.
        if (![...this.#links.values()].includes(member))
          this.#takeover.onLost(member, this.member.now());
      }
    }
  }

  #readListeners(): void {
    const own: number[] = [];
    for (const [kind, fd] of this.fds.entries()) {
      if (kind === tdListenerKind.TCP4 || kind === tdListenerKind.TCP6) this.tcp.server.listen(fd);
      else own[kind] = this.#listeners.add(fd);
    }
    this.#takeover.setOwn(own);
    this.#udp.setListeners(own[tdListenerKind.UDP4] as number, own[tdListenerKind.UDP6] as number);
  }

  /** It has left the group just now: before its time is up it must leave somebody behind. */
  #checkLeaving(): void {
    const { world, main, name } = this.life;
    const isDue = world.nowNs >= main.tokenDeadlineNs || !this.member.hasJoined;
    if (!isDue && !this.#self.isOtherServing(world.nowNs)) {
      world.oracle.fail(5, `${name} leaves the group to nobody`);
    }
  }

  #receiveQueries(socket: SimSocket, handle: number): void {
    const { world } = this.life;
    if (socket.queue.length === 0) return;
    const { oracle } = world;
    const most = 1 + world.random.int(8);
    let count = 0;
    // Another process may read the same queue, between any two datagrams.
    for (let next = socket.queue.shift(); next !== undefined; next = socket.queue.shift()) {
      const query = oracle.queries[next] as (typeof oracle.queries)[number];
      world.trace.note('receives', query.number, socket.member, 0, this.life.name);
      if (this.#isScrap(count)) this.#scrap.push(next);
      this.#listeners.receive(count, {
        payload: (names[query.name] as (typeof names)[number]).query,
        id: oracle.idOf(query),
        peer: (pods[query.pod] as (typeof pods)[number]).words,
        peerPort: oracle.portOf(query),
        destination: serverWords[query.server] as Uint32Array,
      });
      count += 1;
      this.#limits.take(query.pod, 1);
      if (count === most) break;
    }
    this.#readClock(this.#listeners.clock);
    this.judgedNs = world.nowNs;
    this.#udp.onQueries(this.#takeover.ownListener(handle), count);
    this.#scrap.length = 0;
    if ((this.#listeners.header[HEADER_TX_COUNT] as number) > 0) this.#listeners.flush();
  }

  /** Whether rx record `i` receives where nobody else looks, because no slot was free. */
  #isScrap(i: number): boolean {
    const at = this.#listeners.rx[i * RECORD_WORDS + RX_OFFSET] as number;
    return at >= this.slots.messageOf(inFlightMax);
  }

  #receiveReplies(socket: UpstreamSocket, handle: number): void {
    if (socket.error !== 0) this.#receiveError(socket, handle);
    const replies = socket.queue.splice(0, batchMax);
    if (replies.length === 0) return;
    for (const [i, reply] of replies.entries()) this.#upstreams.receive(i, reply);
    this.#readClock(this.#upstreams.clock);
    this.#udp.onReplies(handle, replies.length);
    for (const { query } of replies) this.#checkDone(query, 'has an answer that is not passed on');
  }

  #receiveError(socket: UpstreamSocket, handle: number): void {
    const errno = socket.error;
    socket.error = 0;
    this.#readClock(this.#clock);
    this.judgedNs = this.life.world.nowNs;
    const refused = socket.refused.splice(0);
    this.#udp.onUpstreamError(handle, errno, this.#clock);
    for (const { query, forwards } of refused) {
      if (query.forwards === forwards)
        this.#checkDone(query, 'waits on a socket that has an error');
    }
  }

  /** Nobody took the query over: it is answered, unless it was given up before. */
  #checkDone({ number, answers, excuse, copies }: SimQuery, otherwise: string): void {
    if (answers === 0 && excuse === null && copies === 0)
      this.life.world.oracle.fail(2, `query ${number} ${otherwise}`);
  }

  #forward(socket: UpstreamSocket, at: number): void {
    const { world } = this.life;
    const slot = Math.floor((at - this.slots.messageOf(0)) / TD_JOURNAL_CELL_BYTES);
    const port = this.#words[this.slots.wordOf(slot) + slotClientPort] as number;
    const query = world.oracle.queryOfPort(port);
    const policyId = this.#words[this.slots.wordOf(slot) + slotPolicy] as number;
    if (socket.server === 0 && socket.backend !== backendOf(this.policy?.variant ?? 0))
      world.oracle.fail(2, 'a query is sent from a socket whose backends are gone');
    world.oracle.onForward(query, socket.server, this.#memory, at, this.judgedNs, policyId);
    if (query === undefined) return;
    const id = ((this.#memory[at] as number) << 8) | (this.#memory[at + 1] as number);
    world.onForwarded(this.life, socket, query, id, policyId);
  }

  #sendReply(_socket: SimSocket, record: number): void {
    const { tx } = this.#listeners;
    const at = tx[record + TX_OFFSET] as number;
    const port = tx[record + TX_PORT] as number;
    const client = tx.subarray(record + TX_DESTINATION, record + TX_DESTINATION + 4);
    const server = tx.subarray(record + TX_SOURCE, record + TX_SOURCE + 4);
    this.life.world.onReply(this, port, client, server, this.#memory, at);
  }

  #readClock(clock: Float64Array): void {
    const { world } = this.life;
    clock[0] = world.nowNs;
    clock[1] = world.bootNs;
  }
}
