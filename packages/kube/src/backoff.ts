// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Waits between attempts that failed: full jitter under a bound that doubles. */

import { backoffFirstMs, backoffMaxMs } from './limits.ts';

export class Backoff {
  readonly #maxMs: number;
  readonly #random: () => number;
  #boundMs = backoffFirstMs;

  /** `random`: 0 to 1. */
  constructor(maxMs: number = backoffMaxMs, random: () => number = Math.random) {
    this.#maxMs = maxMs;
    this.#random = random;
  }

  /** How long to wait before the next attempt, ms. */
  next(): number {
    const waitMs = this.#random() * this.#boundMs;
    this.#boundMs = Math.min(this.#boundMs * 2, this.#maxMs);
    return waitMs;
  }

  /** An attempt succeeded. */
  reset(): void {
    this.#boundMs = backoffFirstMs;
  }
}
