// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The main thread of one life: ring, name cache, exchange, expiry, and on the agent the changes of
 * policy. The product's objects; what is written here is what gRPC, the disk and timers do around them.
 */

import { acknowledgeTimeoutMs, peerCacheTimeoutMs } from '@tandem/agent/limits';
import { applyToDatapath, requireRevision } from '@tandem/agent/policy/apply';
import { changeOrder, type PolicyChange } from '@tandem/agent/policy/change-order';
import { PolicyServer } from '@tandem/agent/sync/policy-server';
import type { Compiled, CompiledPolicy } from '@tandem/core/policy/desired';
import { TD_MEMBERS_MAX } from '@tandem/datapath/abi.gen';
import { agentMember, proxyMember } from '@tandem/datapath/member';
import { KernelWriter } from '@tandem/dns-proxy/answer/kernel-writer';
import { eventDrainIntervalMs, eventDrainRecordsMax } from '@tandem/dns-proxy/limits';
import { PolicyTables } from '@tandem/dns-proxy/policy/tables';
import { Backfill } from '@tandem/dns-proxy/store/backfill';
import { FedRevision } from '@tandem/dns-proxy/store/fed-revision';
import { KernelExpiry } from '@tandem/dns-proxy/store/kernel-expiry';
import { backfillSettleMs } from '@tandem/dns-proxy/store/limits';
import { NodeStore } from '@tandem/dns-proxy/store/node-store';
import { Upkeep } from '@tandem/dns-proxy/store/upkeep';
import { Exchange } from '@tandem/dns-proxy/sync/exchange';
import { exchangeTickMs } from '@tandem/dns-proxy/sync/limits';
import { SharedRingReader } from '@tandem/runtime/shared-ring';
import { endpointsOf } from './initial-maps.ts';
import type { Life, Thread } from './life.ts';
import type { PolicyCall } from './policy-call.ts';
import { cacheLimits, exchangeLimits, idleSeconds } from './sizes.ts';
import { decoded, type StreamEnd } from './stream.ts';
import { type PolicyOfVariant, policyOf } from './universe.ts';

export type FromWorker =
  | { readonly kind: 'installed'; readonly revision: number }
  | { readonly kind: 'drained' };

/** As it is on disk. */
export interface Snapshot {
  readonly revision: number;
  readonly policy: PolicyOfVariant;
}

const silent = { info: () => undefined, error: () => undefined };
const reconnectMs = 100;
const walkMs = 700;
const { backlogPiecesMax, batchesInFlightMax, pieceBytesMax } = exchangeLimits;
/** What waits, what is in flight, and a pile of each kind. */
const waitingBytesMax = (backlogPiecesMax + batchesInFlightMax + 2) * pieceBytesMax;

export class MainThread {
  readonly life: Life;
  readonly thread: Thread;
  readonly fromWorker: FromWorker[] = [];
  readonly store: NodeStore = new NodeStore({
    cache: { key: { low: 3, high: 4 }, ...cacheLimits },
    events: { eventsMax: 16, bytesMax: 4096 },
  });
  readonly exchange: Exchange;
  readonly reader: SharedRingReader;
  readonly server: PolicyServer | null;
  /** Our ends of the streams to the other process. */
  stream: StreamEnd | null = null;
  policyCall: PolicyCall | null = null;
  /** The revision that our own worker serves. */
  revision = 0;
  policy: PolicyOfVariant | null = null;
  /** The agent's: what is applied, and what may be in part. */
  applied: number | null = null;
  /** Until then it may leave the group only with the drain token. */
  tokenDeadlineNs = 0;
  readonly #backfill: Backfill;
  readonly #upkeep: Upkeep;
  #partial: number[] = [];
  #lastRevision = 0;
  #hasBegun = false;
  #beganNs = 0;
  #change: Generator<void> | null = null;
  #feed: Generator<void> | null = null;
  #drainNs = 0;
  #upkeepNs = 0;
  #connectNs = 0;
  #stopNs = Infinity;

  constructor(life: Life, thread: Thread, isFirst: boolean) {
    this.life = life;
    this.thread = thread;
    const { world, index } = life;
    const { store } = this;
    this.reader = new SharedRingReader(life.ring);
    this.server = index === 0 ? new PolicyServer(silent) : null;
    // A node that has been well for a while: its agent has nothing to apply.
    if (isFirst) this.applied = world.desired;
    this.exchange = new Exchange({
      member: index,
      epoch: life.epochNs,
      version: 'sim',
      cache: store.cache,
      sink: store,
      ...exchangeLimits,
    });
    const writer = new KernelWriter(world.fqdn, life.learnProgram(thread), TD_MEMBERS_MAX + index);
    const expiry = new KernelExpiry({ fqdn: world.fqdn, writer, idleSeconds, stepEntries: 4 });
    this.#backfill = new Backfill({
      cache: store.cache,
      writer,
      nowSeconds: () => world.bootSeconds,
    });
    this.#upkeep = new Upkeep({
      exchange: this.exchange,
      store,
      sweeps: [expiry],
      isSweeper: () => index === 0 || !world.group.isServing(agentMember, world.nowNs),
      walkMs,
      onLateNames: () => this.#feedAll(),
      onExpiryError: (error) => {
        throw error;
      },
    });
    store.onCacheReceived = () => this.#feedAll();
  }

  /** SIGTERM. */
  drain(timeoutMs: number): void {
    const { life } = this;
    if (life.isDraining || life.worker === null) return;
    life.isDraining = true;
    this.#stopNs = life.world.nowNs + timeoutMs * 1e6;
    this.tokenDeadlineNs = this.#stopNs - 1000e6;
    life.worker.inbox.push({ kind: 'drain', tokenTimeoutMs: Math.max(0, timeoutMs - 1000) });
  }

  get isIdle(): boolean {
    return (
      this.#change === null &&
      this.#feed === null &&
      this.fromWorker.length === 0 &&
      this.reader.usedBytes === 0 &&
      this.exchange.isConnected &&
      this.exchange.outbox.isIdle &&
      this.stream?.inbox.length === 0
    );
  }

  iterate(): void {
    const { world, worker } = this.life;
    if (worker === null) return;
    if (!this.#hasBegun) this.#begin();
    this.#readWorker();
    if (world.nowNs >= this.#stopNs) this.#stop();
    if (world.nowNs >= this.#drainNs) this.#drainRing();
    if (world.nowNs >= this.#upkeepNs) {
      this.#upkeepNs = world.nowNs + exchangeTickMs * 1e6;
      this.#upkeep.tick(world.nowNs / 1e6, world.bootSeconds);
    }
    if (this.life.index === 1) this.#connect();
    this.#readStream();
    this.policyCall?.turn();
    this.thread.seam();
    if (this.#feed?.next().done === true) this.#feed = null;
    if (this.life.index === 0 && !this.life.isDraining) this.#reconcile();
    this.#checkBounds();
  }

  #checkBounds(): void {
    const { oracle } = this.life.world;
    const { outbox } = this.exchange;
    if (outbox.waitingBytes > waitingBytesMax)
      oracle.fail(6, `${outbox.waitingBytes} bytes wait for the other process`);
    if (outbox.inFlight > exchangeLimits.batchesInFlightMax)
      oracle.fail(6, `${outbox.inFlight} batches are in flight`);
    if (this.store.cache.size > cacheLimits.entriesMax)
      oracle.fail(6, 'the name cache is over its limit');
  }

  /** The snapshot decides until somebody knows better. */
  #begin(): void {
    this.#hasBegun = true;
    this.#beganNs = this.life.world.nowNs;
    const { snapshot } = this.life.world;
    if (snapshot === null) return;
    this.#lastRevision = snapshot.revision;
    this.install(snapshot);
  }

  install(snapshot: Snapshot): void {
    this.life.world.trace.note(
      `${this.life.name} is given`,
      snapshot.revision,
      snapshot.policy.variant,
    );
    this.policy = snapshot.policy;
    this.life.worker?.inbox.push({ kind: 'policy', ...snapshot });
  }

  #readWorker(): void {
    for (
      let message = this.fromWorker.shift();
      message !== undefined;
      message = this.fromWorker.shift()
    ) {
      if (message.kind === 'installed') {
        this.revision = message.revision;
        this.policyCall?.acknowledge(this.revision);
      } else if (this.life.isDraining) this.#stop();
    }
  }

  #stop(): void {
    this.#stopNs = Infinity;
    this.life.worker?.inbox.push({ kind: 'stop' });
  }

  #drainRing(): void {
    const { world, name } = this.life;
    this.#drainNs = world.nowNs + eventDrainIntervalMs * 1e6;
    const count = this.reader.drain((_kind, bytes, at, length) => {
      const isNews = this.store.dnsRecord(bytes, at, length);
      this.exchange.offerDns(bytes, at, length, isNews);
    }, eventDrainRecordsMax);
    if (count > 0) world.trace.note('reads events', count, this.store.cache.size, 0, name);
  }

  /** The proxy opens both streams. */
  #connect(): void {
    const { world } = this.life;
    if (world.nowNs < this.#connectNs) return;
    this.#connectNs = world.nowNs + reconnectMs * 1e6;
    if (this.policyCall === null) world.peers.openPolicyCall(this.life);
    if (this.stream === null) world.peers.openStream(this.life);
  }

  #readStream(): void {
    const { world, name } = this.life;
    const { stream } = this;
    if (stream === null || (stream.isOpen && !world.peers.canTalk())) return;
    for (
      let message = stream.inbox.shift();
      message !== undefined;
      message = stream.inbox.shift()
    ) {
      this.thread.seam();
      world.trace.note(
        `${name} hears the other`,
        message.batch?.sequence ?? 0,
        message.ack?.sequence ?? 0,
      );
      this.exchange.receive(stream, decoded(message));
      if (world.random.chance(0.3)) break;
    }
    if (!stream.isOpen && stream.inbox.length === 0) {
      this.exchange.closed(stream);
      this.stream = null;
    } else this.exchange.pump();
  }

  #reconcile(): void {
    const { world } = this.life;
    const isWaitingForNames =
      this.exchange.counters.cachesReceived === 0 &&
      world.group.isServing(proxyMember, world.nowNs) &&
      world.nowNs < this.#beganNs + peerCacheTimeoutMs * 1e6;
    if (this.revision === 0 && world.snapshot !== null) return;
    if (this.#change === null && this.applied === null && isWaitingForNames) return;
    if (this.#change === null && this.applied !== world.desired)
      this.#change = this.#apply(world.desired);
    if (this.#change?.next().done === true) this.#change = null;
  }

  *#apply(variant: number): Generator<void> {
    const { world, name } = this.life;
    const policy = policyOf(variant, [
      ...(this.applied === null ? [] : [this.applied]),
      ...this.#partial,
    ]);
    this.#partial.push(variant);
    const revision = this.#lastRevision + 1;
    const steps = this.#steps({ revision, policy });
    for (const step of changeOrder) {
      world.trace.note(`changes policy: ${step}`, revision, variant, 0, name);
      this.thread.seam();
      yield* steps[step]();
      yield;
    }
    this.applied = variant;
    this.#partial = [];
  }

  /** Steps that are done at once leave nothing to wait for. */
  #steps(snapshot: Snapshot): Record<keyof PolicyChange, () => Iterable<void>> {
    const { world } = this.life;
    const { revision, policy } = snapshot;
    const server = this.server as PolicyServer;
    const datapath = world.datapath(this.thread);
    const compiled = withRevision(policy.compiled, revision);
    const retained = this.#retained();
    return {
      save: () => this.#save(snapshot),
      publish: () => {
        world.peers.publish(revision, snapshot, server);
        return [];
      },
      install: () => this.#untilInstalled(snapshot),
      acknowledge: () => this.#untilAcknowledged(revision),
      require: () => {
        requireRevision(datapath, revision);
        return [];
      },
      feed: () => this.#feedNew(snapshot),
      apply: () => {
        applyToDatapath({ datapath, compiled, retained, endpoints: endpointsOf(policy) });
        return [];
      },
    };
  }

  /** A disk may be slow, after it has the file. */
  *#save(snapshot: Snapshot): Generator<void> {
    const { world } = this.life;
    if (!world.isDiskFull) world.snapshot = snapshot;
    const doneNs = world.nowNs + (world.random.chance(0.3) ? world.random.int(400) * 1e6 : 0);
    while (world.nowNs < doneNs) yield;
  }

  #retained(): ReadonlyMap<number, CompiledPolicy> {
    const variants = [...(this.applied === null ? [] : [this.applied]), ...this.#partial];
    return new Map(variants.flatMap((variant) => [...policyOf(variant, []).compiled.policies]));
  }

  *#untilInstalled(snapshot: Snapshot): Generator<void> {
    this.#lastRevision = snapshot.revision;
    this.install(snapshot);
    while (this.revision !== snapshot.revision) yield;
  }

  *#untilAcknowledged(revision: number): Generator<void> {
    const deadlineNs = this.life.world.nowNs + acknowledgeTimeoutMs * 1e6;
    while (this.server?.isAcknowledged(revision) === false && this.life.world.nowNs < deadlineNs)
      yield;
  }

  *#feedNew({ revision, policy }: Snapshot): Generator<void> {
    const { world } = this.life;
    const selectors = policy.compiled.members.selectors.map(({ id }) => id);
    const settledNs = world.nowNs + backfillSettleMs * 1e6;
    const tables = new PolicyTables({ ...policy.image, revision });
    const fed = new FedRevision(revision, world.group, () => world.bootNs / 1e9);
    if (this.#backfill.freshOf(tables, selectors).size > 0) {
      while (world.nowNs < settledNs) yield;
      this.store.feedsNames(fed);
    }
    yield* this.#backfill.slicesOfNew(tables, selectors);
  }

  #feedAll(): void {
    const { policy } = this;
    if (policy === null) return;
    this.#feed = this.#backfill.slicesOfAll(
      new PolicyTables({ ...policy.image, revision: this.revision }),
    );
  }
}

function withRevision(compiled: Compiled, revision: number): Compiled {
  return { ...compiled, members: { ...compiled.members, revision } };
}
