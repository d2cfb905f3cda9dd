// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The gate of a node: its socket, its plugin in the CNI chain, and the sandboxes of before it. The chain is looked at
 * every few seconds and when its directory changes, because another program's configuration may come first again.
 */

import { type FSWatcher, watch } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Degradation } from '@tandem/dns-proxy/admin/degradations';
import { addFields } from '@tandem/dns-proxy/metrics/node-metrics';
import type { NetworkView } from '@tandem/netlink/network-view';
import type { Logger } from '@tandem/runtime/log';
import type { Metrics } from '@tandem/runtime/metrics';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type Enforcement, Gate } from './gate.ts';
import {
  type GatePlaces,
  gateConfigName,
  installConfig,
  installPlugin,
  removeConfig,
} from './gate-installer.ts';
import { GateServer } from './gate-server.ts';
import { readResultCache } from './result-cache.ts';
import type { Sandboxes } from './sandboxes.ts';

/** The interface that kubelet's runtimes ask CNI for. */
const podInterface = 'eth0';

const gateHelp = {
  admitted: 'pods whose start the CNI gate let go on, because their policy was enforced',
  refused:
    'pods whose start the CNI gate refused, because their policy was not enforced in time; kubelet tries again',
  malformed: 'calls of the CNI plugin that could not be read',
  overLimit: 'calls of the CNI plugin over the limit of calls at once; kubelet tries again',
  sandboxesRefused: 'pods over the limit of sandboxes: they do not start',
};

export interface GateStackOptions {
  readonly runDirectory: string;
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
  #server: GateServer | null = null;
  #watcher: FSWatcher | null = null;
  #failure: string | null = null;

  constructor(options: GateStackOptions) {
    this.#o = options;
    this.#places = {
      configDirectory: options.configDirectory,
      pluginDirectory: options.pluginDirectory,
      socketPath: join(options.runDirectory, 'gate', 'gate.sock'),
    };
  }

  get degradations(): readonly Degradation[] {
    if (this.#failure === null) return [];
    return [
      {
        code: 'gate-missing',
        message: `pods of this node start before their policy is enforced (their traffic is held until then): ${this.#failure}`,
        fix: 'remove the cause that the message names: it is tried again every few seconds',
      },
    ];
  }

  addMetrics(metrics: Metrics): void {
    addFields(metrics, 'tandem_gate', gateHelp, () => ({
      ...this.#server?.counters,
      sandboxesRefused: this.#o.sandboxes.counters.refused,
    }));
  }

  /** Learns the sandboxes that are there already. */
  async readSandboxes(): Promise<void> {
    const { resultsDirectory, view, sandboxes, log } = this.#o;
    const { sandboxes: found, problems } = await readResultCache(
      resultsDirectory,
      podInterface,
      view,
    );
    for (const sandbox of found) sandboxes.add(sandbox);
    for (const problem of problems) log.warn('a result of CNI is passed over', { problem });
  }

  /** Serves the plugin, and then puts it into the chain. Never rejects: what fails is a degradation. */
  async start(enforcement: Enforcement): Promise<void> {
    const { configDirectory, view, sandboxes, log } = this.#o;
    if (configDirectory === '') return;
    const handler = new Gate({ view, sandboxes, enforcement });
    this.#server = new GateServer({ path: this.#places.socketPath, handler, log });
    await this.ensure();
  }

  /** Brings socket, plugin and configuration to what they should be. Never rejects. */
  async ensure(): Promise<void> {
    const server = this.#server;
    if (server === null) return;
    try {
      if (!server.isReachable) await server.start();
      installPlugin(this.#program(), this.#places);
      const outcome = installConfig(this.#places);
      if (!outcome.ok) throw new Error(outcome.error);
      const { kind } = outcome.value;
      if (kind === 'written' || kind === 'removed') {
        this.#o.log.info('the CNI chain of this node was changed', {
          file: join(this.#places.configDirectory, gateConfigName),
          ...outcome.value,
        });
      }
      this.#watch();
      this.#say(kind === 'absent' ? 'no CNI plugin has put a configuration there yet' : null);
    } catch (error) {
      this.#say(TandemError.from(error).message);
    }
  }

  async stop(): Promise<void> {
    this.#watcher?.close();
    await this.#server?.stop();
  }

  /** Takes the gate out of the CNI chain: pods start without it from then on. */
  remove(): void {
    if (this.#o.configDirectory === '') return;
    try {
      removeConfig(this.#places);
    } catch (error) {
      this.#o.log.error('the gate could not be taken out of the CNI chain', {
        error: TandemError.from(error),
      });
    }
  }

  #program(): string {
    if (this.#o.program !== '') return this.#o.program;
    return fileURLToPath(new URL('../../../cni-gate/build/tandem-gate', import.meta.url));
  }

  #watch(): void {
    if (this.#watcher !== null) return;
    this.#watcher = watch(this.#places.configDirectory, () => void this.ensure());
    this.#watcher.on('error', () => {
      this.#watcher?.close();
      this.#watcher = null;
    });
  }

  #say(failure: string | null): void {
    if (failure !== null && failure !== this.#failure) {
      this.#o.log.error('the gate is not in the CNI chain of this node', { reason: failure });
    }
    this.#failure = failure;
  }
}
