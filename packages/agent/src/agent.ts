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
import { TD_HEARTBEAT_STALE_NS } from '@tandem/datapath/abi.gen';
import { Datapath, removePins } from '@tandem/datapath/datapath';
import { agentMember, markOf, snapshotPath, syncSocketPath } from '@tandem/dns-proxy/config';
import { DnsMember } from '@tandem/dns-proxy/dns-member';
import { SyncService } from '@tandem/proto/gen/services';
import { decodePolicySnapshot } from '@tandem/proto/snapshot';
import { GrpcServer } from '@tandem/runtime/grpc-server';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import { readSnapshotFile } from '@tandem/runtime/snapshot-file';
import { TandemError } from '@tandem/runtime/tandem-error';
import type { AgentConfig } from './config.ts';
import { reconcileIntervalMs } from './limits.ts';
import {
  ensureNetworkRules,
  type NetworkRulesOptions,
  removeNetworkRules,
} from './node/network-rules.ts';
import { ClusterBuilder } from './policy/cluster-builder.ts';
import { PolicyController } from './policy/controller.ts';
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

  async start(): Promise<void> {
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
      denial: config.denial,
      graceSeconds: config.fqdnGraceSeconds,
      ttlSecondsMin: config.ttlSecondsMin,
      queriesPerSecond: config.queriesPerSecond,
      drainTimeoutMs: config.drainTimeout,
      onEvent: () => undefined,
      onFailure: this.#onFailure,
    });
    this.#member = member;
    await member.start();
    const lastRevision = await this.#installSnapshot(member);
    const policyServer = new PolicyServer(this.#log);
    this.#controller = new PolicyController({
      datapath: this.#datapath,
      server: policyServer,
      install: (snapshot) => member.install(snapshot),
      snapshotPath: snapshotPath(config),
      proxyGid: config.proxyUid,
      stateDir: config.stateDir,
      log: this.#log,
      nodeContext: () => this.#nodeContext(),
      lastRevision,
    });
    await this.#serve(policyServer);
    await this.#watch(this.#controller);
  }

  async stop(): Promise<void> {
    this.#source?.stop();
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.#server?.stop();
    await this.#member?.stop();
    this.#datapath?.[Symbol.dispose]();
    if (!this.#config.removeOnStop) return;
    removePins(this.#config.bpffsDir);
    await removeNetworkRules(this.#rules);
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

  /** Serves at once with the last policy; the source may be unreachable. Returns its revision, or 0. */
  async #installSnapshot(member: DnsMember): Promise<number> {
    const read = await readSnapshotFile(snapshotPath(this.#config));
    if (!read.ok) {
      this.#log.info('no policy snapshot', { reason: read.error.message });
      return 0;
    }
    const decoded = decodePolicySnapshot(read.value);
    if (!decoded.ok) {
      this.#log.warn('policy snapshot is of no use', { reason: decoded.error });
      return 0;
    }
    await member.install(read.value);
    this.#log.info('policy in force from the snapshot', { revision: decoded.value.revision });
    return decoded.value.revision;
  }

  async #serve(policyServer: PolicyServer): Promise<void> {
    const { proxyUid } = this.#config;
    this.#server = new GrpcServer({
      path: syncSocketPath(this.#config),
      allowedUids: [0, proxyUid],
      groupId: proxyUid,
      log: this.#log,
    });
    this.#server.addService(SyncService, {
      policy: policyServer.handle,
      exchange: (call) => call.end(),
    });
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
    await controller.reconcile();
  }

  #nodeContext(): NodeContext {
    const config = this.#config;
    const localAddresses = Object.values(networkInterfaces())
      .flatMap((addresses) => addresses ?? [])
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
