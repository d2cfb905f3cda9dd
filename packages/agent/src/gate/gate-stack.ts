// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The gate of a node: its socket, its plugin in the CNI chain, and the sandboxes of before it. The chain is looked at
 * every few seconds and when its directory changes, because another program's configuration may come first again. A gate
 * that is turned off, or moved to another directory, is taken out of the chain in which it was.
 */

import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Degradation } from '@tandem/dns-proxy/admin/degradation';
import type { NetworkView } from '@tandem/netlink/network-view';
import type { Logger } from '@tandem/runtime/log';
import type { Metrics } from '@tandem/runtime/metrics';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type Enforcement, Gate } from './gate.ts';
import {
  type GatePlaces,
  gateConfigName,
  gateDraftName,
  gatePluginName,
  hasPlugin,
  installConfig,
  installPlugin,
  isInChain,
  removeConfig,
} from './gate-installer.ts';
import { addGateMetrics } from './gate-metrics.ts';
import { gateLeft, gateProblem } from './gate-problems.ts';
import { GateRecord } from './gate-record.ts';
import { GateServer } from './gate-server.ts';
import { ResultCache } from './result-cache.ts';
import type { Sandboxes } from './sandboxes.ts';
import { WaitTimes } from './wait-times.ts';

/** The interface that kubelet's runtimes ask CNI for. */
const podInterface = 'eth0';

export interface GateStackOptions {
  readonly runDirectory: string;
  readonly stateDirectory: string;
  /** '': no gate is put into the chain. */
  readonly configDirectory: string;
  readonly pluginDirectory: string;
  readonly resultsDirectory: string;
  /** The plugin that is installed; '': the one beside this program. */
  readonly program: string;
  readonly view: NetworkView;
  readonly sandboxes: Sandboxes;
  readonly log: Logger;
}

export class GateStack {
  readonly #o: GateStackOptions;
  readonly #places: GatePlaces;
  readonly #record: GateRecord;
  readonly #results: ResultCache;
  readonly #waits = new WaitTimes();
  #server: GateServer | null = null;
  /** By directory. */
  readonly #watchers = new Map<string, FSWatcher>();
  #problem: Degradation | null = null;
  /** Why the gate is still in a chain where it is not wanted; '': it is not. */
  #leftProblem = '';
  #hasWarned = false;
  /** A reconciliation that runs must not put back what was taken out of the chain. */
  #isStopped = false;

  constructor(options: GateStackOptions) {
    this.#o = options;
    this.#places = {
      configDirectory: options.configDirectory,
      pluginDirectory: options.pluginDirectory,
      socketPath: join(options.runDirectory, 'gate', 'gate.sock'),
    };
    this.#record = new GateRecord(options.stateDirectory);
    this.#results = new ResultCache(options.resultsDirectory, podInterface, options.view);
  }

  get degradations(): readonly Degradation[] {
    return [
      ...(this.#problem === null ? [] : [this.#problem]),
      ...(this.#leftProblem === '' ? [] : [gateLeft(this.#record.read(), this.#leftProblem)]),
    ];
  }

  addMetrics(metrics: Metrics): void {
    const counters = (): object => ({
      ...this.#server?.counters,
      sandboxesRefused: this.#o.sandboxes.counters.refused,
    });
    addGateMetrics(metrics, counters, this.#waits);
  }

  /**
   * Learns the sandboxes that did not come through the gate: those that are there already, and later, looked for every few
   * seconds, those whose ADD began while the gate was not in the chain.
   */
  async readSandboxes(): Promise<void> {
    const { sandboxes, log } = this.#o;
    const { sandboxes: found, problems } = await this.#results.readNew();
    for (const sandbox of found) {
      const known = sandboxes.of(sandbox.podKey, sandbox.uid);
      if (known?.containerId !== sandbox.containerId) sandboxes.add(sandbox);
    }
    for (const problem of problems) log.warn('a CNI result was ignored', { problem });
  }

  /** Serves the plugin, and then puts it into the chain. Never rejects: what fails is a degradation. */
  async start(enforcement: Enforcement): Promise<void> {
    const { configDirectory, view, sandboxes, log } = this.#o;
    if (configDirectory !== '') {
      const handler = new Gate({ view, sandboxes, enforcement });
      const { socketPath: path } = this.#places;
      this.#server = new GateServer({ path, handler, waits: this.#waits, log });
    }
    await this.ensure();
  }

  /** Makes or restores socket, plugin and configuration. Never rejects. */
  async ensure(): Promise<void> {
    if (this.#isStopped) return;
    this.#leaveFormer();
    const server = this.#server;
    if (server === null) return;
    try {
      if (!server.isReachable) await server.start();
    } catch (error) {
      this.#say(TandemError.from(error).message);
      return;
    }
    if (this.#isStopped) return server.stop();
    this.#say(this.#install());
  }

  /** Why the plugin is not in the chain; null: it is. */
  #install(): string | null {
    const { configDirectory } = this.#places;
    const installed = installPlugin(this.#program(), this.#places);
    // Without the program no pod could start, and none end.
    if (!installed.ok && !hasPlugin(this.#places)) {
      return [installed.error, this.#takeOut(configDirectory)].filter(Boolean).join('; ');
    }
    this.#writeDown(() => this.#record.write(configDirectory));
    const outcome = installConfig(this.#places);
    try {
      this.#watch();
    } catch (error) {
      if (outcome.ok) return TandemError.from(error).message;
    }
    if (!outcome.ok) return outcome.error;
    const { kind } = outcome.value;
    if (kind === 'written' || kind === 'removed') {
      this.#o.log.info('the CNI chain of this node was changed', {
        file: join(configDirectory, gateConfigName),
        ...outcome.value,
      });
    }
    if (kind === 'written' || kind === 'unchanged') return installed.ok ? null : installed.error;
    return `no CNI plugin has put a configuration into ${configDirectory} yet`;
  }

  /** Where the gate was put by an agent with other settings. */
  #leaveFormer(): void {
    const former = this.#record.read();
    if (former === '' || former === this.#places.configDirectory) {
      this.#leftProblem = '';
      return;
    }
    this.#leftProblem = this.#takeOut(former);
    if (this.#leftProblem === '') this.#writeDown(() => this.#record.forget());
  }

  /** Why the configuration could not be taken out of a directory; '': it is not there. */
  #takeOut(configDirectory: string): string {
    const file = join(configDirectory, gateConfigName);
    try {
      if (removeConfig({ ...this.#places, configDirectory })) {
        this.#o.log.info('the CNI gate was removed from the chain', { file });
      }
      return '';
    } catch (error) {
      return `${file} cannot be removed: ${TandemError.from(error).message}`;
    }
  }

  /** A disk that takes no writes is a degradation of `StateKeeper`; here it is said once. */
  #writeDown(change: () => void): void {
    try {
      change();
      this.#hasWarned = false;
    } catch (error) {
      if (!this.#hasWarned) {
        this.#o.log.warn('the directory of the CNI gate cannot be recorded in stateDir', {
          error: TandemError.from(error),
        });
      }
      this.#hasWarned = true;
    }
  }

  /** For good: the gate stays as it is from then on, but for `remove`. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const watcher of this.#watchers.values()) watcher.close();
    await this.#server?.stop();
  }

  /** Takes the gate out of the CNI chain, wherever it was put: pods start without it from then on. */
  remove(): void {
    const directories = new Set([this.#o.configDirectory, this.#record.read()]);
    directories.delete('');
    const problems = [...directories].map((each) => this.#takeOut(each)).filter(Boolean);
    for (const reason of problems) {
      this.#o.log.error('the CNI gate could not be removed from the chain: no pod starts', {
        reason,
      });
    }
    if (problems.length === 0) this.#writeDown(() => this.#record.forget());
  }

  #program(): string {
    if (this.#o.program !== '') return this.#o.program;
    return fileURLToPath(new URL('../../../cni-gate/build/tandem-gate', import.meta.url));
  }

  /** @throws Error of node:fs: what changes there is seen every few seconds alone */
  #watch(): void {
    const { configDirectory, pluginDirectory } = this.#places;
    // Each attempt makes a draft: one that fails would call for the next at once.
    this.#watchFor(configDirectory, (name) => name !== gateDraftName);
    // Without the program no pod ends either, and kubelet tries again after 12 to 15 s.
    this.#watchFor(pluginDirectory, (name) => name === gatePluginName);
  }

  #watchFor(directory: string, isOurs: (name: string | null) => boolean): void {
    if (this.#watchers.has(directory)) return;
    const watcher = watch(directory, (_, name) => {
      if (isOurs(name)) void this.ensure();
    });
    this.#watchers.set(directory, watcher);
    watcher.on('error', () => {
      watcher.close();
      this.#watchers.delete(directory);
    });
  }

  #say(reason: string | null): void {
    const problem =
      reason === null
        ? null
        : gateProblem(
            { isInChain: isInChain(this.#places), isServed: this.#server?.isReachable ?? false },
            reason,
          );
    if (problem !== null && problem.message !== this.#problem?.message) {
      this.#o.log.error('the CNI gate does not work as configured', { code: problem.code, reason });
    }
    this.#problem = problem;
  }
}
