// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Lines about a failure that come again: the first is written at once, equal ones within `repeatWindowMs` are counted, and the count
 * is written with the line when the window ends, so that the last line of a flapping pair is the state that holds. Bounded: of more
 * different lines than `repeatKeysMax` the oldest is no longer counted.
 */

/** How long equal lines are one line, ms. */
export const repeatWindowMs = 10_000;
/** Different lines that are counted at one time. */
export const repeatKeysMax = 64;

interface Repeated<Line> {
  readonly line: Line;
  /** When its window ends. */
  readonly endMs: number;
  count: number;
}

export class LogRepeats<Line> {
  readonly #write: (line: Line, count: number) => void;
  readonly #nowMs: () => number;
  /** In the order of the last occurrence. */
  readonly #lines = new Map<string, Repeated<Line>>();
  #timer: NodeJS.Timeout | null = null;
  /** Lines that were counted and not written, since the start. */
  total = 0;

  /** `write`: a line with the number of times that it was repeated. */
  constructor(write: (line: Line, count: number) => void, nowMs: () => number) {
    this.#write = write;
    this.#nowMs = nowMs;
  }

  /** True: the line is a repeat, and is counted instead of written. `key`: equal for equal lines. */
  take(key: string, line: Line): boolean {
    const nowMs = this.#nowMs();
    this.flush(nowMs);
    const known = this.#lines.get(key);
    if (known === undefined) {
      if (this.#lines.size >= repeatKeysMax) this.#forgetOldest();
      this.#lines.set(key, { line, endMs: nowMs + repeatWindowMs, count: 0 });
      return false;
    }
    known.count += 1;
    this.total += 1;
    this.#lines.delete(key);
    this.#lines.set(key, known);
    if (this.#timer === null) {
      this.#timer = setTimeout(() => this.#onTimer(), known.endMs - nowMs).unref();
    }
    return true;
  }

  /** Writes the counts of windows that have ended. */
  flush(nowMs: number): void {
    for (const [key, { line, endMs, count }] of this.#lines) {
      if (nowMs < endMs) continue;
      this.#lines.delete(key);
      if (count > 0) this.#write(line, count);
    }
  }

  #onTimer(): void {
    this.#timer = null;
    const nowMs = this.#nowMs();
    this.flush(nowMs);
    const waiting = [...this.#lines.values()].filter(({ count }) => count > 0);
    if (waiting.length === 0) return;
    const endMs = Math.min(...waiting.map((each) => each.endMs));
    this.#timer = setTimeout(() => this.#onTimer(), Math.max(1, endMs - nowMs)).unref();
  }

  #forgetOldest(): void {
    const [oldest] = this.#lines;
    if (oldest === undefined) return;
    const [key, { line, count }] = oldest;
    this.#lines.delete(key);
    if (count > 0) this.#write(line, count);
  }
}
