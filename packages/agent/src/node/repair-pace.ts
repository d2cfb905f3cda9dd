// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * How soon a table of nftables that was changed is looked at again: at once, unless it changes again and again. Then another program
 * undoes what the agent writes, or nft shows it in a way that the agent does not know, and each write would cause the next one.
 */

import type { Clock } from '@tandem/runtime/system-clock';
import { repairBurst, repairIntervalMs, repairSlowMs } from '../limits.ts';

export class RepairPace {
  readonly #clock: Clock;
  #left = repairBurst;
  #refilledMs: number;
  #takenMs = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#refilledMs = clock.monotonicMs();
  }

  /** Takes the next look. Returns the time to wait for it, ms. */
  take(): number {
    const nowMs = this.#refill();
    const dueMs = Math.max(nowMs, this.#takenMs + repairIntervalMs);
    this.#left -= 1;
    this.#takenMs = this.#left >= 0 ? dueMs : Math.max(dueMs, nowMs - this.#left * repairSlowMs);
    return this.#takenMs - nowMs;
  }

  /** Whether looks wait because there were too many. */
  get isSlowed(): boolean {
    this.#refill();
    return this.#left < 1;
  }

  #refill(): number {
    const nowMs = this.#clock.monotonicMs();
    const earned = Math.floor((nowMs - this.#refilledMs) / repairSlowMs);
    this.#left = Math.min(repairBurst, this.#left + earned);
    this.#refilledMs += earned * repairSlowMs;
    return nowMs;
  }
}
