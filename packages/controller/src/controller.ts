// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The process: a candidate for the lease, and while it holds it the one that writes. */

import type { KubeEndpoint } from '@tandem/kube/endpoint';
import { KubeSession } from '@tandem/kube/session';
import type { Component } from '@tandem/runtime/lifecycle';
import type { Logger } from '@tandem/runtime/log';
import { Metrics } from '@tandem/runtime/metrics';
import { MetricsServer } from '@tandem/runtime/metrics-server';
import { systemClock } from '@tandem/runtime/system-clock';
import { type ControllerConfig, parseAddress } from './config.ts';
import { DefinitionKeeper } from './definition-keeper.ts';
import { Lease } from './lease.ts';
import { leaseReadMaxMs, leaseRetryShare } from './limits.ts';
import { addControllerMetrics } from './metrics.ts';
import { Term } from './term.ts';
import { emptyWriteCounts, type WriteCounts, Writer } from './writer.ts';

export interface ControllerOptions {
  readonly config: ControllerConfig;
  readonly endpoint: KubeEndpoint;
  readonly log: Logger;
}

export class Controller implements Component {
  readonly name = 'controller';
  readonly lease: Lease;
  readonly keeper: DefinitionKeeper;
  /** Writes of all terms. */
  readonly writes: WriteCounts = emptyWriteCounts();
  readonly #o: ControllerOptions;
  readonly #session: KubeSession;
  readonly #server: MetricsServer | null;
  #term: Term | null = null;
  /** Ends of terms that are over. */
  #ended: Promise<void> = Promise.resolve();

  constructor(options: ControllerOptions) {
    this.#o = options;
    const { config, endpoint, log } = options;
    const userAgent = `tandem-controller/${config.podName}`;
    // A lost connection must be there again well before the lease is over; the spread of many agents is no need of two controllers.
    const spreadMs = config.leaseDuration * leaseRetryShare;
    const session = new KubeSession({ endpoint, userAgent, spreadMs });
    this.#session = session;
    this.keeper = new DefinitionKeeper({ session, mode: config.crdsInstall, log });
    this.lease = new Lease({
      session,
      log,
      clock: systemClock,
      namespace: config.namespace,
      name: config.leaseName,
      identity: config.podName,
      durationMs: config.leaseDuration,
      onLead: (signal) => this.#lead(signal),
    });
    this.#server = this.#serverOf(config, log);
  }

  /** Null: this process does not lead. */
  get term(): Term | null {
    return this.#term;
  }

  async start(): Promise<void> {
    await this.#server?.start();
    this.keeper.start();
    this.lease.start();
  }

  async stop(): Promise<void> {
    await this.lease.stop();
    await this.keeper.stop();
    await this.#ended;
    this.#session.close();
    await this.#server?.stop();
  }

  #lead(signal: AbortSignal): void {
    const { config, log } = this.#o;
    const session = this.#session;
    const isLeader = (): boolean => this.lease.isLeader;
    const writer = new Writer({ session, isLeader, signal }, this.writes);
    const term = new Term({
      ...{ session, config, writer, log, keeper: this.keeper },
      identity: this.lease.identity,
    });
    const former = this.#ended;
    this.#term = term;
    this.keeper.lead(writer);
    term.start();
    const end = Promise.withResolvers<void>();
    this.#ended = end.promise;
    signal.addEventListener(
      'abort',
      () => {
        if (this.#term === term) {
          this.#term = null;
          this.keeper.lead(null);
        }
        void Promise.all([former, term.stop()]).then(() => end.resolve());
      },
      { once: true },
    );
  }

  #serverOf(config: ControllerConfig, log: Logger): MetricsServer | null {
    const address = parseAddress(config.metricsAddress);
    if (address === null) return null;
    const metrics = new Metrics();
    metrics.addProcessMetrics();
    addControllerMetrics(metrics, this);
    return new MetricsServer({
      address,
      metrics,
      health: () => [],
      readiness: () => this.#problems(),
      log,
    });
  }

  /** Ready is who can do the work, or take it over. */
  #problems(): readonly string[] {
    const problems: string[] = [];
    if (this.lease.ageMs > leaseReadMaxMs) problems.push('the lease has not been read');
    if (!this.keeper.isServed) problems.push("Cilium's kinds of policy are not defined yet");
    return problems;
  }
}
