// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The demo's voice: timestamps, a reader's pace, and a count of what did not hold. */

import { setTimeout as delay } from 'node:timers/promises';

const isTerminal = process.stdout.isTTY === true && process.env['NO_COLOR'] === undefined;
const paint = (code: number, text: string): string =>
  isTerminal ? `\x1b[${code}m${text}\x1b[0m` : text;

export class Narrator {
  readonly #startedMs = performance.now();
  readonly #pauseMs: number;
  failures = 0;
  #steps = 0;

  /** `pauseMs`: rest after each step. */
  constructor(pauseMs: number) {
    this.#pauseMs = pauseMs;
  }

  chapter(title: string): void {
    console.log(`\n${paint(1, title)}`);
  }

  say(text: string): void {
    console.log(`${paint(2, this.#time())}   ${text}`);
  }

  /** One claim and its proof: `prove` returns what was seen, or throws. */
  async step(claim: string, prove: () => Promise<string>): Promise<void> {
    this.#steps += 1;
    try {
      const seen = await prove();
      console.log(`${paint(2, this.#time())} ${paint(32, '✔')} ${claim}  ${paint(2, seen)}`);
    } catch (error) {
      this.failures += 1;
      const why = error instanceof Error ? error.message : String(error);
      console.log(`${paint(2, this.#time())} ${paint(31, '✘')} ${claim}  ${paint(31, why)}`);
    }
    await delay(this.#pauseMs);
  }

  end(): void {
    const held = this.#steps - this.failures;
    console.log(`\n${held} of ${this.#steps} steps held.`);
  }

  #time(): string {
    return `${((performance.now() - this.#startedMs) / 1000).toFixed(1).padStart(6)} s`;
  }
}
