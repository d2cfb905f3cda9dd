// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A smaller schedule that breaks the same invariant: fewer steps with faults, fewer kinds of faults. Each
 * of these is another schedule of the same seed, so that what is left can be replayed by its options.
 */

import { type FaultName, faultNames } from './faults.ts';
import { type Outcome, runSchedule } from './schedule.ts';

export interface Shrunk {
  readonly steps: number;
  readonly without: readonly FaultName[];
  readonly outcome: Outcome;
}

const roundsMax = 6;

export function shrink(found: Outcome, seed: number, steps: number): Shrunk {
  const invariant = found.violation?.invariant;
  let best: Shrunk = { steps, without: [], outcome: found };
  const attempt = (fewer: number, without: readonly FaultName[]): boolean => {
    const outcome = runSchedule({ seed, steps: fewer, without });
    if (outcome.violation?.invariant !== invariant) return false;
    best = { steps: fewer, without, outcome };
    return true;
  };
  for (let round = 0; round < roundsMax; round++) {
    const before = best;
    for (const name of faultNames) {
      if (!best.without.includes(name)) attempt(best.steps, [...best.without, name]);
    }
    for (let cut = best.steps >> 1; cut > 0; cut >>= 1) {
      while (best.steps > cut && attempt(best.steps - cut, best.without));
    }
    if (best === before) break;
  }
  return best;
}
