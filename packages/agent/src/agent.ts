// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The agent: takes its index, serves DNS from the last snapshot with the pinned maps, and only then loads its other code
 * (`agent-control.ts`).
 */

import { readPinnedSettings } from '@tandem/datapath/group-settings';
import { agentMember } from '@tandem/datapath/member';
import { refuseOtherDatapath } from '@tandem/datapath/other-datapath';
import { pinPaths } from '@tandem/datapath/paths';
import { makeDirectories } from '@tandem/datapath/pins';
import { isLoaded, planPins } from '@tandem/datapath/schema';
import { memberSettings, snapshotPaths } from '@tandem/dns-proxy/config';
import { DnsMember } from '@tandem/dns-proxy/dns-member';
import type { MemberPhase } from '@tandem/dns-proxy/member-phase';
import { dnsMemberOptions, type MemberParts } from '@tandem/dns-proxy/member-process';
import { RunDirectory } from '@tandem/dns-proxy/run-directory';
import { settingsProblem } from '@tandem/dns-proxy/settings';
import { type SnapshotStart, startFromSnapshot } from '@tandem/dns-proxy/snapshot-start';
import { collectStartGarbage } from '@tandem/dns-proxy/start-garbage';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import type { TandemError } from '@tandem/runtime/tandem-error';
import type { AgentControl } from './agent-control.ts';
import type { AgentConfig } from './config.ts';
import { failureOnNode, withoutDatapath } from './start-failure.ts';

export class Agent implements Component {
  readonly name = 'agent';
  readonly #config: AgentConfig;
  readonly #log: Logger;
  readonly #phase: MemberPhase;
  readonly #member: DnsMember;
  readonly #runDirectory: RunDirectory;
  #control: AgentControl | null = null;

  constructor({ config, log, phase, onFailure }: MemberParts<AgentConfig>) {
    this.#config = config;
    this.#log = log;
    this.#phase = phase;
    this.#runDirectory = new RunDirectory(config, log);
    this.#member = new DnsMember({
      ...dnsMemberOptions(
        { config, log, phase },
        { member: agentMember, fenceDirectory: config.runDir },
      ),
      keepsTables: true,
      onEvent: (bytes, at, length) => this.#control?.onDnsEvent(bytes, at, length),
      onFailure: (error) => void this.#fail(error, onFailure),
    });
  }

  async start(signal: AbortSignal): Promise<void> {
    const { bpffsDir } = this.#config;
    // Without the index nothing is loaded, attached or written: another agent may be the holder.
    await withoutDatapath(bpffsDir, () =>
      this.#member.acquire(signal, {
        prepare: () => makeDirectories(pinPaths(bpffsDir)),
        standBy: async () => void (await this.#createControl()),
        // An agent that cannot read its source is not ready, so the upgrade stops at this node.
        readAhead: async () => (await this.#createControl()).readAhead(),
      }),
    );
    if (signal.aborted) return;
    // Pins of an unknown version: they cannot serve even DNS.
    await withoutDatapath(bpffsDir, async () => {
      planPins(bpffsDir);
      await refuseOtherDatapath(bpffsDir);
    });
    this.#runDirectory.prepare();
    const served = this.#canServeBefore() ? await this.#serve() : null;
    if (signal.aborted) return;
    const control = await this.#createControl();
    await withoutDatapath(bpffsDir, () => control.load());
    await control.start(served ?? (await this.#serve()), signal);
    this.#phase.servesWithout(() => control.blockers);
    collectStartGarbage();
  }

  async stop(): Promise<void> {
    await this.#control?.stopWriting();
    await this.#member.stop();
    await this.#control?.stop();
  }

  /** Reports the failure with the state in which it leaves the node. */
  async #fail(error: TandemError, onFailure: (error: TandemError) => void): Promise<void> {
    onFailure(await failureOnNode(this.#config.bpffsDir, error, 'the DNS worker failed'));
  }

  /** Loads most of the program: no query waits for it, and a standby agent has it loaded. */
  async #createControl(): Promise<AgentControl> {
    const { AgentControl: Control } = await import('./agent-control.ts');
    this.#control ??= new Control({
      config: this.#config,
      member: this.#member,
      runDirectory: this.#runDirectory,
      log: this.#log,
    });
    return this.#control;
  }

  /** Whether the pinned programs can serve before this agent has loaded its own: with other settings queries would be lost. */
  #canServeBefore(): boolean {
    const { bpffsDir } = this.#config;
    if (!isLoaded(bpffsDir)) return false;
    return settingsProblem(memberSettings(this.#config), readPinnedSettings(bpffsDir)) === '';
  }

  async #serve(): Promise<SnapshotStart> {
    const [served] = await Promise.all([
      startFromSnapshot(this.#member, snapshotPaths(this.#config), this.#log),
      withoutDatapath(
        this.#config.bpffsDir,
        () => this.#member.start(),
        'the DNS worker cannot start',
      ),
    ]);
    return served;
  }
}
