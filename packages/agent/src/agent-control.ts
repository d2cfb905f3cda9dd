// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What makes an agent of a DNS member: loads the datapath, compiles policy from its source and keeps
 * everything as it should be. Works only with the agent's lease in hand.
 */

import { randomInt } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { netnsCookie } from '@tandem/bpf-loader-node/netns';
import type { ClusterState, NodeContext } from '@tandem/core/policy/cluster-state';
import type { MemberPolicy } from '@tandem/core/policy/desired';
import { TD_HEARTBEAT_STALE_NS } from '@tandem/datapath/abi.gen';
import { markCandidates } from '@tandem/datapath/config';
import { LoadedDatapath } from '@tandem/datapath/load';
import { agentMember } from '@tandem/datapath/member';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import { agentAdminPath, snapshotPath } from '@tandem/dns-proxy/config';
import type { DnsMember } from '@tandem/dns-proxy/dns-member';
import { MemberServices } from '@tandem/dns-proxy/member-services';
import type { RunDirectory } from '@tandem/dns-proxy/run-directory';
import type { SnapshotStart } from '@tandem/dns-proxy/snapshot-start';
import { NetworkView } from '@tandem/netlink/network-view';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import { loopTimers, runTask, wait } from '@tandem/runtime/task';
import { addPolicyMetrics, addSnapshotMetrics } from './agent-metrics.ts';
import type { AgentConfig } from './config.ts';
import { Attacher } from './endpoint/attacher.ts';
import { classifyDevices } from './endpoint/node-devices.ts';
import { MarkWatch } from './firewall/mark-watch.ts';
import { EnforcedPods } from './gate/enforced-pods.ts';
import { GateStack } from './gate/gate-stack.ts';
import { Sandboxes } from './gate/sandboxes.ts';
import { datagramsPerQueryRate, peerCacheTimeoutMs, reconcileIntervalMs } from './limits.ts';
import { Compatibility } from './node/compatibility.ts';
import { GroupAudit } from './node/group-audit.ts';
import { LocalAddresses } from './node/local-addresses.ts';
import type { NetworkRulesOptions } from './node/network-rules.ts';
import { NetworkStack } from './node/network-stack.ts';
import { removeDatapath } from './node/node-removal.ts';
import { sideDegradations } from './node/side-parts.ts';
import { PolicyController } from './policy/controller.ts';
import { type DatedDiagnostic, FirstSeen } from './policy/first-seen.ts';
import { memberPolicyOf } from './policy/snapshot.ts';
import { StateKeeper } from './policy/state-keeper.ts';
import { QuietGarbage } from './quiet-garbage.ts';
import { addRedirectMetrics, RedirectStack } from './redirect/redirect-stack.ts';
import { EarlySource } from './source/early-source.ts';
import type { ObjectSource } from './source/object-source.ts';
import { kubernetesSource, openSource } from './source/open-source.ts';
import { PolicyServer } from './sync/policy-server.ts';
import { SyncSocket } from './sync/sync-socket.ts';

export interface AgentControlOptions {
  readonly config: AgentConfig;
  readonly member: DnsMember;
  readonly runDirectory: RunDirectory;
  readonly log: Logger;
}

export class AgentControl {
  readonly #config: AgentConfig;
  readonly #log: Logger;
  readonly #member: DnsMember;
  #rules: NetworkRulesOptions;
  readonly #runDirectory: RunDirectory;
  readonly #keeper: StateKeeper;
  readonly #garbage = new QuietGarbage();
  #hasLease = false;
  #served: SnapshotStart | null = null;
  #datapath: LoadedDatapath | null = null;
  #view: NetworkView | null = null;
  #mark: MarkWatch | null = null;
  #network: NetworkStack | null = null;
  #redirects: RedirectStack | null = null;
  #localAddresses: LocalAddresses | null = null;
  #ignoreAddresses: (() => void) | null = null;
  #syncSocket: SyncSocket | null = null;
  #source: EarlySource | null = null;
  /** Pods of this node as CNI made them. */
  readonly #sandboxes = new Sandboxes(() => this.#source?.sandboxesChanged());
  #gate: GateStack | null = null;
  #controller: PolicyController | null = null;
  #timer: NodeJS.Timeout | null = null;
  /** Steps of a reconciliation that runs are left out: they would find what is closed, or make again what was removed. */
  #isStopping = false;
  #services: MemberServices | null = null;
  #audit: GroupAudit | null = null;
  #compatibility: Compatibility | null = null;
  /** By what could not be brought to what it should be: why. */
  readonly #failed = new Map<string, string>();
  readonly #firstSeen = new FirstSeen(Date.now);

  constructor({ config, member, runDirectory, log }: AgentControlOptions) {
    this.#config = config;
    this.#log = log;
    this.#member = member;
    this.#rules = {
      // Chosen by `load`, before anything is made by it.
      mark: markCandidates[0],
      port: config.port,
      routingTable: config.routingTable,
      rulePriority: config.rulePriority,
    };
    this.#runDirectory = runDirectory;
    this.#keeper = new StateKeeper({
      stateDir: config.stateDir,
      snapshotPath: snapshotPath(config),
      proxyGid: config.proxyUid,
      log,
    });
  }

  /** Puts this version's programs in force. @throws BpfError, SchemaError, TandemError: those before stay */
  async load(): Promise<void> {
    this.#hasLease = true;
    this.#keeper.prepare();
    const view = await NetworkView.open({ tables: [this.#rules.routingTable] });
    this.#view = view;
    this.#mark = new MarkWatch({
      view,
      wanted: this.#config.mark,
      pinRoot: this.#config.bpffsDir,
      routingTable: this.#rules.routingTable,
      log: this.#log,
    });
    this.#rules = { ...this.#rules, mark: await this.#mark.choose() };
    this.#datapath = this.#load(view);
    const { abi, keptAbi } = this.#datapath;
    this.#log.info('programs are in force', { abi, keptAbi });
  }

  /** Without the lease: reads the API server, and applies nothing. Resolves when everything was read once. */
  async readAhead(): Promise<void> {
    // A directory of files is read in no time, and copies of them are written.
    if (this.#config.source !== kubernetesSource || this.#hasLease) return;
    this.#source = this.#createSource();
    await this.#source.readAhead();
  }

  /** `DnsMember.onEvent` */
  onDnsEvent(bytes: Uint8Array, at: number, length: number): void {
    this.#services?.onDnsEvent(bytes, at, length);
  }

  /** After `load`, with what the member serves. */
  async start(served: SnapshotStart, signal: AbortSignal): Promise<void> {
    const datapath = this.#datapath;
    const view = this.#view;
    if (datapath === null || view === null) throw new TypeError('start before load');
    this.#served = served;
    this.#network = new NetworkStack(view, this.#rules, this.#log);
    await this.#network.start();
    this.#localAddresses = new LocalAddresses(view);
    this.#audit = new GroupAudit(datapath, this.#config.port, this.#log);
    this.#compatibility = new Compatibility({
      datapath,
      view,
      interfaces: () => this.#controller?.endpoints.map((each) => each.interface) ?? [],
    });
    const services = this.#createServices(this.#member, datapath);
    this.#services = services;
    addSnapshotMetrics(services.metrics, () => this.#keeper.counters);
    if (served.snapshot !== null) services.installed(served.snapshot, 'snapshot');
    await services.start(datapath);
    if (signal.aborted) return;
    const policyServer = new PolicyServer(this.#log);
    const redirects = new RedirectStack({
      memberUids: [process.getuid?.() ?? 0, this.#config.proxyUid],
      nameOf: (ifindex) => view.state.links.get(ifindex)?.name,
      log: this.#log,
    });
    this.#redirects = redirects;
    addRedirectMetrics(services.metrics, redirects);
    this.#controller = new PolicyController({
      datapath,
      attacher: new Attacher(datapath, view, this.#config),
      server: policyServer,
      completePatterns: (patterns) => this.#member.completePatterns(patterns),
      install: (snapshot) => wait(services.install(snapshot, 'agent')),
      backfill: (selectors) => services.feedSelectors(selectors),
      redirects,
      timers: loopTimers,
      randomBelow: randomInt,
      keeper: this.#keeper,
      log: this.#log,
      quotaNamespace: this.#config.quotaNamespace,
      nodeContext: () => this.#nodeContext(),
      served: servedPolicy(served),
    });
    const { counters } = this.#controller;
    addPolicyMetrics(services.metrics, () => counters);
    this.#syncSocket = new SyncSocket({
      config: this.#config,
      policyServer,
      services,
      log: this.#log,
    });
    await this.#syncSocket.start();
    await runTask(services.peerCache(peerCacheTimeoutMs));
    this.#gate = new GateStack({
      runDirectory: this.#config.runDir,
      stateDirectory: this.#config.stateDir,
      configDirectory: this.#config.cniConfDir,
      pluginDirectory: this.#config.cniBinDir,
      resultsDirectory: this.#config.cniResultsDir,
      program: this.#config.gateProgram,
      view,
      sandboxes: this.#sandboxes,
      log: this.#log,
    });
    if (this.#config.cniConfDir !== '') this.#gate.addMetrics(services.metrics);
    await this.#gate.readSandboxes();
    this.#source ??= this.#createSource();
    this.#source.addMetrics(services.metrics);
    await this.#source.start();
    await this.#gate.start(new EnforcedPods(this.#controller));
    await this.#attempt('sandboxes', () => this.#gate?.readSandboxes());
    await this.#attempt('compatibility', () => this.#compatibility?.look());
    this.#ignoreAddresses = this.#localAddresses.onChange(() => void this.#reconcilePolicy());
    // Bridges learn all the time, and what they know of pods stays (bridge-entries.ts): the next round will do.
    view.onChange((kinds) => {
      if (kinds.has('links') || kinds.has('routes')) void this.#controller?.reattach();
    });
    this.#timer = setInterval(() => void this.#reconcile(), reconcileIntervalMs);
  }

  /** Why this process is not ready. */
  get blockers(): readonly string[] {
    return this.#services?.blockers ?? ['it has not started'];
  }

  /** No change of policy begins any more. */
  async stopWriting(): Promise<void> {
    this.#isStopping = true;
    await this.#gate?.stop();
    // First of all, and before what is in flight is waited for: nobody is there any more to let a pod start.
    if (this.#removes) this.#gate?.remove();
    await this.#source?.stop();
    this.#ignoreAddresses?.();
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#syncSocket?.stop();
  }

  async stop(): Promise<void> {
    await this.#services?.stop();
    this.#datapath?.[Symbol.dispose]();
    await this.#mark?.stop();
    await this.#network?.stop();
    await this.#redirects?.stop();
    this.#audit?.close();
    if (this.#removes) await this.#remove();
    this.#view?.close();
  }

  /** Only who had the lease may take away what is in force. */
  get #removes(): boolean {
    return this.#config.removeOnStop && this.#hasLease;
  }

  async #remove(): Promise<void> {
    const { bpffsDir, proxyUid } = this.#config;
    const where = { view: this.#view, rules: this.#rules, pinRoot: bpffsDir, proxyGid: proxyUid };
    for (const { part, message } of await removeDatapath(where)) {
      this.#log.error('a part of the datapath could not be removed from the node', {
        part,
        reason: message,
      });
    }
  }

  #createSource(): EarlySource {
    const open = (apply: (cluster: ClusterState) => Promise<void>): ObjectSource =>
      openSource({
        config: this.#config,
        sandboxes: this.#sandboxes,
        isInForce: (this.#controller?.revision ?? 0) > 0,
        apply,
        log: this.#log,
      });
    return new EarlySource(open, async (cluster) => this.#controller?.update(cluster));
  }

  #createServices(member: DnsMember, datapath: LoadedDatapath): MemberServices {
    return new MemberServices({
      config: this.#config,
      index: agentMember,
      member,
      adminPath: agentAdminPath(this.#config.runDir),
      log: this.#log,
      diagnostics: () => this.#diagnostics(),
      degradations: () => [
        // What cannot be pinned then is none of its own.
        ...(datapath.isUnpinned()
          ? [degradation('pins-removed')]
          : sideDegradations(datapath.problems)),
        ...this.#stepProblems(),
        ...this.#viewProblems(),
        ...(this.#mark?.degradations ?? []),
        ...(this.#network?.degradations ?? []),
        ...(this.#redirects?.degradations ?? []),
        ...this.#runDirectory.degradations,
        ...(this.#audit?.degradations ?? []),
        ...(this.#compatibility?.degradations ?? []),
        ...this.#snapshotProblems(),
        ...this.#keeper.degradations,
        ...(this.#syncSocket?.degradations ?? []),
        ...(this.#source?.degradations ?? []),
        ...(this.#gate?.degradations ?? []),
      ],
      notes: () => [...(this.#source?.notes ?? []), ...(this.#redirects?.notes ?? [])],
      unready: () => this.#compatibility?.degradations ?? [],
      interfaceNames: () =>
        new Map(
          this.#controller?.endpoints.map((endpoint) => [
            endpoint.interface.vethIfindex,
            endpoint.interface.name,
          ]),
        ),
    });
  }

  #load(view: NetworkView): LoadedDatapath {
    const config = this.#config;
    return LoadedDatapath.load({
      objectPath: config.bpfObject === '' ? defaultObjectPath() : config.bpfObject,
      pinRoot: config.bpffsDir,
      sharedGid: config.proxyUid,
      cgroupPath: config.cgroupPath === '' ? null : config.cgroupPath,
      devices: classifyDevices(view.state, config, () => false),
      config: {
        mark: this.#rules.mark,
        port: config.port,
        ownerUid: config.proxyUid,
        netnsCookie: netnsCookie(),
        staleNs: TD_HEARTBEAT_STALE_NS,
        fqdnIdleSeconds: config.fqdnIdleSeconds,
        fqdnLiveSeconds: config.fqdnLiveSeconds,
        fqdnLiveIdleSeconds: config.fqdnLiveIdleSeconds,
        connectsPerSecond: config.tcpConnectsPerSecond,
        datagramsPerSecond: config.queriesPerSecond * datagramsPerQueryRate,
        nat64Prefixes: config.nat64Prefixes,
        quotaNamespace: config.quotaNamespace,
        quotaSelector: config.quotaSelector,
      },
    });
  }

  /** What was wrong with the file at the start is history once another policy is in force. */
  #snapshotProblems(): readonly Degradation[] {
    const served = this.#served;
    return served !== null && this.#member.revision === served.revision ? served.degradations : [];
  }

  /** A policy is in force, so that `judge` knows the pods. */
  #isEnforcing(): boolean {
    return this.#controller?.applied != null;
  }

  /** With the time of each, which counts from the next reconciliation at the latest. */
  #diagnostics(): readonly DatedDiagnostic[] {
    return this.#firstSeen.date([
      ...(this.#controller?.diagnostics ?? []),
      ...(this.#source?.diagnostics ?? []),
    ]);
  }

  /** Compares everything with what it should be, every few seconds. Never rejects. */
  async #reconcile(): Promise<void> {
    for (const step of this.#steps) {
      if (this.#isStopping) return;
      // oxlint-disable-next-line no-await-in-loop -- one after the other, enforcement first
      await step();
    }
  }

  /** None of them keeps the others from being looked at. */
  readonly #steps: readonly (() => unknown)[] = [
    () => this.#isEnforcing() && this.#attempt('judge', () => this.#datapath?.ensureJudging()),
    () => this.#reconcilePolicy(),
    () => this.#diagnostics(),
    () => this.#network?.ensure(),
    () => {
      const restored = this.#datapath?.repair() ?? [];
      if (restored.length > 0) {
        this.#log.warn('removed pins were restored', { pins: restored.join(' ') });
      }
    },
    () => this.#runDirectory.prepare(),
    () => this.#audit?.look(),
    () => this.#attempt('compatibility', () => this.#compatibility?.look()),
    () => this.#keeper.tend(),
    () => this.#garbage.look(this.#controller?.counters.applied ?? 0),
    () => this.#syncSocket?.retry(),
    () => this.#gate?.ensure(),
    () => this.#attempt('sandboxes', () => this.#gate?.readSandboxes()),
  ];

  #reconcilePolicy(): Promise<void> {
    return this.#attempt('policy', () => this.#controller?.reconcile());
  }

  /** What fails is in the log and in status until it works; nothing else waits for it. */
  async #attempt(what: string, work: () => Promise<void> | void): Promise<void> {
    try {
      await work();
      this.#failed.delete(what);
    } catch (error) {
      // What it works on may be closed by now.
      if (this.#isStopping) return;
      const failure = TandemError.from(error);
      if (this.#failed.get(what) !== failure.message) {
        this.#log.error('a step of the reconciliation failed and will be tried again', {
          what,
          error: failure,
        });
      }
      this.#failed.set(what, failure.message);
    }
  }

  #stepProblems(): readonly Degradation[] {
    return [...this.#failed].map(([step, reason]) =>
      degradation('not-reconciled', {
        message: `the step ${step} of the reconciliation fails: ${reason}; the former state stays in force`,
      }),
    );
  }

  #viewProblems(): readonly Degradation[] {
    return [...(this.#view?.problems ?? [])].map(([kind, reason]) =>
      degradation('network-unreadable', {
        message: `${kind} of the node cannot be read: ${reason}; the agent goes on with the last reading`,
      }),
    );
  }

  #nodeContext(): NodeContext {
    const config = this.#config;
    return {
      nodeName: config.nodeName,
      clusterName: config.clusterName,
      localAddresses: this.#localAddresses?.get() ?? [],
      ...(config.podCidrs.length > 0 ? { localPodCidrs: config.podCidrs } : {}),
      clusterCidrs: config.clusterCidrs,
      serviceCidrs: config.serviceCidrs,
      ...(config.clusterResolvers.length > 0 ? { clusterResolvers: config.clusterResolvers } : {}),
      nodeLocalDns: config.nodeLocalDns,
      redirectNamespaces: config.redirectNamespaces,
    };
  }
}

/** The policy that members serve since before this process. */
function servedPolicy({ snapshot }: SnapshotStart): MemberPolicy | null {
  const decoded = snapshot === null ? null : decodePolicySnapshot(snapshot);
  return decoded?.ok === true ? memberPolicyOf(decoded.value) : null;
}

function defaultObjectPath(): string {
  return fileURLToPath(new URL('../../../bpf/build/tandem.bpf.o', import.meta.url));
}
