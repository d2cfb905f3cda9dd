// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** How long pods wait in the CNI gate, as the buckets of a histogram. */

/** Upper bounds, in seconds: the last one is above the time after which the gate gives up. */
export const waitBounds: readonly number[] = [0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20];

export class WaitTimes {
  /** Waits of each bucket alone, and last those above every bound. */
  readonly counts: Float64Array = new Float64Array(waitBounds.length + 1);
  #sum = 0;

  /** In seconds, of all waits together. */
  get sum(): number {
    return this.#sum;
  }

  add(seconds: number): void {
    const found = waitBounds.findIndex((bound) => seconds <= bound);
    const bucket = found === -1 ? waitBounds.length : found;
    this.counts[bucket] = (this.counts[bucket] ?? 0) + 1;
    this.#sum += seconds;
  }
}
