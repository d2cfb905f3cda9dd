// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Invariants, and the first one that was broken. */

import type { Trace } from './trace.ts';

/** Invariants by number; docs/adr/0006-simulation.md. */
export const invariants = {
  1: 'no entry in the fqdn map that no policy allows',
  2: 'no query in flight is lost, and none is mixed with another',
  3: 'after the heal caches and map agree, and nothing expired early',
  4: 'policy is never weaker than what is in force',
  5: 'the socket is never empty while a member lives',
  6: 'what is bounded stays in bounds and counts what it refuses',
  7: 'nothing throws',
  8: 'what is answered within its TTL, in a namespace under its share, stays',
  9: 'a worker hears of the end of the other, and of no end that was none',
} as const;
export type Invariant = keyof typeof invariants;

export interface Violation {
  readonly invariant: Invariant;
  readonly text: string;
}

/** Verdict on one schedule, which all checks write to. */
export class Verdict {
  violation: Violation | null = null;
  readonly #trace: Trace;

  constructor(trace: Trace) {
    this.#trace = trace;
  }

  /** Only the first is kept: the others may follow from it. */
  readonly fail = (invariant: Invariant, text: string): void => {
    if (this.violation !== null) return;
    this.violation = { invariant, text };
    this.#trace.note(`VIOLATION of ${invariant}: ${text}`);
  };
}
