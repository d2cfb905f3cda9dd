// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The DNS server of a chaos run: answers every name, as slowly or as seldom as it is told to. */

import { fileURLToPath } from 'node:url';
import type { Inside } from '@tandem/testing/probe-process';
import { type RunningProcess, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { deniedSuffix } from './names.ts';

export const upstreamAddress = '203.0.113.53';
export const usualDelayMs = 20;

interface Stats {
  readonly queries: number;
}

export class Upstream implements AsyncDisposable {
  readonly #process: RunningProcess;
  #lost = new Set<string>();
  #seen: string[] = [];
  #answers = 0;
  #queries = 0;

  private constructor(namespace: Inside, seed: number, address: string) {
    const tool = fileURLToPath(new URL('../bench/native/build/upstream', import.meta.url));
    const args = ['--address', address, '--delay-us', String(usualDelayMs * 1000)];
    args.push('--control', '--watch', deniedSuffix, '--seed', String(seed));
    this.#process = startProcess(...namespace.enter(tool, args), {
      onLine: (line) => this.#onLine(line),
    });
  }

  /** `address`: of an interface of the namespace. */
  static async start(
    namespace: Inside,
    seed: number,
    address: string = upstreamAddress,
  ): Promise<Upstream> {
    const upstream = new Upstream(namespace, seed, address);
    await upstream.#order('stats');
    return upstream;
  }

  get pid(): number {
    return this.#process.pid;
  }

  async setDelay(ms: number): Promise<void> {
    await this.#order(`delay-us ${Math.round(ms * 1000)}`);
  }

  /** Sets how many of 1000 queries get no answer. */
  async setLoss(perMille: number): Promise<void> {
    await this.#order(`loss ${perMille}`);
  }

  /** Names not answered, and denied names that got here, since the last call. */
  async takeSeen(): Promise<{ lost: ReadonlySet<string>; leaked: readonly string[] }> {
    await this.#order('stats');
    const seen = { lost: this.#lost, leaked: this.#seen };
    this.#lost = new Set();
    this.#seen = [];
    return seen;
  }

  /** How many it got since it began. */
  async queries(): Promise<number> {
    await this.#order('stats');
    return this.#queries;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
  }

  async #order(order: string): Promise<void> {
    const before = this.#answers;
    this.#process.stdin.write(`${order}\n`);
    await waitFor(() => this.#answers > before, { what: `the upstream to take "${order}"` });
  }

  #onLine(line: string): void {
    if (line.startsWith('lost ')) this.#lost.add(line.slice(5));
    else if (line.startsWith('seen ')) this.#seen.push(line.slice(5));
    else if (line.startsWith('{')) this.#queries = (JSON.parse(line) as Stats).queries;
    else if (line === 'ok') this.#answers += 1;
    else if (line.startsWith('error')) throw new Error(`upstream: ${line}`);
  }
}
