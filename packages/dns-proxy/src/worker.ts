// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The DNS worker: composition of the query path in a thread of its own, so that no JSON, watch or gRPC
 * of the main thread delays a query. Joins the socket group with its first policy and beats from the
 * loop that serves DNS.
 */

import { randomBytes } from 'node:crypto';
import { parentPort, workerData } from 'node:worker_threads';
import { attachReuseport } from '@tandem/bpf-loader-node/link';
import { unmap } from '@tandem/bpf-loader-node/map';
import type { HashKey } from '@tandem/core/dns/name-hash';
import { QueryView } from '@tandem/core/dns/query';
import { ReplyView } from '@tandem/core/dns/reply';
import { tdListenerKind } from '@tandem/datapath/abi.gen';
import { Datapath } from '@tandem/datapath/datapath';
import { NodeGroup } from '@tandem/datapath/group';
import { agentMember } from '@tandem/datapath/member';
import { clockInto } from '@tandem/dns-sockets/clock';
import { closeFd } from '@tandem/dns-sockets/fd';
import { startTick, stopTick } from '@tandem/dns-sockets/tick';
import { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { SharedRingWriter } from '@tandem/runtime/shared-ring';
import { TandemError } from '@tandem/runtime/tandem-error';
import { KernelWriter } from './answer/kernel-writer.ts';
import { Learner } from './answer/learner.ts';
import { counter } from './counters.ts';
import { DnsEventWriter } from './dns-event.ts';
import { GroupMember } from './group-member.ts';
import { JournalRegion, regionBytes } from './journal/region.ts';
import { JournalReplay } from './journal/replay.ts';
import {
  batchMax,
  heartbeatIntervalMs,
  listenerRetryMs,
  selectorIntervalMs,
  sweepIntervalMs,
  udpQueryBytesMax,
  udpReplyBytesMax,
} from './limits.ts';
import { giveRoom, guardListeners, listenerKinds, openListeners } from './listeners.ts';
import { MemberLife } from './member-life.ts';
import { noListener } from './peer/hello.ts';
import { PeerLink } from './peer/link.ts';
import { Takeover } from './peer/takeover.ts';
import { FlowTable } from './policy/flow-table.ts';
import { QueryLimits } from './policy/query-limits.ts';
import { PolicyTables } from './policy/tables.ts';
import { Answers } from './query/answers.ts';
import { Denial } from './query/denial.ts';
import { PolicyLookup } from './query/policy-lookup.ts';
import { RandomPool } from './query/random.ts';
import { QueryReport } from './query/report.ts';
import { markOf, settingsProblem } from './settings.ts';
import { collectStartGarbage } from './start-garbage.ts';
import { TcpServer } from './tcp/server.ts';
import { nodeTcpSystem } from './tcp/stream-node.ts';
import { Turns } from './turns.ts';
import { UpstreamIds } from './udp/ids.ts';
import { UdpServer } from './udp/server.ts';
import { QuerySlots } from './udp/slots.ts';
import { UdpPool } from './udp/upstream.ts';
import type { FromWorker, ToWorker, WorkerOptions } from './worker-messages.ts';

class DnsWorker {
  readonly #options: WorkerOptions;
  readonly #datapath: Datapath;
  readonly #group: NodeGroup;
  readonly #self: GroupMember;
  readonly #clock = new Float64Array(2);
  readonly #lookup: PolicyLookup;
  readonly #writer: KernelWriter;
  readonly #pool: UdpPool;
  readonly #slots: QuerySlots;
  readonly #udp: UdpServer;
  readonly #tcp: TcpServer;
  readonly #listenerLoop: UdpLoop;
  readonly #upstreamLoop: UdpLoop;
  readonly #replay: JournalReplay;
  readonly #life: MemberLife;
  readonly #takeover: Takeover;
  readonly #link: PeerLink;
  /** By td_listener_kind; empty while they cannot be opened. */
  #listeners: readonly number[] = [];
  /** The newest policy that came meanwhile. */
  #waiting: PolicyTables | null = null;
  /** `group.loads` of the programs and maps in use. */
  #loads: number;
  /** That the listeners let in. */
  #mark = 0;
  /** Why the listeners take no queries; empty: they do, or are not open. */
  #problem = '';

  constructor(options: WorkerOptions) {
    this.#options = options;
    this.#datapath = Datapath.open(options.pinRoot, { isMember: true });
    this.#group = new NodeGroup(this.#datapath.map('group').mmap());
    this.#self = new GroupMember(this.#group, options.member);
    this.#loads = this.#group.loads;
    const { counters } = options;
    const key = randomKey();
    const region = this.#mapRegion(options.member);
    const memory = new Uint8Array(region.memory);
    this.#slots = new QuerySlots(region);
    this.#listenerLoop = new UdpLoop({
      buffer: memory,
      slots: batchMax,
      slotBytes: udpQueryBytesMax,
      metadataInBuffer: true,
      onBatch: (handle, count) => this.#onQueries(handle, count),
      onSocketError: () => undefined,
    });
    this.#upstreamLoop = new UdpLoop({
      buffer: memory,
      slots: batchMax,
      slotBytes: udpReplyBytesMax,
      onBatch: (handle, count) => this.#udp.onReplies(handle, count),
      onSocketError: (handle, errno) => {
        clockInto(this.#clock);
        this.#udp.onUpstreamError(handle, errno, this.#clock);
      },
    });
    const random = new RandomPool();
    this.#pool = new UdpPool(this.#upstreamLoop, random);
    this.#lookup = new PolicyLookup({
      flows: new FlowTable(randomSeed()),
      limits: new QueryLimits(options.queriesPerSecond),
      endpoints: this.#datapath.endpoints(),
      self: this.#self,
      counters,
    });
    this.#writer = new KernelWriter(
      this.#datapath.map('learn_requests'),
      this.#datapath.program('learn'),
      options.member,
    );
    const learner = new Learner({
      writer: this.#writer,
      counters,
      graceSeconds: options.graceSeconds,
      ttlSecondsMin: options.ttlSecondsMin,
      seed: randomSeed(),
      group: this.#group,
    });
    const events = new DnsEventWriter(new SharedRingWriter(options.ring), counters, options.member);
    const report = new QueryReport({
      events,
      lookup: this.#lookup,
      counters,
      graceSeconds: options.graceSeconds,
      ttlSecondsMin: options.ttlSecondsMin,
    });
    const shared = {
      lookup: this.#lookup,
      answers: new Answers({ lookup: this.#lookup, learner, report, counters }),
      report,
      counters,
      query: new QueryView(key),
      reply: new ReplyView(key),
      denial: new Denial(options.denial),
    };
    this.#udp = new UdpServer({
      ...shared,
      memory,
      slots: this.#slots,
      listeners: this.#listenerLoop,
      upstreams: this.#upstreamLoop,
      pool: this.#pool,
      ids: new UpstreamIds(random),
      beat: (monotonicNs) => this.#life.beat(monotonicNs),
    });
    this.#tcp = new TcpServer({
      ...shared,
      random,
      system: nodeTcpSystem,
      connectionsPerPod: options.tcpConnectionsPerPod,
      moment: () => {
        clockInto(this.#clock);
        return { monotonicNs: this.#clock[0] as number, boottimeNs: this.#clock[1] as number };
      },
    });
    const formerBeatNs = this.#group.beatNsOf(options.member);
    this.#replay = new JournalReplay({
      slots: this.#slots,
      region: (member) => this.#mapRegion(member),
      release: ({ memory: mapped }) => unmap(mapped as ArrayBuffer),
      counters,
      begin: () => this.#udp.beginReplay(this.#clock),
      replay: (slot) => this.#udp.replay(slot),
      end: () => this.#udp.endReplay(),
    });
    this.#takeover = this.#createTakeover();
    this.#life = new MemberLife({
      self: this.#self,
      lookup: this.#lookup,
      slots: this.#slots,
      udp: this.#udp,
      tcp: this.#tcp,
      pool: this.#pool,
      replay: this.#replay,
      takeover: this.#takeover,
      formerBeatNs,
      clock: this.#clock,
      readClock: () => clockInto(this.#clock),
      readListeners: () => this.#readListeners(),
      onInstalled: (revision) => post({ kind: 'installed', revision }),
      after: (ms, work) => setTimeout(work, ms),
      onDrained: () => post({ kind: 'drained' }),
    });
    this.#link = this.#createLink();
  }

  /** Of the whole map only what is in use: every page that is mapped counts as memory of the process. */
  #mapRegion(member: number): JournalRegion {
    const range = { offset: member * regionBytes, length: regionBytes };
    return new JournalRegion(this.#datapath.map('journal2').mmap(range), member);
  }

  #createLink(): PeerLink {
    const { peerPath, ownerUid, member, counters } = this.#options;
    const add = (index: number): void => {
      counters[index] = (counters[index] as number) + 1;
    };
    return new PeerLink({
      path: peerPath,
      role: member === agentMember ? 'listen' : 'connect',
      member,
      allowedUids: [0, ownerUid],
      groupId: ownerUid,
      listeners: () => this.#listeners,
      onLinked: (hello, holdsOurs) => {
        add(counter.peerLinks);
        giveRoom(hello.listeners);
        this.#takeover.onLinked(hello, this.#life.now());
        if (holdsOurs) this.#life.linked();
      },
      onLost: (lost) => this.#takeover.onLost(lost, this.#life.now()),
      onRefused: () => add(counter.peerLinksRefused),
    });
  }

  #createTakeover(): Takeover {
    const { counters } = this.#options;
    return new Takeover({
      self: this.#self,
      loop: this.#listenerLoop,
      tcp: this.#tcp,
      closeFd,
      replay: (member, lastBeatNs, now) => this.#replay.takeOver(member, lastBeatNs, now),
      onEvent: (event, member) => {
        if (event === 'hung') {
          counters[counter.peerHangs] = (counters[counter.peerHangs] as number) + 1;
        }
        if (event === 'back') this.#replay.leave(member);
        post({ kind: 'peer', event, member });
      },
    });
  }

  start(): void {
    const turns = new Turns(heartbeatIntervalMs, (ms, run) => {
      startTick(ms, run);
      return stopTick;
    });
    turns.every(heartbeatIntervalMs, () => {
      this.#life.tick();
      this.#follow();
    });
    turns.every(sweepIntervalMs, () => this.#life.sweep());
    turns.every(selectorIntervalMs, () => this.#keepSelector());
    turns.start();
    this.#openListeners();
    post({ kind: 'ready' });
  }

  /**
   * Until it succeeds: a port that is taken, or settings that are not those of the datapath, keep this
   * process from serving DNS, and from nothing else.
   */
  #openListeners(): void {
    const options = this.#options;
    const inForce = this.#group.settings;
    try {
      const problem = settingsProblem(options, inForce);
      if (problem !== '') throw new TandemError('TANDEM_SETTINGS', problem);
      const mark = markOf(options, inForce);
      this.#listeners = openListeners({ ...options, mark, datapath: this.#datapath });
      this.#mark = mark;
    } catch (error) {
      post({ kind: 'listeners', problem: TandemError.from(error).message });
      setTimeout(() => this.#openListeners(), listenerRetryMs);
      return;
    }
    post({ kind: 'listeners', problem: '' });
    this.#link.start();
    if (this.#waiting !== null) this.#life.install(this.#waiting);
    this.#waiting = null;
  }

  /** Before the first policy queries wait in the sockets. */
  #readListeners(): void {
    collectStartGarbage();
    const own: number[] = [];
    for (const [kind, [protocol]] of listenerKinds.entries()) {
      const fd = this.#listeners[kind] as number;
      if (fd === noListener) continue;
      if (protocol === 'tcp') this.#tcp.listen(fd);
      else own[kind] = this.#listenerLoop.add(fd, 'listener');
    }
    this.#takeover.setOwn(own);
    const ipv4 = own[tdListenerKind.UDP4] as number;
    this.#udp.setListeners(ipv4, own[tdListenerKind.UDP6] ?? ipv4);
  }

  onMessage(message: Exclude<ToWorker, { kind: 'begin' }>): void {
    if (message.kind === 'policy') this.#install(new PolicyTables(message.image));
    else if (message.kind === 'drain') this.#life.drain(message.tokenTimeoutMs);
    else this.#stop();
  }

  #install(tables: PolicyTables): void {
    if (this.#listeners.length > 0) {
      this.#life.install(tables);
      return;
    }
    // Whoever changes policy must not wait for a port: this member serves no older policy either.
    this.#waiting = tables;
    post({ kind: 'installed', revision: tables.revision });
  }

  #stop(): void {
    this.#life.leave();
    this.#link.stop();
    this.#takeover.close();
    this.#tcp.close();
    this.#pool.close();
    this.#listenerLoop.close();
    this.#upstreamLoop.close();
    this.#datapath[Symbol.dispose]();
    process.exit(0);
  }

  /**
   * Any socket of the group can replace the program that chooses members, and a process of the host that
   * did so would get the pods' queries (safety rule 11): ours is put back every second.
   */
  #keepSelector(): void {
    const selector = this.#datapath.program('select_member');
    for (const fd of this.#listeners) if (fd !== noListener) attachReuseport(selector, fd);
  }

  /** An agent swapped programs in, perhaps of another version: this member goes on with those. */
  #follow(): void {
    const { loads } = this.#group;
    if (loads === this.#loads) return;
    this.#loads = loads;
    this.#datapath.reopen();
    this.#lookup.follow(this.#datapath.endpoints());
    this.#writer.follow(this.#datapath.program('learn'));
    this.#keepSelector();
    if (this.#listeners.length > 0) this.#followSettings();
  }

  /** The programs may have come with another mark, which the listeners let in then, or with another port. */
  #followSettings(): void {
    const inForce = this.#group.settings;
    const problem = settingsProblem(this.#options, inForce);
    if (problem !== this.#problem) post({ kind: 'listeners', problem });
    this.#problem = problem;
    this.#life.suspend(problem !== '');
    const mark = markOf(this.#options, inForce);
    if (mark === this.#mark) return;
    guardListeners(this.#listeners, mark);
    this.#mark = mark;
  }

  /** What came in on a listener of ours, or on one that is read for another member. */
  #onQueries(handle: number, count: number): void {
    const listener = this.#takeover.ownListener(handle);
    if (listener !== handle) {
      const { counters } = this.#options;
      counters[counter.queriesAdopted] = (counters[counter.queriesAdopted] as number) + count;
    }
    this.#udp.onQueries(listener, count);
  }
}

function post(message: FromWorker): void {
  parentPort?.postMessage(message);
}

function randomSeed(): number {
  return randomBytes(4).readInt32LE();
}

function randomKey(): HashKey {
  return { low: randomSeed(), high: randomSeed() };
}

let worker: DnsWorker | null = null;
parentPort?.on('message', (message: ToWorker) => {
  if (message.kind === 'begin') {
    worker = new DnsWorker(workerData as WorkerOptions);
    worker.start();
  } else {
    worker?.onMessage(message);
  }
});
