// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The standalone DNS proxy: a member of the group, the saved policy, and the link to the agent.
 * Starts and enforces with the agent away; needs only what is pinned and the snapshot.
 */

import { accessSync, constants } from 'node:fs';
import { dirname } from 'node:path';
import { proxyMember } from '@tandem/datapath/member';
import { pinPaths, sharedMaps } from '@tandem/datapath/paths';
import { memberAbi } from '@tandem/datapath/schema';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import type { TandemError } from '@tandem/runtime/tandem-error';
import { type MemberConfig, proxyAdminPath, snapshotPaths } from './config.ts';
import { DnsMember } from './dns-member.ts';
import { pinPollMs } from './limits.ts';
import type { MemberPhase } from './member-phase.ts';
import { dnsMemberOptions, type MemberParts } from './member-process.ts';
import type { ProxyServices } from './proxy-services.ts';
import { startFromSnapshot } from './snapshot-start.ts';
import { collectStartGarbage } from './start-garbage.ts';

export class DnsProxy implements Component {
  readonly name = 'DNS proxy';
  readonly member: DnsMember;
  readonly #config: MemberConfig;
  readonly #log: Logger;
  readonly #phase: MemberPhase;
  readonly #onFailure: (error: TandemError) => void;
  #services: ProxyServices | null = null;

  constructor({ config, log, phase, onFailure }: MemberParts<MemberConfig>) {
    this.#onFailure = onFailure;
    this.#config = config;
    this.#log = log;
    this.#phase = phase;
    this.member = new DnsMember({
      ...dnsMemberOptions(
        { config, log, phase },
        { member: proxyMember, fenceDirectory: dirname(proxyAdminPath(config.runDir)) },
      ),
      onEvent: (bytes, at, length) => this.#services?.onDnsEvent(bytes, at, length),
      onFailure,
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    await this.#waitForPins(signal);
    const loaded = async () => import('./proxy-services.ts');
    await this.member.acquire(signal, { standBy: async () => void (await loaded()) });
    if (signal.aborted) return;
    const { member } = this;
    const [served] = await Promise.all([
      startFromSnapshot(member, snapshotPaths(this.#config), this.#log),
      member.start(),
    ]);
    if (signal.aborted) return;
    const { ProxyServices: Services } = await loaded();
    const services = new Services({
      ...{ config: this.#config, member, log: this.#log, served },
      onFailure: this.#onFailure,
    });
    this.#services = services;
    await services.start();
    this.#phase.servesWithout(() => services.blockers);
    collectStartGarbage();
  }

  async stop(): Promise<void> {
    this.#services?.stopPolicy();
    await this.member.stop();
    await this.#services?.stop();
  }

  /**
   * The agent must have run once since the node booted: it loads what we serve with. One of a version
   * before a shared map was replaced must be upgraded first.
   */
  async #waitForPins(signal: AbortSignal): Promise<void> {
    const root = this.#config.bpffsDir;
    let hasSaid = false;
    while (!signal.aborted) {
      const paths = pinPaths(root);
      const isShared = sharedMaps.every((name) => isAccessible(paths.map(name)));
      // The agent shares this pin last of all.
      const last = (): string => pinPaths(root, memberAbi(root)).program('select_member');
      if (isShared && isAccessible(last())) return;
      if (!hasSaid) this.#log.info('waiting for the agent to load the datapath', { pins: root });
      hasSaid = true;
      // oxlint-disable-next-line no-await-in-loop -- a poll: bpffs has no notifications
      await new Promise((resolve) => {
        setTimeout(resolve, pinPollMs);
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
