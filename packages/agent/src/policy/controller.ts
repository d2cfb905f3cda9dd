// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * From objects to enforcement: compiles what the source has, hands it to the members, and applies it to
 * the datapath, one change at a time. Nothing it can't compile or apply weakens what is in force.
 */

import type { ClusterState, NodeContext } from '@tandem/core/policy/cluster-state';
import { compile } from '@tandem/core/policy/compile';
import type {
  Compiled,
  CompiledPolicy,
  Diagnostic,
  MemberPolicy,
} from '@tandem/core/policy/desired';
import type { StableIds } from '@tandem/core/policy/stable-ids';
import type { Datapath } from '@tandem/datapath/datapath';
import { encodePolicySnapshot } from '@tandem/proto/snapshot';
import type { Logger } from '@tandem/runtime/log';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type AttachedEndpoint, attachEndpoints } from '../endpoint/attacher.ts';
import { acknowledgeTimeoutMs, partialMax } from '../limits.ts';
import type { PolicyServer } from '../sync/policy-server.ts';
import { applyToDatapath, newestRevision, requireRevision } from './apply.ts';
import { changeOrder, type PolicyChange } from './change-order.ts';
import { snapshotOf } from './snapshot.ts';
import type { StateKeeper } from './state-keeper.ts';

export interface ControllerOptions {
  readonly datapath: Datapath;
  readonly server: PolicyServer;
  /** Compiles the matcher into a snapshot. */
  readonly complete: (snapshot: Uint8Array) => Promise<Uint8Array>;
  /** Puts a snapshot in force in the agent's own DNS member. */
  readonly install: (snapshot: Uint8Array) => Promise<void>;
  /** Gives new FQDN selectors the addresses of names that were answered before. */
  readonly backfill: (selectors: readonly number[]) => Promise<void>;
  /** Of the disk. */
  readonly keeper: StateKeeper;
  readonly log: Logger;
  /** Facts of the node, read anew for each compilation. */
  readonly nodeContext: () => NodeContext;
  /** What members served before this process started; null when there was nothing, or nothing readable. */
  readonly served: MemberPolicy | null;
}

export class PolicyController {
  readonly counters = { predecessorsForgotten: 0 };
  readonly #o: ControllerOptions;
  #ids: StableIds;
  #cluster: ClusterState | null = null;
  /** What was compiled last. */
  #compiledCluster: ClusterState | null = null;
  #compiledNode = '';
  #applied: Compiled | null = null;
  /** Of what is applied; '' while that is unknown. */
  #fingerprint = '';
  /** Compilations that may be in the kernel in part: their applying failed. */
  #partial: readonly Compiled[] = [];
  #revision: number;
  #running: Promise<void> | null = null;
  #isDirty = false;
  #endpoints: readonly AttachedEndpoint[] = [];
  /** Of the newest compilation, in force or not. */
  #compileDiagnostics: readonly Diagnostic[] | null = null;
  #attachDiagnostics: readonly Diagnostic[] = [];
  /** What was said in the log and still holds. */
  #said: ReadonlyMap<string, Diagnostic> = new Map();
  #problem: Diagnostic | null = null;

  constructor(options: ControllerOptions) {
    this.#o = options;
    // A number that some member has seen with another content would not be sent to it.
    this.#revision = Math.max(options.served?.revision ?? 0, newestRevision(options.datapath));
    this.#ids = options.keeper.loadIds();
  }

  get revision(): number {
    return this.#revision;
  }

  get applied(): Compiled | null {
    return this.#applied;
  }

  get endpoints(): readonly AttachedEndpoint[] {
    return this.#endpoints;
  }

  /** All that an operator should see, of files, objects, policies and interfaces. */
  get diagnostics(): readonly Diagnostic[] {
    const compiled = this.#compileDiagnostics ?? this.#cluster?.diagnostics ?? [];
    const problem = this.#problem === null ? [] : [this.#problem];
    return [...compiled, ...this.#attachDiagnostics, ...problem];
  }

  /** New objects: a reconciliation follows, now or after the one that runs. */
  update(cluster: ClusterState): Promise<void> {
    this.#cluster = cluster;
    return this.reconcile();
  }

  /** Compares everything with what it should be and mends it. Never rejects. */
  reconcile(): Promise<void> {
    this.#isDirty = true;
    this.#running ??= this.#run();
    return this.#running;
  }

  async #run(): Promise<void> {
    while (this.#isDirty) {
      this.#isDirty = false;
      try {
        // oxlint-disable-next-line no-await-in-loop -- one change at a time
        await this.#once();
        this.#problem = null;
      } catch (error) {
        const failure = TandemError.from(error);
        this.#o.log.error('policy could not be applied, it will be tried again', {
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
    }
    this.#running = null;
  }

  /** Each once when it comes up and once when it is gone: what is not enforced must not go unseen. */
  #sayDiagnostics(): void {
    const { log } = this.#o;
    const current = new Map(
      this.diagnostics.map((each) => [`${each.code} ${each.subject} ${each.message}`, each]),
    );
    for (const [key, { severity, code, subject, message }] of current) {
      if (this.#said.has(key)) continue;
      if (severity === 'error') log.error(message, { code, subject });
      else log.warn(message, { code, subject });
    }
    for (const [key, { code, subject }] of this.#said) {
      if (!current.has(key)) log.info('no longer so', { code, subject });
    }
    this.#said = current;
  }

  async #once(): Promise<void> {
    const cluster = this.#cluster;
    if (cluster === null) return;
    const compiled = this.#compile(cluster);
    if (compiled === null) return;
    const isNew = compiled !== this.#applied;
    if (isNew) {
      // From here on the kernel may hold some of it: until it is applied whole, it counts as there.
      this.#partial = [...this.#partial, compiled].slice(-partialMax);
      const change = this.#change(compiled, await this.#encode(compiled));
      // oxlint-disable-next-line no-await-in-loop -- one step after the other is the point
      for (const step of changeOrder) await change[step]();
      return;
    }
    await this.#apply(compiled);
  }

  /** The kernel as compiled, whether it was so already or not. */
  async #apply(compiled: Compiled): Promise<void> {
    const { datapath } = this.#o;
    const attached = await attachEndpoints(datapath, compiled.endpoints);
    this.#attachDiagnostics = attached.diagnostics;
    this.#endpoints = attached.endpoints;
    applyToDatapath({
      datapath,
      compiled,
      retained: this.#retainedPolicies(),
      endpoints: attached.entries,
    });
    const wanted = new Set(attached.endpoints.map((endpoint) => endpoint.interface.vethIfindex));
    datapath.detachEndpoints((ifindex) => wanted.has(ifindex));
  }

  #change(compiled: Compiled, snapshot: Uint8Array): PolicyChange {
    const { server, datapath, install, backfill, keeper, log } = this.#o;
    const revision = this.#revision + 1;
    return {
      // A full or read-only disk must not stop policy: members get it over the stream.
      save: () => keeper.keep({ revision, snapshot, ids: compiled.ids }),
      publish: () => {
        this.#revision = revision;
        server.publish(revision, snapshot);
      },
      install: () => install(snapshot),
      acknowledge: async () => {
        if (await server.acknowledged(revision, acknowledgeTimeoutMs)) return;
        log.warn('a member lags behind and is passed over until it has the policy', { revision });
      },
      require: () => requireRevision(datapath, revision),
      feed: () => backfill(compiled.members.selectors.map(({ id }) => id)),
      apply: async () => {
        await this.#apply(compiled);
        this.#applied = compiled;
        this.#partial = [];
        this.#fingerprint = fingerprintOf(compiled);
        this.counters.predecessorsForgotten += compiled.predecessorsForgotten;
        log.info('policy applied', {
          revision,
          endpoints: this.#endpoints.length,
          policies: compiled.policies.size,
          classes: compiled.classes.length,
          diagnostics: this.diagnostics.length,
        });
      },
    };
  }

  /** The compilation of the cluster as it is; the one in force when nothing changed, null when it can't be. */
  #compile(cluster: ClusterState): Compiled | null {
    const node = this.#o.nodeContext();
    // The periodic reconciliation mends the kernel; compiling what was compiled would cost a large
    // cluster's agent half a second of every five.
    const input = JSON.stringify(node);
    const isSameInput = cluster === this.#compiledCluster && input === this.#compiledNode;
    if (this.#applied !== null && this.#partial.length === 0 && isSameInput) return this.#applied;
    const retain = this.#applied === null ? this.#partial : [this.#applied, ...this.#partial];
    const { served } = this.#o;
    const compiled = compile(
      cluster,
      {
        node,
        revision: this.#revision + 1,
        retain,
        // Until something was applied, pods may have the policies of the former life.
        ...(served === null || this.#applied !== null ? {} : { served }),
      },
      this.#ids,
    );
    this.#compileDiagnostics = compiled.diagnostics;
    this.#compiledCluster = cluster;
    this.#compiledNode = input;
    if (this.#applied !== null && fingerprintOf(compiled) === this.#fingerprint)
      return this.#applied;
    if (!compiled.fits) {
      this.#o.log.error('policy does not fit the kernel maps, the last one stays in force');
      return this.#applied;
    }
    this.#ids = compiled.ids;
    return compiled;
  }

  #retainedPolicies(): Map<number, CompiledPolicy> {
    const retained = new Map<number, CompiledPolicy>();
    for (const compiled of [...(this.#applied === null ? [] : [this.#applied]), ...this.#partial]) {
      for (const [id, policy] of compiled.policies) retained.set(id, policy);
    }
    return retained;
  }

  /** Compiled once, for both members and for whoever starts from the file. */
  async #encode(compiled: Compiled): Promise<Uint8Array> {
    const { nodeName } = this.#o.nodeContext();
    const encoded = encodePolicySnapshot(
      snapshotOf(compiled.members, nodeName, systemClock.wallMs()),
    );
    if (!encoded.ok) throw new TandemError('TANDEM_POLICY_SNAPSHOT', encoded.error);
    return await this.#o.complete(encoded.value);
  }
}

/** What decides whether two compilations mean the same; revisions differ always. */
function fingerprintOf(compiled: Compiled): string {
  const { endpoints, classes, policies, dnsServers, members, diagnostics } = compiled;
  return JSON.stringify([
    endpoints,
    classes,
    [...policies.entries()],
    dnsServers,
    { ...members, revision: 0 },
    diagnostics,
  ]);
}
