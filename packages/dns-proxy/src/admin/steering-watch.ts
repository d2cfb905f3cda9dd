// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Whether steered DNS packets of pods are answered at all, by two counters of the kernel. A firewall of the node or
 * a foreign routing rule can drop the queries before the shared socket, or the replies behind it: no process sees
 * that by itself, and pods have no DNS.
 */

import { tdCounter } from '@tandem/datapath/abi.gen';
import { readCounter } from '@tandem/datapath/counters';
import type { Datapath } from '@tandem/datapath/datapath';
import { type Degradation, degradation } from './degradation.ts';
import { unansweredPacketsMin, unansweredStepsMin } from './limits.ts';

export interface SteeringCounts {
  /** DNS packets steered to the shared socket. */
  readonly redirected: number;
  /** Packets from it that went to a pod. */
  readonly restored: number;
}

/** Null when the counters cannot be read. */
export function readSteering(datapath: Datapath): SteeringCounts | null {
  try {
    return {
      redirected: readCounter(datapath, tdCounter.REDIRECTED),
      restored: readCounter(datapath, tdCounter.RESTORED),
    };
  } catch {
    // The pin was removed, or is that of an agent which is just being replaced.
    return null;
  }
}

export class SteeringWatch {
  #last: SteeringCounts | null = null;
  #packets = 0;
  #steps = 0;

  /** Comes every few seconds. A step without queries says nothing. */
  step(counts: SteeringCounts | null): void {
    if (counts === null) return;
    const last = this.#last;
    this.#last = counts;
    const asked = last === null ? 0 : counts.redirected - last.redirected;
    // Counters of another map begin at 0.
    if (last === null || asked < 0 || counts.restored !== last.restored) {
      this.#packets = 0;
      this.#steps = 0;
    } else if (asked > 0) {
      this.#packets += asked;
      this.#steps += 1;
    }
  }

  get degradations(): readonly Degradation[] {
    const isCertain = this.#packets >= unansweredPacketsMin && this.#steps >= unansweredStepsMin;
    return isCertain ? [degradation('steering-unanswered')] : [];
  }
}
