// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * What the main thread of a member does again and again: tells the other process what it learned, empties
 * the name cache and the kernel's map of what expired, and gives the kernel the names that the other
 * process sent. Decides only: time is handed in.
 */

import type { Exchange } from '../sync/exchange.ts';
import type { KernelExpiry } from './kernel-expiry.ts';
import { cacheExpiryStepPlaces, expiryStepMs, expiryWalkMs } from './limits.ts';
import type { NodeStore } from './node-store.ts';

export interface UpkeepOptions {
  readonly exchange: Exchange;
  readonly store: NodeStore;
  readonly expiry: KernelExpiry;
  /** Whether it is on us to empty the kernel's map. */
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

  constructor(options: UpkeepOptions) {
    this.#o = options;
  }

  /** Every `exchangeTickMs`. CLOCK_MONOTONIC ms, CLOCK_BOOTTIME whole seconds. */
  tick(nowMs: number, nowSeconds: number): void {
    const { exchange, store, expiry, isSweeper, onExpiryError, walkMs = expiryWalkMs } = this.#o;
    exchange.tick(nowMs, nowSeconds);
    store.tick(nowMs);
    store.cache.expire(nowSeconds, cacheExpiryStepPlaces);
    if (store.takeLateNames()) this.#o.onLateNames();
    if (nowMs < this.#nextExpiryMs || !isSweeper()) return;
    try {
      const isEnd = expiry.step(nowSeconds);
      this.#nextExpiryMs = nowMs + (isEnd ? walkMs : expiryStepMs);
    } catch (error) {
      this.#nextExpiryMs = nowMs + walkMs;
      onExpiryError(error);
    }
  }
}
