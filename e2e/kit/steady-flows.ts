// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Two neighbours that go on with their work: names and connections to them, and one long connection. */

import assert from 'node:assert/strict';
import { askDns } from '@tandem/testing/dns-query';
import type { Probe, Stream } from '@tandem/testing/probe';
import { clusterDns4, clusterDns6 } from './standard-node.ts';

export interface SteadyPods {
  /** Has the standard policy. */
  readonly client: Probe;
  /** May speak to `friend`, which echoes at `port`. */
  readonly web: Probe;
  readonly friend: string;
  readonly port: number;
}

const message = 'steady';

export class SteadyFlows implements AsyncDisposable {
  readonly #pods: SteadyPods;
  readonly #stream: Stream;
  readonly #faults: string[] = [];
  readonly #works: Promise<void>[];
  #isOver = false;
  #names = 0;
  #exchanges = 0;

  private constructor(pods: SteadyPods, stream: Stream) {
    this.#pods = pods;
    this.#stream = stream;
    this.#works = [this.#repeat(() => this.#name()), this.#repeat(() => this.#exchange())];
  }

  static async start(pods: SteadyPods): Promise<SteadyFlows> {
    const stream = await pods.web.connect({ to: pods.friend, port: pods.port });
    return new SteadyFlows(pods, stream);
  }

  /** Ends them: each had its answer each time. */
  async assertUnharmed(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#works);
    assert.deepEqual(this.#faults, []);
    assert.ok(this.#names > 0 && this.#exchanges > 0, 'they have done something');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#works);
    await this.#stream[Symbol.asyncDispose]();
  }

  async #repeat(work: () => Promise<void>): Promise<void> {
    while (!this.#isOver && this.#faults.length < 5) {
      // oxlint-disable-next-line no-await-in-loop -- one after the other is what a steady flow is
      await work().catch((error: unknown) => this.#faults.push(String(error)));
    }
  }

  async #name(): Promise<void> {
    const number = this.#names++;
    const server = number % 2 === 0 ? clusterDns4 : clusterDns6;
    const name = `n-${number % 200}.allowed.test`;
    const { addresses } = await askDns(this.#pods.client, { server, name });
    await this.#pods.client.tcp({ to: addresses[0] ?? '', port: 80 });
  }

  async #exchange(): Promise<void> {
    const { data } = await this.#stream.exchange({ data: message, want: message.length });
    this.#exchanges++;
    assert.equal(Buffer.from(data).toString(), message);
  }
}
