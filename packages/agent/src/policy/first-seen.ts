// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Since when each problem stands, as long as it is not away in between. */

import type { Diagnostic } from '@tandem/core/policy/model/desired';

export interface DatedDiagnostic extends Diagnostic {
  /** Unix time, ms. */
  readonly sinceMs: number;
}

export class FirstSeen {
  readonly #nowMs: () => number;
  /** By code and subject: a message may have counts that change. No more than there are diagnostics. */
  #since = new Map<string, number>();

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** All that stand now, each with its time: its own is forgotten when it is not among them. */
  date(diagnostics: readonly Diagnostic[]): readonly DatedDiagnostic[] {
    const nowMs = this.#nowMs();
    const since = new Map<string, number>();
    const dated = diagnostics.map((each) => {
      const key = `${each.code}\n${each.subject}`;
      const sinceMs = this.#since.get(key) ?? nowMs;
      since.set(key, sinceMs);
      return { ...each, sinceMs };
    });
    this.#since = since;
    return dated;
  }
}
