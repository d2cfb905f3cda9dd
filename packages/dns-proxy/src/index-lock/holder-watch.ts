// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Decides whether the holder of the index hangs, from the view of a process that waits for its end. It is careful: a holder
 * killed by mistake loses its TCP connections, and the other member alone serves the node's DNS for a moment.
 */

import { fenceAfterMs, fenceGapMsMax } from '../limits.ts';

export interface Holder {
  /** When this run of the index armed its fence. CLOCK_BOOTTIME, ns. */
  readonly armedNs: number;
  /** When the member of this index joined the group last: before `armedNs`, it was a former run. CLOCK_BOOTTIME, ns. */
  readonly joinedNs: number;
  /** In the group, or leaving it: it beats then. */
  readonly isMember: boolean;
  /** Time of its last heartbeat. CLOCK_MONOTONIC, ns. */
  readonly beatNs: number;
}

export class HolderWatch {
  #armedNs = -1;
  #beatNs = -1;
  /** Since when the beat is what it is; -1: it is not judged. */
  #sinceNs = -1;
  #lookedNs = 0;

  /**
   * A look at the holder, null when it is not known. True: it gave no beat for `fenceAfterMs`, in which we
   * looked all the time, so that neither of the two was asleep with the machine. Said again after as long.
   */
  isHung(holder: Holder | null, monotonicNs: number): boolean {
    const gapMs = (monotonicNs - this.#lookedNs) / 1e6;
    this.#lookedNs = monotonicNs;
    if (holder === null || !holder.isMember || holder.joinedNs < holder.armedNs) {
      this.#sinceNs = -1;
      return false;
    }
    const { armedNs, beatNs } = holder;
    const isSame = armedNs === this.#armedNs && beatNs === this.#beatNs;
    if (this.#sinceNs < 0 || !isSame || gapMs > fenceGapMsMax) {
      this.#armedNs = armedNs;
      this.#beatNs = beatNs;
      this.#sinceNs = monotonicNs;
      return false;
    }
    if (monotonicNs - this.#sinceNs < fenceAfterMs * 1e6) return false;
    this.#sinceNs = monotonicNs;
    return true;
  }
}
