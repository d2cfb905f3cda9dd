// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The main thread of one life: what the product puts together for it (packages/dns-proxy/src/store/assemble.ts, and on the
 * agent its policy controller), and what gRPC, the ring and timers do around it.
 */

import { agentMember } from '@tandem/datapath/member';
import {
  drainFinishMs,
  eventDrainIntervalMs,
  eventDrainRecordsMax,
} from '@tandem/dns-proxy/limits';
import { PolicyTables } from '@tandem/dns-proxy/policy/tables';
import { assembleNames, assembleNameWork, type Names } from '@tandem/dns-proxy/store/assemble';
import type { NodeStore } from '@tandem/dns-proxy/store/node-store';
import type { Exchange } from '@tandem/dns-proxy/sync/exchange';
import { exchangeTickMs } from '@tandem/dns-proxy/sync/limits';
import { SharedRingReader } from '@tandem/runtime/shared-ring';
import { AgentPolicy } from './agent-policy.ts';
import type { Life, Thread } from './life.ts';
import type { PolicyCall } from './policy-call.ts';
import { killed } from './seam.ts';
import { cacheLimits, exchangeLimits, idleSeconds, nameSizes } from './sizes.ts';
import { decoded, type StreamEnd } from './stream.ts';
import { SimTasks } from './tasks.ts';
import type { PolicyOfVariant } from './universe-policies.ts';

export type FromWorker =
  | { readonly kind: 'installed'; readonly revision: number }
  | { readonly kind: 'drained' };

/** As it is on disk. */
export interface Snapshot {
  readonly revision: number;
  readonly policy: PolicyOfVariant;
}

const reconnectMs = 100;
const { backlogPiecesMax, batchesInFlightMax, pieceBytesMax } = exchangeLimits;
/** Bytes that wait, bytes in flight, and a pile of each kind. */
const waitingBytesMax = (backlogPiecesMax + batchesInFlightMax + 2) * pieceBytesMax;

export class MainThread {
  readonly life: Life;
  readonly thread: Thread;
  readonly fromWorker: FromWorker[] = [];
  readonly reader: SharedRingReader;
  /** Policy of the agent; null in the DNS proxy. */
  readonly agent: AgentPolicy | null;
  /** Our ends of the streams to the other process. */
  stream: StreamEnd | null = null;
  policyCall: PolicyCall | null = null;
  /** The revision that our own worker serves. */
  revision = 0;
  policy: PolicyOfVariant | null = null;
  /** Until then it may leave the group only with the drain token. */
  tokenDeadlineNs = 0;
  readonly #names: Names;
  readonly #tasks: SimTasks;
  readonly #tick: () => void;
  readonly #isFeedIdle: () => boolean;
  /** Tables of the policy that the agent handed to its worker last. */
  #tables: PolicyTables | null = null;
  #hasBegun = false;
  #drainNs = 0;
  #upkeepNs = 0;
  #connectNs = 0;
  #stopNs = Infinity;

  constructor(life: Life, thread: Thread) {
    this.life = life;
    this.thread = thread;
    const { world, index } = life;
    this.reader = new SharedRingReader(life.ring);
    this.#tasks = new SimTasks(world);
    this.#names = assembleNames({
      member: index,
      version: 'sim',
      epochNs: life.epochNs,
      key: { low: 3, high: 4 },
      sizes: nameSizes,
    });
    const work = assembleNameWork({
      member: index,
      names: this.#names,
      maps: {
        group: world.group,
        fqdn: world.fqdn,
        learnRequests: world.fqdn,
        learn: life.learnProgram(thread),
      },
      inUse: null,
      clock: {
        monotonicMs: () => world.nowNs / 1e6,
        boottimeSeconds: () => world.bootNs / 1e9,
      },
      timers: this.#tasks,
      idleSeconds,
      tables: () => this.#tables,
      onFeedError: (error) => this.#onError(error),
      onExpiryError: (error) => this.#onError(error),
      sizes: nameSizes,
    });
    this.#tick = work.tick;
    this.#isFeedIdle = () => work.feed.isIdle;
    this.agent = index === agentMember ? new AgentPolicy(life, thread, this, this.#tasks) : null;
    if (this.agent !== null) void this.#tasks.start(this.agent.run(work.feed));
  }

  get store(): NodeStore {
    return this.#names.store;
  }

  get exchange(): Exchange {
    return this.#names.exchange;
  }

  #onError(error: unknown): never {
    throw error;
  }

  /** SIGTERM. */
  drain(timeoutMs: number): void {
    const { life } = this;
    if (life.isDraining || life.worker === null) return;
    life.isDraining = true;
    this.#stopNs = life.world.nowNs + timeoutMs * 1e6;
    this.tokenDeadlineNs = this.#stopNs - drainFinishMs * 1e6;
    life.worker.inbox.push({
      kind: 'drain',
      tokenTimeoutMs: Math.max(0, timeoutMs - drainFinishMs),
    });
  }

  get isIdle(): boolean {
    return (
      this.#tasks.isIdle &&
      this.#isFeedIdle() &&
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
      this.#tick();
    }
    if (this.life.index === 1) this.#connect();
    this.#readStream();
    this.policyCall?.turn();
    this.thread.seam();
    this.agent?.turn();
    this.#tasks.turn();
    // The product may have gone on after the end of its process: it catches what comes from the kernel.
    if (this.life.isDead) throw killed;
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
    const { newestSnapshot: snapshot } = this.life.world;
    this.install(snapshot);
  }

  install(snapshot: Snapshot): void {
    this.life.world.trace.note(
      `${this.life.name} is given`,
      snapshot.revision,
      snapshot.policy.variant,
    );
    this.policy = snapshot.policy;
    // The proxy does not keep them: they are megabytes.
    if (this.agent !== null) {
      const { image } = snapshot.policy;
      this.#tables = new PolicyTables({ ...image, revision: snapshot.revision });
    }
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
    const { onDnsEvent } = this.#names;
    const count = this.reader.drain(
      (_kind, bytes, at, length) => onDnsEvent(bytes, at, length),
      eventDrainRecordsMax,
    );
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
    if (world.nowNs < stream.readNs) return;
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
      const delayNs = world.peers.delayNs();
      stream.readNs = world.nowNs + delayNs;
      if (delayNs > 0) break;
    }
    if (!stream.isOpen && stream.inbox.length === 0) {
      this.exchange.closed(stream);
      this.stream = null;
    } else this.exchange.pump();
  }
}
