// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The standalone DNS proxy: a member of the group, the snapshot on disk, and the link to the agent.
 * Starts and enforces with the agent away; needs only what is pinned and the snapshot.
 */

import { accessSync, constants } from 'node:fs';
import { Datapath } from '@tandem/datapath/datapath';
import { pinPaths } from '@tandem/datapath/paths';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import { readSnapshotFile } from '@tandem/runtime/snapshot-file';
import { TandemError } from '@tandem/runtime/tandem-error';
import {
  type MemberConfig,
  markOf,
  peerSocketPath,
  proxyAdminPath,
  proxyMember,
  snapshotPath,
  syncSocketPath,
} from './config.ts';
import { DnsMember } from './dns-member.ts';
import { pinPollMs } from './limits.ts';
import { MemberServices } from './member-services.ts';
import { logIndexTaken, logPeer } from './peer/log.ts';
import { collectStartGarbage } from './start-garbage.ts';
import { createExchangeClient } from './sync/exchange-stream.ts';
import { createPolicyClient } from './sync/policy-client.ts';

const proxyRole = 1;

export class DnsProxy implements Component {
  readonly name = 'DNS proxy';
  readonly member: DnsMember;
  readonly #config: MemberConfig;
  readonly #log: Logger;
  readonly #policy: ReturnType<typeof createPolicyClient>;
  readonly #services: MemberServices;
  readonly #exchange: ReturnType<typeof createExchangeClient>;
  #datapath: Datapath | null = null;

  constructor(config: MemberConfig, log: Logger, onFailure: (error: TandemError) => void) {
    this.#config = config;
    this.#log = log;
    this.member = new DnsMember({
      pinRoot: config.bpffsDir,
      member: proxyMember,
      role: proxyRole,
      port: config.port,
      mark: markOf(config),
      ownerUid: config.proxyUid,
      peerPath: peerSocketPath(config),
      denial: config.denial,
      graceSeconds: config.fqdnGraceSeconds,
      ttlSecondsMin: config.ttlSecondsMin,
      queriesPerSecond: config.queriesPerSecond,
      drainTimeoutMs: config.drainTimeout,
      onEvent: (bytes, at, length) => this.#services.onDnsEvent(bytes, at, length),
      onFailure,
      onPeer: (event, index) => logPeer(log, event, index),
      onIndexTaken: (path) => logIndexTaken(log, path),
    });
    this.#services = new MemberServices({
      config,
      role: 'dns-proxy',
      index: proxyMember,
      member: this.member,
      adminPath: proxyAdminPath(config.runDir),
      log,
      exchangeError: () => this.#exchange.lastError?.message ?? '',
    });
    this.#exchange = createExchangeClient(this.#services.exchange, syncSocketPath(config), log);
    this.#policy = createPolicyClient({
      path: syncSocketPath(config),
      member: proxyMember,
      log,
      revision: () => this.member.revision,
      install: (snapshot) => this.#services.install(snapshot, 'agent'),
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.#waitForPins(signal);
    if (signal.aborted) return;
    this.#datapath = Datapath.open(this.#config.bpffsDir, { isMember: true });
    await this.#services.start(this.#datapath);
    await this.member.start(signal);
    if (signal.aborted) return;
    await this.#installSnapshot();
    this.#policy.start();
    this.#exchange.start();
    collectStartGarbage();
  }

  async stop(): Promise<void> {
    this.#policy.stop();
    await this.member.stop();
    this.#exchange.stop();
    await this.#services.stop();
    this.#datapath?.[Symbol.dispose]();
  }

  /** The agent must have run once since the node booted: it loads what we serve with. */
  async #waitForPins(signal: AbortSignal): Promise<void> {
    // The agent shares this pin last of all.
    const pin = pinPaths(this.#config.bpffsDir).program('select_member');
    let hasSaid = false;
    while (!isAccessible(pin)) {
      if (signal.aborted) return;
      if (!hasSaid) this.#log.info('waiting for the agent to load the datapath', { pin });
      hasSaid = true;
      // oxlint-disable-next-line no-await-in-loop -- a poll: bpffs has no notifications
      await new Promise((resolve) => {
        setTimeout(resolve, pinPollMs);
      });
    }
  }

  async #installSnapshot(): Promise<void> {
    const path = snapshotPath(this.#config);
    const read = await readSnapshotFile(path);
    if (!read.ok) {
      this.#log.info('no policy snapshot yet, waiting for the agent', {
        reason: read.error.message,
      });
      return;
    }
    try {
      await this.#services.install(read.value, 'snapshot');
      this.#log.info('policy in force from the snapshot', { revision: this.member.revision });
    } catch (error) {
      this.#log.error('the policy snapshot is of no use, waiting for the agent', {
        error: TandemError.from(error),
      });
    }
  }
}

function isAccessible(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}
