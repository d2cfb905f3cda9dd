// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Steps that are tried again and again: a failing one is in the log once, and in status until it works. */

import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import type { Logger } from '@tandem/runtime/log';
import { TandemError } from '@tandem/runtime/tandem-error';

export class Attempts {
  readonly #log: Pick<Logger, 'error'>;
  /** Message of the error by name of the step. */
  readonly #failed = new Map<string, string>();
  #isStopping = false;

  constructor(log: Pick<Logger, 'error'>) {
    this.#log = log;
  }

  /** Runs the step `what`. Never rejects: no other step waits for one that fails. */
  async try(what: string, work: () => Promise<void> | void): Promise<void> {
    try {
      await work();
      this.#failed.delete(what);
    } catch (error) {
      // Its objects may be closed by now.
      if (this.#isStopping) return;
      const failure = TandemError.from(error);
      if (this.#failed.get(what) !== failure.message) {
        this.#log.error('a step of the reconciliation failed and will be tried again', {
          what,
          error: failure,
        });
      }
      this.#failed.set(what, failure.message);
    }
  }

  /** Ends the attempts: later failures are caused by the end of the process. */
  stop(): void {
    this.#isStopping = true;
  }

  get degradations(): readonly Degradation[] {
    return [...this.#failed].map(([step, reason]) =>
      degradation('not-reconciled', {
        message: `the step ${step} of the reconciliation fails: ${reason}; the former state stays in force`,
      }),
    );
  }
}
