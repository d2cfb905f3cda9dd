// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Phase of a process, for the probes of its pod. A process is ready if it stands by or serves. Once it has served it stays
 * ready, whatever is degraded: in an upgrade Kubernetes deletes a pod that is not ready at once, and a degraded process
 * serves better than none.
 *
 *   starting ──another process has the index──► standby ──it ended──► joining
 *       └──────────────────────────────────────────────────────────────┴──serves──► serving ──SIGTERM──► stopping
 */

import type { ProbeAnswer } from '@tandem/runtime/probe-server';

export type Phase = 'starting' | 'standby' | 'joining' | 'serving' | 'stopping';

export class MemberPhase {
  #phase: Phase = 'starting';
  #blockers: () => readonly string[] = () => [];
  #hasIndex = false;
  #canServe = false;
  #hang: () => string = () => '';

  get phase(): Phase {
    return this.#phase;
  }

  /** Everything that needs no index is prepared. */
  standsBy(): void {
    if (this.#phase === 'starting' && !this.#hasIndex) this.#phase = 'standby';
  }

  /** This process has the index. */
  holdsIndex(): void {
    this.#hasIndex = true;
    if (this.#phase === 'standby') this.#phase = 'joining';
  }

  /** All parts run; the process serves as soon as `blockers` returns none. */
  servesWithout(blockers: () => readonly string[]): void {
    this.#blockers = blockers;
    this.#canServe = true;
  }

  /** `problem`: reason for which the DNS worker hangs, empty while it does not. */
  livesWithout(problem: () => string): void {
    this.#hang = problem;
  }

  stops(): void {
    this.#phase = 'stopping';
  }

  /** Answer to the liveness probe, while the main thread can answer. Other processes do not count. */
  get liveness(): ProbeAnswer {
    const problem = this.#hang();
    return problem === '' ? { isOk: true, text: this.#phase } : { isOk: false, text: problem };
  }

  /** Answer to the readiness probe. */
  get readiness(): ProbeAnswer {
    if (this.#phase !== 'starting' && this.#phase !== 'joining') {
      return { isOk: true, text: this.#phase };
    }
    if (!this.#canServe) return { isOk: false, text: this.#phase };
    const blockers = this.#blockers();
    if (blockers.length > 0) return { isOk: false, text: `${this.#phase}: ${blockers.join('; ')}` };
    this.#phase = 'serving';
    return { isOk: true, text: this.#phase };
  }
}
