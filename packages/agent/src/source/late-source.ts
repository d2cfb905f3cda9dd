// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A source that may not be there when the agent starts, because what says how it is reached is missing or half written.
 * It is opened as soon as that can be read; until then the policy in force stays.
 */

import type { Result } from '@tandem/core/result';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import type { Logger } from '@tandem/runtime/log';
import type { Metrics } from '@tandem/runtime/metrics';
import { sourceOpenMs } from '../limits.ts';
import type { ObjectSource, SourceDiagnostic } from './object-source.ts';

export interface LateSourceOptions {
  /** The error says what is missing. */
  readonly open: () => Promise<Result<ObjectSource, string>>;
  readonly log: Logger;
  /** Between attempts, ms. */
  readonly retryMs?: number;
}

export class LateSource implements ObjectSource {
  readonly #o: LateSourceOptions;
  #source: ObjectSource | null = null;
  #problem = '';
  #metrics: Metrics | null = null;
  #timer: NodeJS.Timeout | null = null;
  #isStopped = false;

  constructor(options: LateSourceOptions) {
    this.#o = options;
  }

  async start(): Promise<void> {
    const opened = await this.#o.open();
    if (this.#isStopped) return;
    if (!opened.ok) {
      this.#say(opened.error);
      this.#timer = setTimeout(() => void this.start(), this.#o.retryMs ?? sourceOpenMs);
      return;
    }
    this.#problem = '';
    this.#source = opened.value;
    if (this.#metrics !== null) this.#source.addMetrics(this.#metrics);
    await this.#source.start();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#source?.stop();
  }

  sandboxesChanged(): void {
    this.#source?.sandboxesChanged();
  }

  get diagnostics(): readonly SourceDiagnostic[] {
    return this.#source?.diagnostics ?? [];
  }

  get degradations(): readonly Degradation[] {
    if (this.#source !== null) return this.#source.degradations;
    if (this.#problem === '') return [];
    return [
      degradation('source-unreachable', {
        message: `the credentials for the Kubernetes API cannot be read: ${this.#problem}; policy and endpoints stay as they are in the datapath and the snapshot`,
        fix: 'correct the file or variable that the message names: the agent reads it again by itself',
      }),
    ];
  }

  get unread(): string {
    return this.#source?.unread ?? '';
  }

  get notes(): readonly string[] {
    return this.#source?.notes ?? [];
  }

  addMetrics(metrics: Metrics): void {
    this.#metrics = metrics;
    this.#source?.addMetrics(metrics);
  }

  #say(problem: string): void {
    if (problem !== this.#problem) {
      this.#o.log.error('source-unreachable: the policy in force stays', { reason: problem });
    }
    this.#problem = problem;
  }
}
