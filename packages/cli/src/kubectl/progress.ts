// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** How far a long command is, for people: a line on stderr now and then, none for a step that is done at once. */

import type { Printer } from '../output/printer.ts';

const silentMs = 2000;

export class Progress {
  readonly #printer: Printer;
  readonly #what: string;
  readonly #total: number;
  #done = 0;
  #lastMs = performance.now();

  constructor(printer: Printer, what: string, total: number) {
    this.#printer = printer;
    this.#what = what;
    this.#total = total;
  }

  step(): void {
    this.#done += 1;
    const nowMs = performance.now();
    if (nowMs - this.#lastMs < silentMs) return;
    this.#lastMs = nowMs;
    this.#printer.line(`${this.#done} of ${this.#total} ${this.#what}`);
  }
}
