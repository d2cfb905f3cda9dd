// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * When programs that could not be attached to a pod's interface are tried again: soon, because the pod has no network until
 * then, and each time after as long as it has failed, so that a failure that lasts costs little.
 */

import type { Ifindex } from '@tandem/core/ids';
import { attachRetryMs, reconcileIntervalMs } from '../limits.ts';

export class AttachRetries {
  readonly #nowMs: () => number;
  /** By interface: since when it fails, and when it was tried last, ms. */
  readonly #failing = new Map<Ifindex, { readonly since: number; readonly last: number }>();

  /** `nowMs`: a monotonic clock. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** All were tried, and these failed. */
  tried(failed: Iterable<Ifindex>): void {
    const now = this.#nowMs();
    const still = new Set(failed);
    for (const ifindex of [...this.#failing.keys()]) {
      if (!still.has(ifindex)) this.#failing.delete(ifindex);
    }
    for (const ifindex of still) {
      this.#failing.set(ifindex, { since: this.#failing.get(ifindex)?.since ?? now, last: now });
    }
  }

  /** From the last try to the next; null: nothing fails, or the reconciliation is soon enough. */
  get nextMs(): number | null {
    const waits = [...this.#failing.values()]
      .map(({ since, last }) => Math.max(attachRetryMs, last - since))
      .filter((ms) => ms < reconcileIntervalMs);
    return waits.length === 0 ? null : Math.min(...waits);
  }
}
