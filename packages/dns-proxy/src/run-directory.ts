// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The directory of the sockets: root's, for the group of the DNS proxy to enter, with a directory in it
 * that is the proxy's own. Where it cannot be made, policy and DNS go on without the sockets.
 */

import { dirname } from 'node:path';
import { shareDirectory } from '@tandem/datapath/directories';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';
import { type Degradation, degradation } from './admin/degradation.ts';
import { type MemberConfig, proxyAdminPath } from './config.ts';

type Paths = Pick<MemberConfig, 'runDir' | 'proxyUid'>;

/** Needs root. @throws the error of mkdir(2), chown(2) or chmod(2) */
export function prepareRunDirectory({ runDir, proxyUid }: Paths): void {
  shareDirectory(runDir, 0, proxyUid);
  shareDirectory(dirname(proxyAdminPath(runDir)), proxyUid, proxyUid);
}

export class RunDirectory {
  readonly #paths: Paths;
  readonly #log: Logger;
  #problem = '';

  constructor(paths: Paths, log: Logger) {
    this.#paths = paths;
    this.#log = log;
  }

  /** Makes it, or remembers why not. Never throws. */
  prepare(): void {
    try {
      prepareRunDirectory(this.#paths);
      this.#problem = '';
    } catch (error) {
      const failure = TandemError.from(error);
      if (failure.message !== this.#problem) {
        this.#log.error('the run directory cannot be made and will be tried again', {
          error: failure,
        });
      }
      this.#problem = failure.message;
    }
  }

  get degradations(): readonly Degradation[] {
    if (this.#problem === '') return [];
    return [
      degradation('run-directory', {
        message: `the directory of the sockets cannot be made: ${this.#problem}; policy is enforced and DNS served, but the processes cannot connect to each other`,
        fix: `make ${this.#paths.runDir} a writable directory; the agent tries again every few seconds`,
      }),
    ];
  }
}
