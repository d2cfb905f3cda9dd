// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Parts of both processes beside their DNS worker, on the main thread: the event store and name cache, the exchange with the
 * other process, expiry, the admin service and metrics. None of it is on the path of a query, and none that fails to start
 * keeps DNS from being served.
 */

import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type { Datapath } from '@tandem/datapath/datapath';
import { NodeGroup } from '@tandem/datapath/group';
import { type MemberIndex, type MemberName, memberName } from '@tandem/datapath/member';
import type { GrpcServer } from '@tandem/runtime/grpc-server';
import type { Logger } from '@tandem/runtime/log';
import { Metrics } from '@tandem/runtime/metrics';
import { systemClock } from '@tandem/runtime/system-clock';
import { TandemError } from '@tandem/runtime/tandem-error';
import { loopTimers, type Task } from '@tandem/runtime/task';
import type { AdminContext, InputDiagnostic } from '../admin/context.ts';
import { type Degradation, degradation } from '../admin/degradation.ts';
import { KernelView } from '../admin/kernel-view.ts';
import { steeringWatchMs } from '../admin/limits.ts';
import { logDegradations, type PolicyOrigin } from '../admin/process-degradations.ts';
import { createAdmin } from '../admin/service.ts';
import { readSteering, SteeringWatch } from '../admin/steering-watch.ts';
import { waitingProcesses } from '../admin/waiting.ts';
import { type MemberConfig, memberSettings } from '../config.ts';
import type { DnsMember } from '../dns-member.ts';
import { dropReadMs } from '../drops/limits.ts';
import { eventDrainIntervalMs, optionalCheckMs } from '../limits.ts';
import { addMemberMetrics } from '../metrics/member-metrics.ts';
import { settingsDegradations } from '../settings.ts';
import { AddressesInUse } from '../store/addresses-in-use.ts';
import { assembleNames, assembleNameWork, type Names, type NameWork } from '../store/assemble.ts';
import type { NodeStore } from '../store/node-store.ts';
import type { Exchange } from '../sync/exchange.ts';
import { exchangeEndMs, exchangeTickMs } from '../sync/limits.ts';
import { version } from '../version.ts';
import { DropCollector } from './drop-collector.ts';
import { PolicyInForce } from './policy-in-force.ts';
import { ProcessServers } from './process-servers.ts';
import { ProgramFollow } from './program-follow.ts';
import { Turns } from './turns.ts';

export interface MemberServicesOptions {
  readonly config: MemberConfig;
  readonly index: MemberIndex;
  readonly member: DnsMember;
  /** The admin socket. */
  readonly adminPath: string;
  readonly log: Logger;
  /** Diagnostics of this process alone, for status. Default none. */
  readonly diagnostics?: () => readonly InputDiagnostic[];
  readonly degradations?: () => readonly Degradation[];
  readonly notes?: () => readonly string[];
  /** Degradations of the process with which it is not ready. */
  readonly unready?: () => readonly Degradation[];
  readonly interfaceNames?: () => ReadonlyMap<number, string>;
  readonly ruleOf?: AdminContext['ruleOf'];
  readonly exchangeError?: () => string;
}

export class MemberServices {
  readonly names: Names;
  /** `DnsMember.onEvent`: a record of our own worker. */
  readonly onDnsEvent: Names['onDnsEvent'];
  readonly metrics: Metrics = new Metrics();
  readonly #o: MemberServicesOptions;
  readonly #startedMs = systemClock.monotonicMs();
  readonly #servers: ProcessServers;
  readonly #steering = new SteeringWatch();
  readonly #policy: PolicyInForce;
  #group: NodeGroup | null = null;
  #work: NameWork | null = null;
  readonly #turns = new Turns();
  readonly #drops: DropCollector;

  constructor(options: MemberServicesOptions) {
    this.#o = options;
    const seed = randomBytes(8);
    this.names = assembleNames({
      member: options.index,
      version,
      epochNs: Math.floor(systemClock.boottimeSeconds() * 1e9),
      key: { low: seed.readInt32LE(0), high: seed.readInt32LE(4) },
    });
    this.onDnsEvent = this.names.onDnsEvent;
    const { config, adminPath, log } = options;
    const blockers = (): readonly string[] => this.blockers;
    const { metrics } = this;
    this.#servers = new ProcessServers({ config, adminPath, metrics, blockers, log });
    this.#policy = new PolicyInForce(this.store.endpoints);
    this.#drops = new DropCollector(this.store, this.exchange, options.index, log);
  }

  get store(): NodeStore {
    return this.names.store;
  }

  get exchange(): Exchange {
    return this.names.exchange;
  }

  /** Puts a snapshot in force in the DNS member, and names of pods here. Rejects when it can't be. */
  async install(snapshot: Uint8Array, origin: PolicyOrigin): Promise<void> {
    await this.#o.member.install(snapshot);
    this.installed(snapshot, origin);
  }

  /** The DNS member serves this snapshot. */
  installed(snapshot: Uint8Array, origin: PolicyOrigin): void {
    this.#policy.set(snapshot, origin);
  }

  /** Why this process is not ready. */
  get blockers(): readonly string[] {
    return [
      ...(this.#o.member.revision === 0 ? ['no policy is in force'] : []),
      ...this.#servingDegradations().map(({ message }) => message),
      ...(this.#o.unready?.() ?? []).map(({ code, message }) => `${code}: ${message}`),
    ];
  }

  /** Begins to serve, with what is pinned. */
  async start(datapath: Datapath): Promise<void> {
    const { index, config } = this.#o;
    const role = this.#role;
    const group = new NodeGroup(datapath.map('group').mmap());
    this.#group = group;
    const kernel = new KernelView(
      datapath,
      role === 'agent',
      () => systemClock.monotonicMs() * 1e6,
    );
    const inUse = new AddressesInUse({
      fqdn: datapath.map('fqdn'),
      live: () => datapath.laterMap('fqdn_live'),
      counters: () => datapath.laterMap('fqdn_live_counters'),
      liveSeconds: config.fqdnLiveSeconds,
    });
    const { member, log } = this.#o;
    const work = assembleNameWork({
      member: index,
      names: this.names,
      maps: {
        group,
        fqdn: datapath.map('fqdn'),
        learnRequests: datapath.map('learn_requests'),
        learn: datapath.program('learn'),
      },
      inUse,
      clock: systemClock,
      timers: loopTimers,
      idleSeconds: config.fqdnIdleSeconds,
      tables: () => member.tables,
      onFeedError: (error) =>
        log.error('names of the other process could not be written to the datapath', {
          error: TandemError.from(error),
        }),
      onExpiryError: (error) =>
        log.error('expired addresses cannot be removed from the datapath', {
          error: TandemError.from(error),
        }),
    });
    this.#work = work;
    this.#drops.step(datapath);
    const context = this.#context(kernel, inUse);
    const admin = createAdmin(context);
    addMemberMetrics(this.metrics, {
      ...{ role, context, admin, member, log, inUse },
      backfill: work.backfill,
      expiry: work.expiry,
      servers: this.#servers.byName,
    });
    const programs = new ProgramFollow(datapath, group, () => {
      work.writer.follow(datapath.program('learn'));
      this.#drops.follow(datapath);
    });
    this.#turns.every(eventDrainIntervalMs, () => member.deliverEvents());
    this.#turns.every(dropReadMs, () => this.#drops.step(datapath));
    this.#turns.every(exchangeTickMs, () => {
      // The agent loads its programs itself.
      if (role !== 'agent') programs.step();
      work.tick();
    });
    this.#turns.every(steeringWatchMs, () => this.#steering.step(readSteering(datapath)));
    this.#turns.every(optionalCheckMs, () => this.#servers.check());
    this.#turns.start();
    await this.#servers.start(admin);
  }

  /** After the end of the member: names and events that its worker left go to the other process. */
  async endExchange(): Promise<void> {
    const { exchange } = this;
    if (!exchange.isConnected) return;
    exchange.tick(systemClock.monotonicMs(), Math.floor(systemClock.boottimeSeconds()));
    exchange.end();
    await delay(exchangeEndMs);
  }

  async stop(): Promise<void> {
    this.#turns.stop();
    this.#drops.stop();
    await this.#servers.stop();
  }

  /** Has a gRPC server of this process in the metrics, by a name for its socket. */
  countServer(name: string, server: GrpcServer): void {
    this.#servers.byName.set(name, server);
  }

  /** `SelectorFeed.feedSelectors`. */
  *feedSelectors(selectors: readonly number[]): Task {
    if (this.#work !== null) yield* this.#work.feed.feedSelectors(selectors);
  }

  /** `SelectorFeed.peerCache`. */
  *peerCache(timeoutMs: number): Task<boolean> {
    return this.#work !== null && (yield* this.#work.feed.peerCache(timeoutMs));
  }

  get #role(): MemberName {
    return memberName(this.#o.index);
  }

  #context(kernel: KernelView, inUse: AddressesInUse): AdminContext {
    const { index, diagnostics, degradations, notes, interfaceNames, exchangeError, ruleOf } =
      this.#o;
    return {
      role: this.#role,
      member: index,
      clock: systemClock,
      startedMs: this.#startedMs,
      store: this.store,
      exchange: this.exchange,
      exchangeError: exchangeError ?? (() => ''),
      policy: () => this.#policy.facts,
      kernel,
      inUse,
      dnsCounters: this.#o.member.counters,
      drops: () => this.#drops.reader,
      diagnostics: diagnostics ?? (() => []),
      ownDegradations: () => [
        ...this.#servers.degradations,
        ...this.#servingDegradations(),
        ...waitingProcesses(this.#o.config.bpffsDir),
        ...this.#drops.degradations(),
        ...logDegradations(this.#o.log),
        ...this.#steering.degradations,
        ...(degradations?.() ?? []),
      ],
      ownNotes: notes ?? (() => []),
      interfaceNames: interfaceNames ?? (() => new Map()),
      ruleOf: ruleOf ?? (() => undefined),
      metricsText: () => this.metrics.text(),
    };
  }

  /** Why this process takes no queries. */
  #servingDegradations(): readonly Degradation[] {
    const { config, member } = this.#o;
    const differing =
      this.#group === null
        ? []
        : settingsDegradations(memberSettings(config), this.#group.settings);
    if (differing.length > 0) return differing;
    return listenerDegradations(member.listenersProblem, config.port);
  }
}

function listenerDegradations(problem: string, port: number): readonly Degradation[] {
  if (problem === '') return [];
  return [
    degradation('listeners-closed', {
      message: `this process cannot open port ${port} and serves no DNS: ${problem}; policy stays enforced`,
      fix: `stop the process that has the port (ss -lnptu 'sport = :${port}' lists it); this process tries again every second`,
    }),
  ];
}
