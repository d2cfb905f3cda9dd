// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node with two processes, driven by one seed: who runs next, how far, what fails. Time passes only
 * here. See docs/adr/0006-simulation.md.
 */

import type { ControllerDatapath } from '@tandem/agent/policy/controller';
import { noPolicy } from '@tandem/core/ids';
import { tdGroup, tdListenerKind } from '@tandem/datapath/abi.gen';
import { decodeEndpoint } from '@tandem/datapath/encode';
import type { NodeGroup } from '@tandem/datapath/group';
import { EntryMap } from './entry-map.ts';
import { type FaultName, Faults } from './faults.ts';
import { FqdnMap } from './fqdn-map.ts';
import { initialMaps, type MapName, mapSizes } from './initial-maps.ts';
import { clearJournals, journals } from './journals.ts';
import { Life, type Thread } from './life.ts';
import { Links } from './links.ts';
import type { Snapshot } from './main-thread.ts';
import { Oracle } from './oracle.ts';
import { Peers } from './peers.ts';
import { Random } from './random.ts';
import { ReplyCheck } from './reply-check.ts';
import { simDatapath } from './sim-datapath.ts';
import { SimGroup } from './sim-group.ts';
import type { SimQuery } from './sim-query.ts';
import { idleSeconds, inFlightCounts, queryRates, slotCounts, tcpShare } from './sizes.ts';
import { SocketLoss } from './socket-loss.ts';
import { SocketGroup } from './sockets.ts';
import { TcpNetwork } from './tcp-network.ts';
import { Trace } from './trace.ts';
import { clusterWord, isSteered, names, pods, servers, variantCount } from './universe.ts';
import { namespaceIds, policyAlone, variantsOfId } from './universe-policies.ts';
import { Upstream, type UpstreamSocket } from './upstream.ts';

export interface WorldOptions {
  readonly seed: number;
  /** Steps with faults. */
  readonly steps: number;
  readonly isVerbose?: boolean;
  /** Kinds of faults that do not happen. */
  readonly without?: readonly FaultName[];
}

const depthMax = 3;
const ms = 1e6;

export class World {
  nowNs: number = 1_000_000 * ms;
  /** How often it slept. */
  sleeps = 0;
  /** CLOCK_BOOTTIME is ahead by the time that the machine slept. */
  sleptNs: number = 5_000_000 * ms;
  readonly random: Random;
  readonly slotCount: number;
  readonly trace: Trace;
  readonly oracle: Oracle;
  readonly groupMemory: ArrayBuffer = new ArrayBuffer(tdGroup.size);
  readonly group: NodeGroup = new SimGroup(this.groupMemory, (index) => this.#onDrain(index));
  readonly journals: readonly ArrayBuffer[] = journals;
  readonly sockets: SocketGroup;
  readonly fqdn: FqdnMap;
  readonly endpoints: EntryMap;
  readonly faults: Faults;
  /** Connections of the two processes' main threads and workers. */
  readonly peers: Peers;
  readonly links: Links = new Links(this);
  readonly lives: [Life | null, Life | null] = [null, null];
  /** When a process that is gone is started again. */
  readonly startNs: [number, number];
  /** The newest policy in the source. */
  desired: number;
  /** Saved policies: one on disk, which may be full, and a copy in the run directory, which may be on that disk. */
  readonly snapshots: { run: Snapshot | null; disk: Snapshot };
  isDiskFull = false;
  isRunDirectoryFull = false;
  /** A policy was published and saved nowhere. */
  hasUnsaved = false;
  /** The process whose end closes sockets just now. */
  dying: Life | null = null;
  /** The process whose turn it is. */
  turning: Life | null = null;
  readonly upstream: Upstream = new Upstream();
  readonly tcp: TcpNetwork = new TcpNetwork(this);
  readonly replies: ReplyCheck = new ReplyCheck(this);
  readonly limits: { readonly queryRate: number; readonly inFlight: number };
  /** Steps that are left, nested ones included. */
  stepsLeft: number;
  readonly #loss = new SocketLoss(this);
  readonly #maps = new Map<MapName, EntryMap>();
  readonly #lifeCount: [number, number] = [0, 0];
  #fd = 3;
  #depth = 0;
  #untilPreempt = 0;
  /** The thread that writes the agent's maps. */
  #writer: Thread | null = null;

  constructor(options: WorldOptions) {
    const { seed, steps, isVerbose = false, without = [] } = options;
    this.random = new Random(seed);
    this.peers = new Peers(this, new Random(~seed));
    this.slotCount = this.random.chance(0.1) ? slotCounts.few : slotCounts.enough;
    this.stepsLeft = steps;
    const isScarce = this.random.chance(0.15);
    this.limits = {
      queryRate: isScarce && this.random.chance(0.6) ? queryRates.few : queryRates.enough,
      inFlight: isScarce && this.random.chance(0.6) ? inFlightCounts.few : inFlightCounts.enough,
    };
    const nowNs = (): number => this.nowNs;
    this.trace = new Trace(isVerbose, nowNs);
    this.oracle = new Oracle({
      trace: this.trace,
      nowNs,
      nowSeconds: () => this.bootSeconds,
      idleSeconds,
    });
    this.faults = new Faults(this, without);
    clearJournals();
    this.sockets = new SocketGroup(this.group, nowNs, (socket) => this.#loss.onSocketLost(socket));
    const isTight = this.random.chance(0.1);
    const places = isTight ? 12 : 256;
    this.fqdn = new FqdnMap({
      group: this.group,
      limits: {
        places,
        perNamespace: isTight ? 10 : places,
        share: Math.floor(places / namespaceIds.size),
        namespaces: namespaceIds,
      },
      watcher: this.oracle.learned,
      neverLearn: (address) => address === clusterWord,
    });
    this.desired = this.random.int(variantCount);
    const policy = policyAlone(this.desired);
    this.snapshots = { run: null, disk: { revision: 1, policy } };
    for (const [name, sizes] of Object.entries(mapSizes) as [
      MapName,
      (typeof mapSizes)[MapName],
    ][]) {
      const onChange =
        name === 'endpoints'
          ? (key: Uint8Array, value: Uint8Array | null) => this.#onEndpoint(key, value)
          : undefined;
      const isCritical = name === 'endpoints';
      const map = new EntryMap(name, sizes, () => this.#writeSeam(isCritical), onChange);
      initialMaps(policy)[name].fill(map);
      this.#maps.set(name, map);
    }
    this.endpoints = this.#maps.get('endpoints') as EntryMap;
    this.startNs = [this.nowNs, this.nowNs + this.random.int(200) * ms];
    this.#arm();
  }

  get bootNs(): number {
    return this.nowNs + this.sleptNs;
  }

  /** As `startFromSnapshot` chooses it. */
  get newestSnapshot(): Snapshot {
    const { run, disk } = this.snapshots;
    return run !== null && run.revision >= disk.revision ? run : disk;
  }

  get bootSeconds(): number {
    return Math.floor(this.bootNs / 1e9);
  }

  nextFd(): number {
    this.#fd += 1;
    return this.#fd;
  }

  /** The kernel as one life of the agent has it open. */
  datapath(thread: Thread): ControllerDatapath {
    this.#writer = thread;
    return simDatapath(this.#maps, this.groupMemory);
  }

  /** The machine sleeps: only the clock of mappings goes on. */
  sleep(seconds: number): void {
    this.sleptNs += seconds * 1e9;
    this.sleeps += 1;
  }

  /** One step: time passes, then somebody runs, asks, or something fails. */
  step(): void {
    const { random } = this;
    this.stepsLeft -= 1;
    const pace = random.next();
    this.pass(
      pace < 0.7
        ? random.next() * ms
        : pace < 0.95
          ? random.next() * 20 * ms
          : random.next() * 150 * ms,
    );
    const choice = random.next();
    if (choice < 0.22) this.ask();
    else if (choice < 0.22 + this.faults.rate) this.faults.happen();
    else this.#turnSomebody();
  }

  pass(ns: number): void {
    this.nowNs += Math.floor(ns);
    this.upstream.deliver(this.nowNs);
    this.tcp.deliver();
    for (const index of [0, 1] as const) {
      if (this.lives[index] === null && this.nowNs >= this.startNs[index]) this.#start(index);
    }
  }

  /** Every thread has its turn, in some order. */
  turnAll(): void {
    const first = this.random.int(4);
    for (let i = 0; i < 4; i++) this.#turn((first + i) & 3);
  }

  ask(): void {
    const { random, oracle } = this;
    const pod = random.int(pods.length);
    const variant = variantsOfId.get(oracle.pods.policyIdOf(pod))?.[0] ?? 0;
    const server = random.int(servers.length);
    if (!isSteered(variant, pod, server)) return;
    if (random.chance(tcpShare)) {
      if (!this.tcp.open(pod, server)) this.#loss.onSilence('a connection');
      return;
    }
    const query = oracle.ask(pod, server, random.int(names.length));
    // Every pod asks much at times: half of the queries go either way.
    const isHeavy = Math.imul(query.number, 0x85ebca6b) >>> 31 === 1;
    const socket = this.sockets.select(
      isHeavy ? tdListenerKind.UDP4_HEAVY : tdListenerKind.UDP4,
      Math.imul(query.number, 0x9e3779b1) >>> 7,
    );
    this.trace.note(
      `pod ${pod} asks server ${server} for name`,
      query.number,
      query.name,
      socket?.member ?? -1,
    );
    if (socket !== null) {
      socket.queue.push(query.number);
      return;
    }
    oracle.queries.pop();
    oracle.counts.asked -= 1;
    this.#loss.onSilence(`query ${query.number}`);
  }

  onStarted(life: Life): void {
    this.trace.note('listens', 0, 0, 0, life.name);
    this.links.onStarted();
  }

  #onDrain(index: number): void {
    this.lives[index as 0 | 1]?.worker?.checkLeaving();
  }

  /** A process is gone: what linked it to the other ends, and it will be started again. */
  onEnded(life: Life): void {
    const { index } = life;
    this.lives[index] = null;
    this.startNs[index] = this.nowNs + this.random.int(this.random.chance(0.5) ? 200 : 2000) * ms;
    this.peers.cutStreams();
  }

  /** A query on its way to its server. */
  onForwarded(
    life: Life,
    socket: UpstreamSocket,
    query: SimQuery,
    id: number,
    policyId: number,
  ): void {
    const { random, oracle, trace } = this;
    query.forwarders.add(life.name);
    query.sockets.push(socket);
    if (this.faults.losesForward()) {
      query.lostForwards += 1;
      trace.note('forwards, lost', query.number, 0, 0, life.name);
      return;
    }
    if (query.forwards > 2 && query.copies === 0)
      oracle.fail(2, `query ${query.number} is asked ${query.forwards} times by ${life.name}`);
    const dueNs = this.nowNs + this.faults.upstreamDelayMs() * ms;
    if (this.faults.refusesForward()) {
      trace.note('forwards, an ICMP error comes back', query.number, id, 0, life.name);
      this.upstream.refuse(socket, query, dueNs);
      return;
    }
    trace.note('forwards', query.number, id, 0, life.name);
    const ttl = random.pick([1, 5, 30, 300]);
    const hosts = 1 + random.int(7);
    const onTold = (): void => oracle.learned.onTold(query, policyId);
    this.upstream.answer({ socket, id, query, hosts, ttl, dueNs, onTold });
  }

  /** A seam of a thread: it may be stopped here, or its process end here. */
  preempt(thread: Thread): void {
    this.#untilPreempt -= 1;
    if (this.#untilPreempt > 0 || this.#depth >= depthMax || this.stepsLeft <= 0) return;
    this.#arm();
    const { random, trace } = this;
    const { life } = thread;
    const choice = random.next();
    if (choice < 0.15 && this.faults.has('kill')) {
      trace.note(`${thread.name} dies at a seam`, 0, 0, 0, life.name);
      life.end('is killed');
      return;
    }
    const isStopped = choice < 0.4 && this.faults.has('freeze');
    const until = this.nowNs + random.int(isStopped ? 1500 : 60) * ms;
    if (isStopped) life.frozenUntilNs = Math.max(life.frozenUntilNs, until);
    const doing = isStopped ? 'is stopped' : 'waits';
    trace.note(`${thread.name} ${doing} at a seam`, 0, 0, 0, life.name);
    this.#depth += 1;
    const { turning } = this;
    const stepsMax = isStopped ? random.pick([40, 160]) : 8;
    for (let steps = 1 + random.int(stepsMax); steps > 0 && this.stepsLeft > 0; steps--) {
      if (this.oracle.violation !== null || life.isDead) break;
      this.step();
    }
    this.turning = turning;
    this.#depth -= 1;
    if (isStopped && !life.isDead) {
      if (this.nowNs < life.frozenUntilNs) this.pass(life.frozenUntilNs - this.nowNs);
      life.frozenUntilNs = 0;
    }
    trace.note(`${thread.name} goes on`, 0, 0, 0, life.name);
  }

  /** Between two writes of the agent; where members look at once, something happens more often. */
  #writeSeam(isCritical: boolean): void {
    if (isCritical && this.random.chance(0.3)) this.#untilPreempt = 0;
    this.#writer?.seam();
  }

  #arm(): void {
    this.#untilPreempt =
      1 + Math.floor(-Math.log(1 - this.random.next()) * this.faults.seamsBetween);
  }

  #turnSomebody(): void {
    this.#turn(this.random.int(4));
  }

  #turn(which: number): void {
    const life = this.lives[(which >> 1) as 0 | 1];
    const thread = life?.threads[(which & 1) as 0 | 1];
    if (life === null || thread === undefined || thread.isBusy || life.isFrozen) return;
    this.turning = life;
    life.turn(thread);
  }

  #start(index: 0 | 1): void {
    this.#lifeCount[index] += 1;
    this.startNs[index] = Infinity;
    const life = new Life(this, index, this.#lifeCount[index]);
    this.trace.note('starts', 0, 0, 0, life.name);
    this.lives[index] = life;
  }

  #onEndpoint(key: Uint8Array, value: Uint8Array | null): void {
    const pod = pods.findIndex(
      ({ words }) => new DataView(key.buffer, key.byteOffset).getUint32(12, true) === words[3],
    );
    if (pod === -1) return;
    const none = { policyId: noPolicy, endpointId: 0 };
    const { policyId, endpointId } = value === null ? none : decodeEndpoint(value);
    this.oracle.pods.set(pod, policyId, endpointId);
  }
}
