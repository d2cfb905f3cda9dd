// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The standalone DNS proxy: a member of the group, the snapshot on disk, and the link to the agent.
 * Starts and enforces with the agent away; needs only what is pinned and the snapshot.
 */

import { accessSync, constants } from 'node:fs';
import { pinPaths } from '@tandem/datapath/paths';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import { readSnapshotFile } from '@tandem/runtime/snapshot-file';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type MemberConfig, markOf, proxyMember, snapshotPath, syncSocketPath } from './config.ts';
import { DnsMember } from './dns-member.ts';
import { pinPollMs } from './limits.ts';
import { createPolicyClient } from './sync/policy-client.ts';

const proxyRole = 1;

export class DnsProxy implements Component {
  readonly name = 'DNS proxy';
  readonly member: DnsMember;
  readonly #config: MemberConfig;
  readonly #log: Logger;
  readonly #policy: ReturnType<typeof createPolicyClient>;

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
      denial: config.denial,
      graceSeconds: config.fqdnGraceSeconds,
      ttlSecondsMin: config.ttlSecondsMin,
      queriesPerSecond: config.queriesPerSecond,
      drainTimeoutMs: config.drainTimeout,
      onEvent: () => undefined,
      onFailure,
    });
    this.#policy = createPolicyClient({
      path: syncSocketPath(config),
      member: proxyMember,
      log,
      revision: () => this.member.revision,
      install: (snapshot) => this.member.install(snapshot),
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.#waitForPins(signal);
    await this.member.start();
    await this.#installSnapshot();
    this.#policy.start();
  }

  async stop(): Promise<void> {
    this.#policy.stop();
    await this.member.stop();
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
      await this.member.install(read.value);
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
