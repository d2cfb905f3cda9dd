// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Record of a schedule: a hash of all of it, so that two runs can be compared, and when asked for
 * the lines.
 */
export class Trace {
  readonly lines: string[] = [];
  readonly #isVerbose: boolean;
  readonly #nowNs: () => number;
  #hash = 0x811c9dc5;

  constructor(isVerbose: boolean, nowNs: () => number) {
    this.#isVerbose = isVerbose;
    this.#nowNs = nowNs;
  }

  get hash(): number {
    return this.#hash >>> 0;
  }

  /** `what` says what `a`, `b` and `c` are; `who` did it. */
  note(what: string, a: number = 0, b: number = 0, c: number = 0, who: string = ''): void {
    let hash = this.#hash;
    // Its first letters and its length tell one thing from another.
    hash = Math.imul(
      hash ^
        what.charCodeAt(0) ^
        (who.length << 24) ^
        (what.charCodeAt(2) << 8) ^
        (what.length << 16),
      0x01000193,
    );
    hash = Math.imul(hash ^ a, 0x01000193);
    hash = Math.imul(hash ^ (b | 0), 0x01000193);
    hash = Math.imul(hash ^ c, 0x01000193);
    this.#hash = hash ^ (hash >>> 13);
    if (!this.#isVerbose) return;
    const ms = (this.#nowNs() / 1e6).toFixed(3).padStart(12);
    this.lines.push(`${ms} ms  ${who === '' ? '' : `${who} `}${what} ${[a, b, c].join(' ')}`);
  }
}
