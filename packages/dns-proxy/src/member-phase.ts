// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * How far a process is, as the probes of its pod see it. Ready is whoever stands by or serves; and who has served stays
 * ready, whatever is amiss: in an upgrade Kubernetes takes a pod that is not ready away at once, and what is degraded
 * serves better than nobody.
 *
 *   starting ──another process has the index──► standby ──it ended──► taking-over
 *       └───────────────────────────────────────────────────────────────┴──serves──► serving ──SIGTERM──► stopping
 */

import type { ProbeAnswer } from '@tandem/runtime/probe-server';

export type Phase = 'starting' | 'standby' | 'taking-over' | 'serving' | 'stopping';

export class MemberPhase {
  #phase: Phase = 'starting';
  #blockers: () => readonly string[] = () => [];
  #hasIndex = false;
  #canServe = false;
  #hang: () => string = () => '';

  get phase(): Phase {
    return this.#phase;
  }

  /** All that can be done without the index is done. */
  standsBy(): void {
    if (this.#phase === 'starting' && !this.#hasIndex) this.#phase = 'standby';
  }

  /** The index is this process's. */
  takesOver(): void {
    this.#hasIndex = true;
    if (this.#phase === 'standby') this.#phase = 'taking-over';
  }

  /** Everything runs; it serves as soon as `blockers` has none. */
  servesWithout(blockers: () => readonly string[]): void {
    this.#blockers = blockers;
    this.#canServe = true;
  }

  /** `problem`: why its DNS worker hangs, empty when it does not. */
  livesWithout(problem: () => string): void {
    this.#hang = problem;
  }

  stops(): void {
    this.#phase = 'stopping';
  }

  /** Answer to the liveness probe, if the main thread can answer at all. Parts of other processes do not count. */
  get liveness(): ProbeAnswer {
    const problem = this.#hang();
    return problem === '' ? { isOk: true, text: this.#phase } : { isOk: false, text: problem };
  }

  /** Answer to the readiness probe. */
  get readiness(): ProbeAnswer {
    if (this.#phase !== 'starting' && this.#phase !== 'taking-over') {
      return { isOk: true, text: this.#phase };
    }
    if (!this.#canServe) return { isOk: false, text: this.#phase };
    const blockers = this.#blockers();
    if (blockers.length > 0) return { isOk: false, text: `${this.#phase}: ${blockers.join('; ')}` };
    this.#phase = 'serving';
    return { isOk: true, text: this.#phase };
  }
}
