// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Steps of a demonstration: each says what it shows, and whether it held. */

export class Steps {
  #failed = 0;
  #count = 0;
  readonly #lines: string[] = [];

  get failed(): number {
    return this.#failed;
  }

  /** Everything that was written. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  title(text: string): void {
    this.#write('');
    this.#write(text);
  }

  /** `check` gives what was seen; it fails by throwing. */
  async step(text: string, check: () => Promise<string> | string): Promise<void> {
    this.#count += 1;
    try {
      const seen = await check();
      this.#write(`  ok      ${text}${seen === '' ? '' : `: ${seen}`}`);
    } catch (error) {
      this.#failed += 1;
      const reason = error instanceof Error ? error.message : String(error);
      this.#write(`  FAILED  ${text}: ${reason.split('\n').slice(0, 4).join(' ')}`);
    }
  }

  summary(): string {
    return `${this.#count - this.#failed} of ${this.#count} steps held`;
  }

  #write(line: string): void {
    this.#lines.push(line);
    process.stdout.write(`${line}\n`);
  }
}
