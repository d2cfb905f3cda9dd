// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent's parts beside its DNS member: the order in which they start and stop, and the reconciliation that compares them
 * with their desired state every few seconds. It works only while the agent has its index.
 */

import { randomInt } from 'node:crypto';
import type { ClusterState, NodeContext } from '@tandem/core/policy/model/cluster-state';
import type { MemberPolicy } from '@tandem/core/policy/model/desired';
import { agentMember } from '@tandem/datapath/member';
import type { Degradation } from '@tandem/dns-proxy/admin/degradation';
import { agentAdminPath, snapshotPaths } from '@tandem/dns-proxy/config';
import type { DnsMember } from '@tandem/dns-proxy/dns-member';
import type { RunDirectory } from '@tandem/dns-proxy/run-directory';
import { MemberServices } from '@tandem/dns-proxy/services/member-services';
import type { SnapshotStart } from '@tandem/dns-proxy/snapshot-start';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import type { Logger } from '@tandem/runtime/log';
import { loopTimers, runTask, wait } from '@tandem/runtime/task';
import { addNetworkMetrics, addPolicyMetrics, addSnapshotMetrics } from './agent-metrics.ts';
import { Attempts } from './attempts.ts';
import type { AgentConfig } from './config.ts';
import { AttachAgain } from './endpoint/attach-again.ts';
import { Attacher } from './endpoint/attacher.ts';
import type { PodInterface } from './endpoint/pod-interface.ts';
import { EnforcedPods } from './gate/enforced-pods.ts';
import { GateStack } from './gate/gate-stack.ts';
import { Sandboxes } from './gate/sandboxes.ts';
import { peerCacheTimeoutMs, reconcileIntervalMs } from './limits.ts';
import { type ChainInterface, ChainWatch, exitsOf } from './node/chain-watch.ts';
import { Compatibility } from './node/compatibility.ts';
import { GroupAudit } from './node/group-audit.ts';
import { LocalAddresses } from './node/local-addresses.ts';
import { NetworkStack } from './node/network-stack.ts';
import { NodeDatapath } from './node-datapath.ts';
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
  readonly #node: NodeDatapath;
  readonly #runDirectory: RunDirectory;
  readonly #keeper: StateKeeper;
  readonly #garbage = new QuietGarbage();
  #hasIndex = false;
  #served: SnapshotStart | null = null;
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
  #attacher: Attacher | null = null;
  #attachAgain: AttachAgain | null = null;
  #timer: NodeJS.Timeout | null = null;
  /** One at a time: with many pods one may take longer than the interval. */
  #isReconciling = false;
  /** Steps of a reconciliation that runs are left out: they would find closed objects, or make removed ones again. */
  #isStopping = false;
  #services: MemberServices | null = null;
  #audit: GroupAudit | null = null;
  #compatibility: Compatibility | null = null;
  #chains: ChainWatch | null = null;
  #exits: readonly ChainInterface[] = [];
  readonly #attempts: Attempts;
  readonly #firstSeen = new FirstSeen(Date.now);

  constructor({ config, member, runDirectory, log }: AgentControlOptions) {
    this.#config = config;
    this.#log = log;
    this.#member = member;
    this.#node = new NodeDatapath(config, log);
    this.#attempts = new Attempts(log);
    this.#runDirectory = runDirectory;
    this.#keeper = new StateKeeper({
      stateDir: config.stateDir,
      paths: snapshotPaths(config),
      proxyGid: config.proxyUid,
      log,
    });
  }

  /** Puts this version's programs in force. @throws BpfError, SchemaError, TandemError: those before stay */
  async load(): Promise<void> {
    this.#hasIndex = true;
    this.#keeper.prepare();
    await this.#node.load();
  }

  /** Reads the API server without the index, and applies nothing. Resolves when every kind was read once. */
  async readAhead(): Promise<void> {
    // A directory of files is read in no time, and copies of them are written.
    if (this.#config.source !== kubernetesSource || this.#hasIndex) return;
    this.#source = this.#createSource();
    await this.#source.readAhead();
  }

  /** `DnsMember.onEvent` */
  onDnsEvent(bytes: Uint8Array, at: number, length: number): void {
    this.#services?.onDnsEvent(bytes, at, length);
  }

  /** After `load`, with what the member serves. */
  async start(served: SnapshotStart, signal: AbortSignal): Promise<void> {
    const { datapath, view, rules } = this.#node;
    this.#served = served;
    this.#network = new NetworkStack(view, rules, this.#log);
    await this.#network.start();
    this.#localAddresses = new LocalAddresses(view);
    this.#audit = new GroupAudit(datapath, this.#config.port, this.#log);
    this.#compatibility = new Compatibility({
      datapath,
      view,
      interfaces: () => this.#interfaces,
    });
    this.#chains = new ChainWatch({
      datapath,
      interfaces: () => [...this.#interfaces, ...this.#exits],
      log: this.#log,
    });
    const services = this.#createServices(this.#member);
    this.#services = services;
    addSnapshotMetrics(services.metrics, () => this.#keeper.counters);
    addNetworkMetrics(services.metrics, () => this.#network?.counters ?? {});
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
    const network = this.#network;
    const attacher = new Attacher(datapath, view, this.#config, (devices) => {
      this.#exits = exitsOf(devices);
      void network.guardArp(devices);
    });
    this.#attacher = attacher;
    // At the first start it waits until pods' programs are attached, as judge does.
    if (datapath.isJudging()) void network.guardArp(attacher.devices());
    this.#controller = new PolicyController({
      datapath,
      attacher,
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
    this.#attachAgain = new AttachAgain(this.#controller, attacher);
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
    const unread = (): string => this.#source?.unread ?? '';
    await this.#gate.start(new EnforcedPods(this.#controller, unread));
    await this.#attempts.try('sandboxes', () => this.#gate?.readSandboxes());
    await this.#attempts.try('compatibility', () => this.#compatibility?.look());
    this.#ignoreAddresses = this.#localAddresses.onChange(() => void this.#reconcilePolicy());
    // Bridges learn all the time, and their entries of pods stay (bridge-entries.ts): the next round suffices.
    view.onChange((kinds) => {
      if (kinds.has('links') || kinds.has('routes')) void this.#controller?.reattach();
    });
    this.#timer = setInterval(() => {
      if (this.#isReconciling) return;
      this.#isReconciling = true;
      void this.#reconcile().finally(() => {
        this.#isReconciling = false;
      });
    }, reconcileIntervalMs);
  }

  /** Why this process is not ready. */
  get blockers(): readonly string[] {
    return this.#services?.blockers ?? ['it has not started'];
  }

  /** No change of policy begins any more. */
  async stopWriting(): Promise<void> {
    this.#isStopping = true;
    this.#attempts.stop();
    await this.#gate?.stop();
    // First, and before work in flight is waited for: after this agent no process lets a pod start.
    if (this.#removes) this.#gate?.remove();
    await this.#source?.stop();
    this.#ignoreAddresses?.();
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#attachAgain?.stop();
  }

  async stop(): Promise<void> {
    // Not before the member's end: it learns names as long as it answers.
    await this.#syncSocket?.stop();
    await this.#attacher?.stop();
    await this.#services?.stop();
    await this.#node.stop();
    await this.#network?.stop();
    await this.#redirects?.stop();
    this.#audit?.close();
    if (this.#removes) await this.#node.remove();
    this.#node.close();
  }

  /** Only the holder of the index may remove pins, rules and routes. */
  get #removes(): boolean {
    return this.#config.removeOnStop && this.#hasIndex;
  }

  #createSource(): EarlySource {
    const open = (apply: (cluster: ClusterState) => Promise<void>): ObjectSource =>
      openSource({
        config: this.#config,
        sandboxes: this.#sandboxes,
        isInForce: this.#controller?.wasInForce === true,
        apply,
        log: this.#log,
      });
    return new EarlySource(open, async (cluster) => this.#controller?.update(cluster));
  }

  #createServices(member: DnsMember): MemberServices {
    return new MemberServices({
      config: this.#config,
      index: agentMember,
      member,
      adminPath: agentAdminPath(this.#config.runDir),
      log: this.#log,
      diagnostics: () => this.#diagnostics(),
      degradations: () => [
        ...this.#node.degradations,
        ...this.#attempts.degradations,
        ...(this.#network?.degradations ?? []),
        ...(this.#redirects?.degradations ?? []),
        ...this.#runDirectory.degradations,
        ...(this.#audit?.degradations ?? []),
        ...(this.#compatibility?.degradations ?? []),
        ...(this.#chains?.degradations ?? []),
        ...this.#snapshotProblems(),
        ...this.#keeper.degradations,
        ...(this.#syncSocket?.degradations ?? []),
        ...(this.#source?.degradations ?? []),
        ...(this.#gate?.degradations ?? []),
      ],
      notes: () => [...(this.#source?.notes ?? []), ...(this.#redirects?.notes ?? [])],
      unready: () => this.#compatibility?.degradations ?? [],
      ruleOf: (ruleId) => this.#controller?.applied?.rules.get(ruleId),
      interfaceNames: () =>
        new Map(
          this.#controller?.endpoints.map((endpoint) => [
            endpoint.interface.vethIfindex,
            endpoint.interface.name,
          ]),
        ),
    });
  }

  /** Problems of the snapshot file at the start, until another policy is in force. */
  #snapshotProblems(): readonly Degradation[] {
    const served = this.#served;
    return served !== null && this.#member.revision === served.revision ? served.degradations : [];
  }

  /** Interfaces of the pods under policy: one for each address. */
  get #interfaces(): readonly PodInterface[] {
    return this.#controller?.endpoints.map((each) => each.interface) ?? [];
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

  /** Compares the node with the desired state and restores it, every few seconds. Never rejects. */
  async #reconcile(): Promise<void> {
    for (const step of this.#steps) {
      if (this.#isStopping) return;
      // oxlint-disable-next-line no-await-in-loop -- one after the other, enforcement first
      await step();
    }
  }

  /** None of them keeps the others from being looked at. */
  readonly #steps: readonly (() => unknown)[] = [
    () =>
      this.#isEnforcing() && this.#attempts.try('judge', () => this.#node.datapath.ensureJudging()),
    () => this.#reconcilePolicy(),
    () => this.#diagnostics(),
    () => this.#network?.ensure(),
    () => {
      const restored = this.#node.datapath.repair();
      if (restored.length > 0) {
        this.#log.warn('removed pins were restored', { pins: restored.join(' ') });
      }
    },
    () => this.#runDirectory.prepare(),
    () => this.#audit?.look(),
    () => this.#attempts.try('compatibility', () => this.#compatibility?.look()),
    () => this.#attempts.try('tcx chains', () => this.#chains?.look()),
    () => this.#keeper.tend(),
    () => this.#garbage.look(this.#controller?.counters.applied ?? 0),
    () => this.#syncSocket?.retry(),
    () => this.#gate?.ensure(),
    () => this.#attempts.try('sandboxes', () => this.#gate?.readSandboxes()),
  ];

  #reconcilePolicy(): Promise<void> {
    return this.#attempts.try('policy', () => this.#controller?.reconcile());
  }

  #nodeContext(): NodeContext {
    const config = this.#config;
    return {
      nodeName: config.nodeName,
      clusterName: config.clusterName,
      localAddresses: this.#localAddresses?.get() ?? [],
      linkLocalAddresses: this.#localAddresses?.atBridges() ?? [],
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
