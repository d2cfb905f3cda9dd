// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent: loads the datapath, serves DNS beside the proxy, compiles policy from its source and keeps
 * everything as it should be.
 */

import { chownSync, mkdirSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { netnsCookie } from '@tandem/bpf-loader-node/netns';
import { parseAddress } from '@tandem/core/net/ip';
import type { NodeContext } from '@tandem/core/policy/cluster-state';
import type { MemberPolicy } from '@tandem/core/policy/desired';
import { TD_HEARTBEAT_STALE_NS } from '@tandem/datapath/abi.gen';
import { Datapath, removePins } from '@tandem/datapath/datapath';
import {
  agentAdminPath,
  agentMember,
  markOf,
  peerSocketPath,
  snapshotPath,
  syncSocketPath,
} from '@tandem/dns-proxy/config';
import { DnsMember } from '@tandem/dns-proxy/dns-member';
import { MemberServices } from '@tandem/dns-proxy/member-services';
import { logIndexTaken, logPeer } from '@tandem/dns-proxy/peer/log';
import { exchangeHandler } from '@tandem/dns-proxy/sync/exchange-stream';
import { SyncService } from '@tandem/proto/gen/services';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { GrpcServer } from '@tandem/runtime/grpc-server';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import { readSnapshotFile } from '@tandem/runtime/snapshot-file';
import { TandemError } from '@tandem/runtime/tandem-error';
import type { AgentConfig } from './config.ts';
import { peerCacheTimeoutMs, reconcileIntervalMs } from './limits.ts';
import { GroupAudit } from './node/group-audit.ts';
import {
  ensureNetworkRules,
  type NetworkRulesOptions,
  removeNetworkRules,
} from './node/network-rules.ts';
import { ClusterBuilder } from './policy/cluster-builder.ts';
import { PolicyController } from './policy/controller.ts';
import { memberPolicyOf } from './policy/snapshot.ts';
import { DirectorySource } from './source/directory.ts';
import { PolicyServer } from './sync/policy-server.ts';

const agentRole = 0;

export class Agent implements Component {
  readonly name = 'agent';
  readonly #config: AgentConfig;
  readonly #log: Logger;
  readonly #onFailure: (error: TandemError) => void;
  readonly #rules: NetworkRulesOptions;
  #datapath: Datapath | null = null;
  #member: DnsMember | null = null;
  #server: GrpcServer | null = null;
  #source: DirectorySource | null = null;
  #controller: PolicyController | null = null;
  #timer: NodeJS.Timeout | null = null;
  #services: MemberServices | null = null;
  #audit: GroupAudit | null = null;

  constructor(config: AgentConfig, log: Logger, onFailure: (error: TandemError) => void) {
    this.#config = config;
    this.#log = log;
    this.#onFailure = onFailure;
    this.#rules = {
      mark: markOf(config),
      port: config.port,
      routingTable: config.routingTable,
      rulePriority: config.rulePriority,
    };
  }

  async start(signal: AbortSignal): Promise<void> {
    const config = this.#config;
    prepareDirectories(config);
    this.#datapath = this.#load();
    await ensureNetworkRules(this.#rules);
    const member = new DnsMember({
      pinRoot: config.bpffsDir,
      member: agentMember,
      role: agentRole,
      port: config.port,
      mark: markOf(config),
      ownerUid: config.proxyUid,
      peerPath: peerSocketPath(config),
      denial: config.denial,
      graceSeconds: config.fqdnGraceSeconds,
      ttlSecondsMin: config.ttlSecondsMin,
      queriesPerSecond: config.queriesPerSecond,
      drainTimeoutMs: config.drainTimeout,
      keepsTables: true,
      onEvent: (bytes, at, length) => this.#services?.onDnsEvent(bytes, at, length),
      onFailure: this.#onFailure,
      onPeer: (event, index) => logPeer(this.#log, event, index),
      onIndexTaken: (path) => logIndexTaken(this.#log, path),
    });
    this.#member = member;
    this.#audit = new GroupAudit(this.#datapath, config.port, this.#log);
    const services = this.#createServices(member, this.#datapath);
    this.#services = services;
    await services.start(this.#datapath);
    await member.start(signal);
    if (signal.aborted) return;
    const served = await this.#installSnapshot(services);
    const policyServer = new PolicyServer(this.#log);
    this.#controller = new PolicyController({
      datapath: this.#datapath,
      server: policyServer,
      install: (snapshot) => services.install(snapshot, 'agent'),
      backfill: (selectors) => services.feedSelectors(selectors),
      snapshotPath: snapshotPath(config),
      proxyGid: config.proxyUid,
      stateDir: config.stateDir,
      log: this.#log,
      nodeContext: () => this.#nodeContext(),
      served,
    });
    await this.#serve(policyServer, services);
    await services.peerCache(peerCacheTimeoutMs);
    await this.#watch(this.#controller);
  }

  async stop(): Promise<void> {
    this.#source?.stop();
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#server?.stop();
    await this.#member?.stop();
    await this.#services?.stop();
    this.#datapath?.[Symbol.dispose]();
    if (!this.#config.removeOnStop) return;
    removePins(this.#config.bpffsDir);
    await removeNetworkRules(this.#rules);
  }

  #createServices(member: DnsMember, datapath: Datapath): MemberServices {
    return new MemberServices({
      config: this.#config,
      role: 'agent',
      index: agentMember,
      member,
      adminPath: agentAdminPath(this.#config.runDir),
      log: this.#log,
      diagnostics: () => this.#controller?.diagnostics ?? [],
      degradations: () => [
        ...(datapath.isJudging() ? [] : [judgeMissing]),
        ...(this.#audit?.degradations ?? []),
      ],
      interfaceNames: () =>
        new Map(
          this.#controller?.endpoints.map((endpoint) => [
            endpoint.interface.vethIfindex,
            endpoint.interface.name,
          ]),
        ),
    });
  }

  #load(): Datapath {
    const config = this.#config;
    return Datapath.load({
      objectPath: config.bpfObject === '' ? defaultObjectPath() : config.bpfObject,
      pinRoot: config.bpffsDir,
      sharedGid: config.proxyUid,
      cgroupPath: config.cgroupPath === '' ? null : config.cgroupPath,
      config: {
        mark: markOf(config),
        port: config.port,
        ownerUid: config.proxyUid,
        netnsCookie: netnsCookie(),
        staleNs: TD_HEARTBEAT_STALE_NS,
        fqdnIdleSeconds: config.fqdnIdleSeconds,
        quotaNamespace: config.quotaNamespace,
        quotaSelector: config.quotaSelector,
      },
    });
  }

  /** Serves at once with the last policy; the source may be unreachable. Null: there is none. */
  async #installSnapshot(services: MemberServices): Promise<MemberPolicy | null> {
    const read = await readSnapshotFile(snapshotPath(this.#config));
    if (!read.ok) {
      this.#log.info('no policy snapshot', { reason: read.error.message });
      return null;
    }
    const decoded = decodePolicySnapshot(read.value);
    const policy = decoded.ok ? memberPolicyOf(decoded.value) : null;
    if (!decoded.ok || policy === null) {
      const reason = decoded.ok ? 'a pattern is not canonical' : decoded.error;
      this.#log.warn('policy snapshot is of no use', { reason });
      return null;
    }
    await services.install(read.value, 'snapshot');
    this.#log.info('policy in force from the snapshot', { revision: policy.revision });
    return policy;
  }

  async #serve(policyServer: PolicyServer, services: MemberServices): Promise<void> {
    const { proxyUid } = this.#config;
    this.#server = new GrpcServer({
      path: syncSocketPath(this.#config),
      allowedUids: [0, proxyUid],
      groupId: proxyUid,
      log: this.#log,
    });
    this.#server.addService(SyncService, {
      policy: policyServer.handle,
      exchange: exchangeHandler(services.exchange),
    });
    services.countServer('sync', this.#server);
    await this.#server.start();
  }

  /** Reads the source, applies it, and from then on every change and every interval again. */
  async #watch(controller: PolicyController): Promise<void> {
    const builder = new ClusterBuilder();
    const directory = this.#config.source.slice('directory:'.length);
    const { promise: first, resolve } = Promise.withResolvers<void>();
    this.#source = new DirectorySource(directory, (state) => {
      void controller.update(builder.build(state)).then(resolve);
    });
    this.#source.start();
    await first;
    this.#timer = setInterval(() => void this.#reconcile(controller), reconcileIntervalMs);
  }

  async #reconcile(controller: PolicyController): Promise<void> {
    try {
      await ensureNetworkRules(this.#rules);
    } catch (error) {
      this.#log.error('network rules could not be put back', { error: TandemError.from(error) });
    }
    this.#datapath?.ensureJudging();
    await this.#audit?.look();
    await controller.reconcile();
  }

  #nodeContext(): NodeContext {
    const config = this.#config;
    // Not those of scope link: each veth has one, so a pod that comes or goes would be a policy change.
    const localAddresses = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
      .filter((address) => address.family === 'IPv4' || address.scopeid === 0)
      .map(({ address }) => parseAddress(address))
      .filter((address) => address !== null);
    return {
      nodeName: config.nodeName,
      clusterName: config.clusterName,
      localAddresses,
      ...(config.podCidrs.length > 0 ? { localPodCidrs: config.podCidrs } : {}),
      clusterCidrs: config.clusterCidrs,
      serviceCidrs: config.serviceCidrs,
      ...(config.clusterResolvers.length > 0 ? { clusterResolvers: config.clusterResolvers } : {}),
      nodeLocalDns: config.nodeLocalDns,
    };
  }
}

const judgeMissing = {
  code: 'judge-not-attached',
  message: 'the programs that enforce policy are not attached to all netfilter hooks of this node',
  fix: 'restart the agent: it attaches them again; find out who detached them',
};

function prepareDirectories(config: AgentConfig): void {
  for (const directory of [config.runDir, config.stateDir]) {
    mkdirSync(directory, { recursive: true, mode: 0o750 });
    chownSync(directory, 0, config.proxyUid);
  }
  const admin = `${config.runDir}/proxy`;
  mkdirSync(admin, { recursive: true, mode: 0o750 });
  chownSync(admin, config.proxyUid, config.proxyUid);
  mkdirSync(dirname(config.bpffsDir), { recursive: true });
}

function defaultObjectPath(): string {
  return fileURLToPath(new URL('../../../bpf/build/tandem.bpf.o', import.meta.url));
}
