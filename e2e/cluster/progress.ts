// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Progress of a long command on stderr: a line with its time for each step, and for slow steps more. */

const reminderMs = 20_000;

export class Progress {
  readonly #startedMs = performance.now();

  say(text: string): void {
    const seconds = (performance.now() - this.#startedMs) / 1000;
    console.error(`${seconds.toFixed(1).padStart(7)} s  ${text}`);
  }

  /** A step that may take minutes. `detail` is asked for each reminder that it still runs. */
  async slow<T>(what: string, work: () => Promise<T>, detail: () => string = () => ''): Promise<T> {
    this.say(`${what} …`);
    const begunMs = performance.now();
    const seconds = (): string => `${Math.round((performance.now() - begunMs) / 1000)} s`;
    const timer = setInterval(
      () => this.say(`${what}: ${seconds()} so far${detail()}`),
      reminderMs,
    );
    try {
      const result = await work();
      this.say(`${what}: done after ${seconds()}`);
      return result;
    } finally {
      clearInterval(timer);
    }
  }
}
