// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * From objects to enforcement: compiles the objects of the source, sends the snapshot to the members, and applies the result to
 * the datapath, one change at a time. A change that cannot be compiled or applied leaves the former policy in force.
 */

import type { PolicyId, Revision } from '@tandem/core/ids';
import { patternDiagnostics } from '@tandem/core/policy/compile/compile-diagnostics';
import { nodeBudgets } from '@tandem/core/policy/compile/fit-costs';
import type { ClusterState, NodeContext } from '@tandem/core/policy/model/cluster-state';
import type { Compiled, Diagnostic, MemberPolicy } from '@tandem/core/policy/model/desired';
import type { Datapath } from '@tandem/datapath/datapath';
import type { Entry } from '@tandem/datapath/encode';
import type { Logger } from '@tandem/runtime/log';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type Eventual, type Task, type TaskTimers, wait } from '@tandem/runtime/task';
import type {
  AttachedEndpoint,
  Attacher,
  AttachPlan,
  CheckedInterfaces,
} from '../endpoint/attacher.ts';
import { acknowledgeTimeoutMs, revisionJumpMax } from '../limits.ts';
import type { RedirectStack } from '../redirect/redirect-stack.ts';
import type { PolicyServer } from '../sync/policy-server.ts';
import {
  abiCapacities,
  announceApplied,
  applyToDatapath,
  type Capacities,
  findForeignChange,
  newestRevision,
  policiesInUse,
  requireRevision,
} from './apply.ts';
import { changeOrder, type PolicyChange } from './change-order.ts';
import { Compilations, type PolicyCompilation } from './compilations.ts';
import { LearnedShares } from './learned-shares.ts';
import { refusedDiagnostics } from './refused-diagnostics.ts';
import { type CompletePatterns, SnapshotEncoder } from './snapshot.ts';
import type { StateKeeper } from './state-keeper.ts';

export interface ControllerOptions {
  readonly datapath: ControllerDatapath;
  readonly attacher: {
    readonly plan: (...args: Parameters<Attacher['plan']>) => Eventual<AttachPlan>;
    readonly attach: (...args: Parameters<Attacher['attach']>) => Eventual<readonly Diagnostic[]>;
  };
  readonly server: Pick<PolicyServer, 'publish' | 'isAcknowledged' | 'changes'>;
  readonly completePatterns: CompletePatterns;
  /** Puts a snapshot in force in the agent's own DNS member. */
  readonly install: (snapshot: Uint8Array) => Task;
  /** Gives new FQDN selectors the addresses of names that were answered before. */
  readonly backfill: (selectors: readonly number[]) => Task;
  /** Applies the local redirects. */
  readonly redirects: {
    readonly apply: (...args: Parameters<RedirectStack['apply']>) => Eventual<void>;
  };
  /** Keeps snapshot and ids on the disk. */
  readonly keeper: {
    readonly keep: (...args: Parameters<StateKeeper['keep']>) => Eventual<void>;
  } & Pick<StateKeeper, 'keepIds' | 'loadIds'>;
  readonly timers: TaskTimers;
  /** A random integer from 0 to `bound` - 1. */
  readonly randomBelow: (bound: number) => number;
  /** Default: one of the product's compilers, of its own. */
  readonly compiler?: PolicyCompilation;
  readonly log: Logger;
  /** Learned (address, selector) pairs that one namespace may have. */
  readonly quotaNamespace: number;
  /** Facts of the node, read for each compilation. */
  readonly nodeContext: () => NodeContext;
  /** Policy that members served before this process started; null when there was none, or none was readable. */
  readonly served: MemberPolicy | null;
}

/** The part of the datapath that a controller uses. */
export type ControllerDatapath = Pick<Datapath, 'map' | 'table' | 'program' | 'ensureJudging'>;

export class PolicyController {
  readonly counters = { applied: 0, predecessorsForgotten: 0, mapsMended: 0 };
  /** Whether the datapath, a member or the snapshot knew a policy before this process. */
  readonly wasInForce: boolean;
  readonly #o: ControllerOptions;
  readonly #compilations: Compilations;
  readonly #capacities: Capacities;
  readonly #shares: LearnedShares;
  readonly #encoder: SnapshotEncoder;
  #cluster: ClusterState | null = null;
  #revision: Revision;
  #isRunning = false;
  #running: Promise<void> = Promise.resolve();
  #isDirty = false;
  #isMoved = false;
  /** The kernel has all of the last policy: the next reconciliation compares, and restores what another process changed. */
  #isWhole = false;
  /** Entries of `endpoints`, as they were last written to the kernel. */
  #entries: readonly Entry[] = [];
  #endpoints: readonly AttachedEndpoint[] = [];
  /** Diagnostics of patterns that members have no room for. */
  #patternDiagnostics: readonly Diagnostic[] = [];
  #attachDiagnostics: readonly Diagnostic[] = [];
  /** Diagnostics of entries that the kernel refused. */
  #refusedDiagnostics: readonly Diagnostic[] = [];
  /** Diagnostics in the log that still hold. */
  #logged: ReadonlyMap<string, Diagnostic> = new Map();
  #problem: Diagnostic | null = null;
  readonly #listeners = new Set<() => void>();

  constructor(options: ControllerOptions) {
    this.#o = options;
    // A number that some member has seen with another content would not be sent to it. With a full disk a former process may have
    // published a revision and ended before it was in the kernel: hence the jump.
    const newest = Math.max(options.served?.revision ?? 0, newestRevision(options.datapath));
    this.wasInForce = newest > 0;
    this.#revision = newest + options.randomBelow(revisionJumpMax);
    // Of a map that an earlier version made, it may be less.
    const classes = options.datapath.map('classes').maxEntries;
    this.#capacities = { ...abiCapacities, classes };
    this.#compilations = new Compilations(
      options.keeper.loadIds(),
      options.served,
      {
        ...nodeBudgets,
        classes,
      },
      options.compiler,
    );
    this.#encoder = new SnapshotEncoder(options.completePatterns);
    this.#shares = new LearnedShares(options.datapath, options.quotaNamespace);
  }

  get applied(): Compiled | null {
    return this.#compilations.applied;
  }

  get endpoints(): readonly AttachedEndpoint[] {
    return this.#endpoints;
  }

  /** Diagnostics of files, objects, policies and interfaces. */
  get diagnostics(): readonly Diagnostic[] {
    const compiled = this.#compilations.diagnostics ?? this.#cluster?.diagnostics ?? [];
    const problem = this.#problem === null ? [] : [this.#problem];
    return [
      ...compiled,
      ...this.#patternDiagnostics,
      ...this.#attachDiagnostics,
      ...this.#refusedDiagnostics,
      ...problem,
    ];
  }

  /** Calls `listener` each time that policy was applied or failed to be; gives the function that ends it. */
  onApplied(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** New objects: a reconciliation follows, now or after the one that runs. */
  update(cluster: ClusterState): Promise<void> {
    this.#cluster = cluster;
    return this.reconcile();
  }

  /** Compares everything with the desired state and corrects it. Never rejects. */
  reconcile(): Promise<void> {
    this.#isDirty = true;
    return this.#start();
  }

  /** The node's interfaces or routes changed: looks for the interfaces of pods again. Never rejects. */
  reattach(): Promise<void> {
    this.#isMoved = true;
    return this.#start();
  }

  #start(): Promise<void> {
    if (this.#isRunning) return this.#running;
    this.#isRunning = true;
    this.#running = this.#o.timers.start(this.#run());
    return this.#running;
  }

  *#run(): Task {
    while (this.#isDirty || this.#isMoved) {
      const isWhole = this.#isDirty;
      this.#isDirty = false;
      this.#isMoved = false;
      try {
        yield* isWhole ? this.#once() : this.#reattach('new');
        this.#problem = null;
      } catch (error) {
        this.#compilations.failed(this.#policiesInUse());
        const failure = TandemError.from(error);
        this.#o.log.error('policy could not be applied and will be tried again', {
          error: failure,
        });
        this.#problem = {
          severity: 'error',
          code: 'apply-failed',
          subject: 'datapath',
          message: `what is in force stays: ${failure.message}`,
        };
      }
      this.#sayDiagnostics();
      for (const listener of this.#listeners) listener();
    }
    this.#isRunning = false;
  }

  /** Null when the kernel cannot be asked. */
  #policiesInUse(): ReadonlySet<PolicyId> | null {
    try {
      return policiesInUse(this.#o.datapath);
    } catch {
      return null;
    }
  }

  /** Logs each diagnostic once when it begins and once when it ends. */
  #sayDiagnostics(): void {
    const { log } = this.#o;
    const current = new Map(
      this.diagnostics.map((each) => [`${each.code} ${each.subject} ${each.message}`, each]),
    );
    for (const [key, { severity, code, subject, message }] of current) {
      if (this.#logged.has(key)) continue;
      if (severity === 'error') log.error(message, { code, subject });
      else log.warn(message, { code, subject });
    }
    for (const [key, { code, subject }] of this.#logged) {
      if (!current.has(key)) log.info('resolved', { code, subject });
    }
    this.#logged = current;
  }

  *#once(): Task {
    const cluster = this.#cluster;
    if (cluster === null) return;
    const revision = this.#revision + 1;
    const compiled = this.#compilations.compile(cluster, this.#o.nodeContext(), revision);
    if (compiled === null) return;
    // Before members get it: the sockets that they open then must not be led to a backend that is gone.
    yield* this.#redirect(compiled);
    if (compiled !== this.#compilations.applied) {
      // Where nothing of it is for members, addresses of peers most often, only the kernel's maps change.
      if (this.#compilations.isInstalled(compiled)) {
        this.#o.keeper.keepIds(compiled.ids);
        yield* this.#applyNew(compiled);
        return;
      }
      const change = this.#change(compiled, yield* this.#encode(compiled, cluster));
      for (const step of changeOrder) {
        const work = change[step]();
        if (work !== undefined) yield* work;
      }
      return;
    }
    const isForeign = findForeignChange(this.#o.datapath);
    if (isForeign) {
      this.counters.mapsMended += 1;
      this.#o.log.warn('another process changed a map of the datapath: the agent writes it again');
    }
    if (isForeign) this.#isWhole = false;
    if (!this.#isWhole) return yield* this.#apply(compiled);
    this.#shares.apply(compiled);
    yield* this.#reattach('all');
  }

  /** A backend's own traffic must be known from that of others: by the interfaces of the pods that are attached. */
  #redirect({ redirects }: Compiled): Task {
    return wait(this.#o.redirects.apply(redirects, this.#endpoints));
  }

  /** Where no entry changes, there is nothing to compare but interfaces. */
  *#reattach(checked: CheckedInterfaces): Task {
    const { applied } = this.#compilations;
    if (applied === null) return;
    const { attacher } = this.#o;
    const plan = yield* wait(attacher.plan(applied.endpoints));
    if (!this.#isWhole || !isSame(plan.entries, this.#entries)) return yield* this.#apply(applied);
    const diagnostics = yield* wait(attacher.attach(plan, checked));
    this.#attachDiagnostics = [...plan.diagnostics, ...diagnostics];
    this.#endpoints = plan.endpoints;
    yield* this.#redirect(applied);
  }

  /** Brings the kernel to the compiled state. */
  *#apply(compiled: Compiled): Task {
    const { datapath, attacher } = this.#o;
    const former = this.#isWhole ? this.#compilations.applied : null;
    this.#isWhole = false;
    this.#shares.apply(compiled);
    const plan = yield* wait(attacher.plan(compiled.endpoints));
    const refused = applyToDatapath({
      datapath,
      compiled,
      former,
      retained: compiled.isRetained ? this.#compilations.retained : new Map(),
      endpoints: plan.entries,
      capacities: this.#capacities,
    });
    this.#refusedDiagnostics = refusedDiagnostics(refused, compiled);
    this.#entries = plan.entries;
    const checked = former === null ? 'all' : 'new';
    const diagnostics = yield* wait(attacher.attach(plan, checked));
    this.#attachDiagnostics = [...plan.diagnostics, ...diagnostics];
    // Last at the first start: a judge that knows no pod cuts off those that run (docs/adr/0012-interfaces.md).
    datapath.ensureJudging();
    // A gate that waits for the pod's endpoint must not see it before: without `judge` the pod would be open.
    this.#endpoints = plan.endpoints;
    announceApplied(datapath, compiled.members.revision);
    yield* this.#redirect(compiled);
    this.#isWhole = refused.length === 0;
  }

  *#applyNew(compiled: Compiled): Task {
    const former = this.#compilations.applied;
    this.#compilations.begin(compiled);
    yield* this.#apply(compiled);
    this.#compilations.succeeded(compiled);
    this.#logApplied(compiled, former);
  }

  #change(compiled: Compiled, snapshot: Uint8Array): PolicyChange {
    const { server, datapath, install, backfill, keeper, log, timers } = this.#o;
    const revision = this.#revision + 1;
    return {
      // A full or read-only disk must not stop policy: members get it over the stream.
      save: () => wait(keeper.keep({ revision, snapshot, ids: compiled.ids })),
      publish: () => {
        this.#compilations.publishing();
        this.#revision = revision;
        server.publish(revision, snapshot);
      },
      install: () => install(snapshot),
      acknowledge: function* acknowledge() {
        const isDone = (): boolean => server.isAcknowledged(revision);
        if (yield* timers.until(isDone, server.changes, acknowledgeTimeoutMs)) return;
        log.warn(
          'a member has an older policy: the kernel gives it no queries until it acknowledges the new one',
          { revision },
        );
      },
      require: () => requireRevision(datapath, revision),
      feed: () => {
        this.#shares.apply(compiled);
        return backfill(compiled.members.selectors.map(({ id }) => id));
      },
      apply: () => this.#applyChange(compiled),
    };
  }

  *#applyChange(compiled: Compiled): Task {
    yield* this.#applyNew(compiled);
    this.counters.predecessorsForgotten += compiled.predecessorsForgotten;
  }

  /** Changes of pods alone are frequent, so they are counted, and logged only with level debug. */
  #logApplied(compiled: Compiled, former: Compiled | null): void {
    const isNews = compiled.policies !== former?.policies;
    this.counters.applied += 1;
    this.#o.log[isNews ? 'info' : 'debug']('policy applied', {
      revision: compiled.members.revision,
      endpoints: this.#endpoints.length,
      policies: compiled.policies.size,
      classes: compiled.classes.size,
      diagnostics: this.diagnostics.length,
    });
  }

  /** Encodes the snapshot once, for both members and for the file. */
  *#encode(compiled: Compiled, cluster: ClusterState): Task<Uint8Array> {
    const { nodeName } = this.#o.nodeContext();
    const { members } = compiled;
    const wallMs = systemClock.wallMs();
    const { snapshot, rejected } = yield* this.#encoder.encode(members, nodeName, wallMs);
    this.#patternDiagnostics = patternDiagnostics(cluster, members.patterns, rejected);
    return snapshot;
  }
}

function isSame(left: readonly Entry[], right: readonly Entry[]): boolean {
  return (
    left.length === right.length &&
    left.every(({ key, value }, i) => {
      const other = right[i];
      return (
        other !== undefined &&
        Buffer.compare(key, other.key) === 0 &&
        Buffer.compare(value, other.value) === 0
      );
    })
  );
}
