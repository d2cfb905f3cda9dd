// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Steps of a demonstration: each says what it shows, and whether it held. */

export class Steps {
  #failed = 0;
  #count = 0;

  get failed(): number {
    return this.#failed;
  }

  title(text: string): void {
    process.stdout.write(`\n${text}\n`);
  }

  /** `check` gives what was seen; it fails by throwing. */
  async step(text: string, check: () => Promise<string> | string): Promise<void> {
    this.#count += 1;
    try {
      const seen = await check();
      process.stdout.write(`  ok      ${text}${seen === '' ? '' : `: ${seen}`}\n`);
    } catch (error) {
      this.#failed += 1;
      const reason = error instanceof Error ? error.message : String(error);
      process.stdout.write(`  FAILED  ${text}: ${reason.split('\n').slice(0, 4).join(' ')}\n`);
    }
  }

  summary(): string {
    return `${this.#count - this.#failed} of ${this.#count} steps held`;
  }
}
