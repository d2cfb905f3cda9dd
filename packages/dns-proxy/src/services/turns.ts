// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One timer for all that a thread does again and again. A thread that wakes up has cold caches and a turn of
 * libuv to pay for, which costs more than most of the work: timers of their own would wake it for each.
 */

import { turnMs } from '../limits.ts';

/** Calls `run` every `ms`. Returns how to end that. */
export type TurnTimer = (ms: number, run: () => void) => () => void;

const nodeTimer: TurnTimer = (ms, run) => {
  const timer = setInterval(run, ms);
  return () => clearInterval(timer);
};

interface Work {
  readonly turns: number;
  readonly run: () => void;
}

export class Turns {
  readonly #works: Work[] = [];
  readonly #ms: number;
  readonly #startTimer: TurnTimer;
  #stopTimer: (() => void) | null = null;
  #turn = 0;

  /** A turn comes every `ms`. */
  constructor(ms: number = turnMs, timer: TurnTimer = nodeTimer) {
    this.#ms = ms;
    this.#startTimer = timer;
  }

  /** `run` comes every `ms`, a whole number of turns; in one turn after what was added before. */
  every(ms: number, run: () => void): void {
    const turns = ms / this.#ms;
    if (!Number.isInteger(turns) || turns < 1) throw new RangeError(`${ms} ms are no whole turns`);
    this.#works.push({ turns, run });
  }

  start(): void {
    this.#stopTimer ??= this.#startTimer(this.#ms, () => this.#next());
  }

  stop(): void {
    this.#stopTimer?.();
    this.#stopTimer = null;
  }

  #next(): void {
    this.#turn += 1;
    for (const { turns, run } of this.#works) if (this.#turn % turns === 0) run();
  }
}
