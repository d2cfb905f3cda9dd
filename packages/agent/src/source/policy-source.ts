// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The source of policy as the agent uses it: its objects are applied when all of them are known. A source
 * that cannot be read is no source without objects: as long as something of it was never read, what is in
 * force stays in force.
 */

import type { ClusterState } from '@tandem/core/policy/model/cluster-state';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import type { Logger } from '@tandem/runtime/log';
import { foldersToldMax } from '../limits.ts';
import { ClusterBuilder } from '../policy/cluster-builder.ts';
import { DirectorySource, type SourceState } from './directory.ts';
import { FileCopies } from './file-copies.ts';
import type { ObjectSource, SourceDiagnostic } from './object-source.ts';

export interface PolicySourceOptions {
  readonly directory: string;
  /** Where copies of its files are kept for the next start. */
  readonly copiesDirectory: string;
  /** Whether the pins or the snapshot hold a policy: then it is not replaced by a part of one. */
  readonly isInForce: boolean;
  readonly apply: (cluster: ClusterState) => Promise<void>;
  readonly log: Logger;
}

export class PolicySource implements ObjectSource {
  readonly #o: PolicySourceOptions;
  readonly #builder = new ClusterBuilder();
  readonly #source: DirectorySource;
  #state: SourceState | null = null;
  /** Whether anything of this source was applied. */
  #isApplied = false;
  #said = '';
  #first = Promise.resolve();

  constructor(options: PolicySourceOptions) {
    this.#o = options;
    this.#source = new DirectorySource(
      options.directory,
      (state) => this.#onState(state),
      new FileCopies(options.copiesDirectory, options.directory, options.isInForce),
    );
  }

  /** Resolves when what can be read now is applied. */
  async start(): Promise<void> {
    this.#source.start();
    await this.#first;
  }

  async stop(): Promise<void> {
    this.#source.stop();
  }

  /** None: a file that cannot be read is named, and decides about pods by its former content. */
  readonly unread = '';

  get notes(): readonly string[] {
    const { folders } = this.#source;
    if (folders.length === 0) return [];
    const more =
      folders.length > foldersToldMax ? ` and ${folders.length - foldersToldMax} more` : '';
    return [
      `files in directories of ${this.#o.directory} are not read (${folders.slice(0, foldersToldMax).join(', ')}${more}): move those that are to be in force up`,
    ];
  }

  addMetrics(): void {}

  /** Files say the addresses of pods themselves. */
  sandboxesChanged(): void {}

  /** Problems that no compilation reports, because there is none. */
  get diagnostics(): readonly SourceDiagnostic[] {
    if (this.#isApplied) return [];
    return (this.#state?.problems ?? []).map(({ file, message }) => ({
      severity: 'error',
      code: 'file-unreadable',
      subject: file,
      message,
    }));
  }

  get degradations(): readonly Degradation[] {
    const problem = this.#problem();
    if (problem === '') return [];
    return [
      degradation('source-unreachable', {
        message: `the source of policy cannot be read: ${problem}; policy and endpoints stay as they are in the datapath and the snapshot`,
        fix: `make ${this.#o.directory} and all files in it readable: the agent reads it again by itself`,
      }),
    ];
  }

  #problem(): string {
    const state = this.#state;
    if (state === null) return '';
    if (state.unreachable !== null) return state.unreachable;
    if (this.#isApplied) return '';
    return state.missing.map(({ file, message }) => `${file}: ${message}`).join('; ');
  }

  #onState(state: SourceState): void {
    this.#state = state;
    if (this.#mayApply(state)) {
      this.#isApplied = true;
      this.#first = this.#o.apply(this.#builder.build(state));
    }
    const problem = this.#problem();
    if (problem === this.#said) return;
    this.#said = problem;
    if (problem === '') this.#o.log.info('the source of policy is read');
    else this.#o.log.error('source-unreachable: the policy in force stays', { reason: problem });
  }

  #mayApply({ missing, unreachable }: SourceState): boolean {
    if (this.#isApplied || missing.length === 0) return true;
    // The first policy of a node: what can be read is more than nothing.
    return !this.#o.isInForce && unreachable === null;
  }
}
