// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A source that a standby agent reads before it may apply objects. So the agent knows the cluster when it gets the index, and is not
 * ready while it cannot read it. It applies the state of the cluster at that time, not an earlier one.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { ClusterState } from '@tandem/core/policy/model/cluster-state';
import type { Degradation } from '@tandem/dns-proxy/admin/degradation';
import type { Metrics } from '@tandem/runtime/metrics';
import { kubeFirstWaitMs } from '../limits.ts';
import type { ObjectSource, SourceDiagnostic } from './object-source.ts';

type Apply = (cluster: ClusterState) => Promise<void>;

export class EarlySource implements ObjectSource {
  readonly #source: ObjectSource;
  readonly #read = Promise.withResolvers<void>();
  readonly #applied = Promise.withResolvers<void>();
  #isReadAhead = false;
  #mayApply = false;

  constructor(open: (apply: Apply) => ObjectSource, apply: Apply) {
    this.#source = open(async (cluster) => {
      this.#read.resolve();
      // The holder of the index has applied newer objects since: an older state would remove them.
      if (!this.#mayApply) return;
      await apply(cluster);
      this.#applied.resolve();
    });
  }

  /** Begins to read. Resolves when everything was read once, however long that takes; applies nothing. */
  async readAhead(): Promise<void> {
    this.#isReadAhead = true;
    await this.#source.start();
    await this.#read.promise;
  }

  async start(): Promise<void> {
    this.#mayApply = true;
    if (!this.#isReadAhead) return this.#source.start();
    this.#source.sandboxesChanged();
    await Promise.race([this.#applied.promise, delay(kubeFirstWaitMs, undefined, { ref: false })]);
  }

  async stop(): Promise<void> {
    this.#mayApply = false;
    await this.#source.stop();
  }

  sandboxesChanged(): void {
    this.#source.sandboxesChanged();
  }

  get unread(): string {
    return this.#source.unread;
  }

  get diagnostics(): readonly SourceDiagnostic[] {
    return this.#source.diagnostics;
  }

  get degradations(): readonly Degradation[] {
    return this.#source.degradations;
  }

  get notes(): readonly string[] {
    return this.#source.notes;
  }

  addMetrics(metrics: Metrics): void {
    this.#source.addMetrics(metrics);
  }
}
