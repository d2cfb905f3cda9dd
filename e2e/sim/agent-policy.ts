// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Policy in a simulated agent: the product's controller over the simulated kernel. Written here is what files, streams
 * and the source of objects are for it.
 */

import { peerCacheTimeoutMs, reconcileIntervalMs } from '@tandem/agent/limits';
import { type ControllerDatapath, PolicyController } from '@tandem/agent/policy/controller';
import { PolicyServer } from '@tandem/agent/sync/policy-server';
import type { MemberPolicy } from '@tandem/core/policy/model/desired';
import { type CompletedPatterns, completePatterns } from '@tandem/dns-proxy/policy/build-image';
import type { SelectorFeed } from '@tandem/dns-proxy/store/selector-feed';
import type { PolicySnapshot } from '@tandem/proto/gen/messages';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import type { Logger } from '@tandem/runtime/log';
import type { Task } from '@tandem/runtime/task';
import { endpointsOf } from './initial-maps.ts';
import type { Life, Thread } from './life.ts';
import type { MainThread, Snapshot } from './main-thread.ts';
import { Random } from './random.ts';
import { type SimTasks, SimWait } from './tasks.ts';
import { clusters } from './universe-objects.ts';
import {
  compilationOf,
  compileVariant,
  node,
  type PolicyOfVariant,
  stableIds,
} from './universe-policies.ts';

export class AgentPolicy {
  readonly server: PolicyServer;
  readonly #life: Life;
  readonly #thread: Thread;
  readonly #main: MainThread;
  readonly #tasks: SimTasks;
  readonly #log: Logger;
  /** By revision, what this life has compiled. */
  readonly #compiled = new Map<number, PolicyOfVariant>();
  #controller: PolicyController | null = null;
  /** Variant that the source gave last; -1: it has not been read. */
  #variant = -1;
  #reconcileNs = Infinity;

  constructor(life: Life, thread: Thread, main: MainThread, tasks: SimTasks) {
    this.#life = life;
    this.#thread = thread;
    this.#main = main;
    this.#tasks = tasks;
    this.#log = this.#createLog();
    this.server = new PolicyServer(this.#log);
  }

  /** The variant that is applied; null: none by this life. */
  get applied(): number | null {
    const compiled = this.#controller?.applied ?? null;
    return compiled === null ? null : compilationOf(compiled).variant;
  }

  /** As agent-control.ts: the controller begins when the saved policy is served, the source when names came. */
  *run(feed: SelectorFeed): Task {
    const { newestSnapshot: snapshot } = this.#life.world;
    yield new SimWait(() => this.#main.revision === snapshot.revision);
    this.#controller = this.#createController(feed, snapshot);
    yield* feed.peerCache(peerCacheTimeoutMs);
    this.#readSource();
  }

  turn(): void {
    const { world, isDraining } = this.#life;
    if (this.#variant === -1 || isDraining) return;
    if (this.#variant !== world.desired) this.#readSource();
    if (world.nowNs < this.#reconcileNs) return;
    this.#reconcileNs = world.nowNs + reconcileIntervalMs * 1e6;
    void this.#controller?.reconcile();
  }

  #readSource(): void {
    const { world } = this.#life;
    if (this.#variant === -1) this.#reconcileNs = world.nowNs + reconcileIntervalMs * 1e6;
    this.#variant = world.desired;
    void this.#controller?.update(clusters[this.#variant] as (typeof clusters)[number]);
  }

  #createController(feed: SelectorFeed, snapshot: Snapshot): PolicyController {
    const { world } = this.#life;
    return new PolicyController({
      datapath: world.datapath(this.#thread) as ControllerDatapath,
      attacher: {
        plan: (endpoints) => ({
          endpoints: [],
          entries: endpointsOf(endpoints),
          diagnostics: [],
        }),
        attach: () => [],
      },
      server: {
        publish: (revision) => {
          const published = this.#snapshotOf(revision);
          world.oracle.onPublish(revision, published.policy.id);
          world.peers.publish(revision, published, this.server);
        },
        isAcknowledged: (revision) => this.server.isAcknowledged(revision),
        changes: this.server.changes,
      },
      completePatterns: completedOf,
      install: (bytes) => this.#install(bytes),
      backfill: (selectors) => feed.feedSelectors(selectors),
      redirects: { apply: () => undefined },
      keeper: {
        keep: ({ revision }) => this.#save(this.#snapshotOf(revision)),
        keepIds: () => undefined,
        loadIds: () => stableIds,
      },
      timers: this.#tasks,
      // Of its own: it changes nothing else of the schedule.
      randomBelow: (bound) => new Random(this.#life.epochNs).int(bound),
      compiler: {
        compile: (cluster, options) => {
          const policy = compileVariant(cluster, options);
          const { revision } = options;
          this.#compiled.set(revision, policy);
          const { compiled } = policy;
          return { ...compiled, members: { ...compiled.members, revision } };
        },
      },
      log: this.#log,
      quotaNamespace: 1000,
      nodeContext: () => node,
      served: servedOf(snapshot),
    });
  }

  #snapshotOf(revision: number): Snapshot {
    return { revision, policy: this.#compiled.get(revision) as PolicyOfVariant };
  }

  *#install(bytes: Uint8Array): Task {
    const decoded = decodePolicySnapshot(bytes);
    if (!decoded.ok) throw new TypeError(decoded.error);
    const { revision } = decoded.value;
    this.#main.install(this.#snapshotOf(revision));
    yield new SimWait(() => this.#main.revision === revision);
  }

  /** A disk may be slow, after it has the file. */
  #save(snapshot: Snapshot): SimWait {
    const { world } = this.#life;
    if (!world.isRunDirectoryFull) world.snapshots.run = snapshot;
    if (!world.isDiskFull) world.snapshots.disk = snapshot;
    world.hasUnsaved ||= world.isRunDirectoryFull;
    const doneNs = world.nowNs + (world.random.chance(0.3) ? world.random.int(400) * 1e6 : 0);
    return new SimWait(() => world.nowNs >= doneNs);
  }

  /** Failures that the product logs are violations here; a dead process logs nothing. */
  #createLog(): Logger {
    const { world, name } = this.#life;
    const silent = (): void => undefined;
    const error = (message: string, facts?: object): void => {
      if (!this.#life.isDead) world.oracle.fail(7, `${name}: ${message} ${JSON.stringify(facts)}`);
    };
    return { debug: silent, info: silent, warn: silent, error } as unknown as Logger;
  }
}

function servedOf({ revision, policy }: Snapshot): MemberPolicy {
  return { ...policy.members, revision };
}

const completed = new Map<string, CompletedPatterns>();

function completedOf(patterns: PolicySnapshot['patterns']): CompletedPatterns {
  const key = patterns.map(({ text, context }) => `${context} ${text}`).join();
  let found = completed.get(key);
  if (found === undefined) {
    found = completePatterns(patterns);
    completed.set(key, found);
  }
  return found;
}
