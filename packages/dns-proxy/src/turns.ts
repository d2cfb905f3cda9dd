// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One timer for all that the main thread of a member does again and again. A thread that wakes up has cold
 * caches and a turn of libuv to pay for, which costs more than most of the work: timers of their own would
 * wake it for each.
 */

import { turnMs } from './limits.ts';

interface Work {
  readonly turns: number;
  readonly run: () => void;
}

export class Turns {
  readonly #works: Work[] = [];
  #timer: NodeJS.Timeout | null = null;
  #turn = 0;

  /** `run` comes every `ms`, a multiple of `turnMs`; in one turn after what was added before. */
  every(ms: number, run: () => void): void {
    const turns = ms / turnMs;
    if (!Number.isInteger(turns) || turns < 1) throw new RangeError(`${ms} ms are no whole turns`);
    this.#works.push({ turns, run });
  }

  start(): void {
    this.#timer ??= setInterval(() => this.#next(), turnMs);
  }

  stop(): void {
    if (this.#timer !== null) clearInterval(this.#timer);
    this.#timer = null;
  }

  #next(): void {
    this.#turn += 1;
    for (const { turns, run } of this.#works) if (this.#turn % turns === 0) run();
  }
}
