// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Periodic work of a member's main thread: it sends learned names to the other process, removes expired entries from the name
 * cache and the kernel's map, and gives the kernel the names that the other process sent. Decides only: time is passed in.
 */

import type { UsedUntil } from '@tandem/core/fqdn/mapping';
import type { Exchange } from '../sync/exchange.ts';
import { cacheExpiryStepPlaces, expiryStepMs, expiryWalkMs } from './limits.ts';
import type { NodeStore } from './node-store.ts';

/** A walk of one of the kernel's maps in bounded steps. */
export interface Sweep {
  /** Boottime seconds. True: the walk is at its end, the next step begins another. */
  step(nowSeconds: number): boolean;
}

export interface UpkeepOptions {
  readonly exchange: Exchange;
  readonly store: NodeStore;
  /** One after the other. */
  readonly sweeps: readonly Sweep[];
  /** Expired names of addresses in use stay in the cache. Default: none is in use. */
  readonly inUse?: UsedUntil;
  /** Whether it is on us to empty the kernel's maps. */
  readonly isSweeper: () => boolean;
  /** The map could not be read or written; tried again with the next walk. */
  readonly onExpiryError: (error: unknown) => void;
  /** Names came late: selectors that are newer than their answers do not know them. */
  readonly onLateNames: () => void;
  /** Between two walks of the kernel's map; default `expiryWalkMs`. */
  readonly walkMs?: number;
}

export class Upkeep {
  readonly #o: UpkeepOptions;
  #nextExpiryMs = 0;
  /** Which of `sweeps` has its turn. */
  #turn = 0;

  constructor(options: UpkeepOptions) {
    this.#o = options;
  }

  /** Every `exchangeTickMs`. CLOCK_MONOTONIC ms, CLOCK_BOOTTIME whole seconds. */
  tick(nowMs: number, nowSeconds: number): void {
    const { exchange, store, inUse, isSweeper } = this.#o;
    exchange.tick(nowMs, nowSeconds);
    store.tick(nowMs);
    store.cache.expire(nowSeconds, cacheExpiryStepPlaces, inUse);
    if (store.takeLateNames()) this.#o.onLateNames();
    if (nowMs >= this.#nextExpiryMs && isSweeper()) this.#sweep(nowMs, nowSeconds);
  }

  #sweep(nowMs: number, nowSeconds: number): void {
    const { sweeps, onExpiryError, walkMs = expiryWalkMs } = this.#o;
    try {
      if (sweeps[this.#turn]?.step(nowSeconds) !== false) this.#turn += 1;
      const isEnd = this.#turn >= sweeps.length;
      if (isEnd) this.#turn = 0;
      this.#nextExpiryMs = nowMs + (isEnd ? walkMs : expiryStepMs);
    } catch (error) {
      this.#turn = 0;
      this.#nextExpiryMs = nowMs + walkMs;
      onExpiryError(error);
    }
  }
}
