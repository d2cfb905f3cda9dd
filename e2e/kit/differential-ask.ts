// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Asks many DNS messages, octets in and octets out, over UDP and TCP: what a pod gets for each, or that nothing comes. */

import assert from 'node:assert/strict';
import { withLength } from '@tandem/testing/dns-query';
import type { Probe, Stream } from '@tandem/testing/probe';
import { ProbeError } from '@tandem/testing/probe-process';

export type Transport = 'udp' | 'tcp';

export interface Ask {
  readonly bytes: Uint8Array;
  readonly transport: Transport;
  readonly server: string;
  /** Over TCP: on a connection of its own. */
  readonly isAlone: boolean;
  /** After so long without an answer there is none. */
  readonly timeoutMs: number;
}

/** At once; less than the connections and the queries in flight that one pod may have. */
const workers = 8;

/** The answers in the order of `asks`, with id 0; null where nothing came, or the connection was closed. */
export async function askAll(probe: Probe, asks: readonly Ask[]): Promise<(Uint8Array | null)[]> {
  const answers: (Uint8Array | null)[] = asks.map(() => null);
  let next = 0;
  const work = async (): Promise<void> => {
    await using asker = new Asker(probe);
    for (let index = next++; index < asks.length; index = next++) {
      answers[index] = await asker.ask(asks[index] as Ask, 1 + (index % 0xffff));
    }
  };
  await Promise.all(Array.from({ length: workers }, work));
  return answers;
}

class Asker implements AsyncDisposable {
  readonly #probe: Probe;
  readonly #streams = new Map<string, Stream>();

  constructor(probe: Probe) {
    this.#probe = probe;
  }

  async ask(ask: Ask, id: number): Promise<Uint8Array | null> {
    const data = ask.bytes.slice();
    data.set([id >> 8, id & 255]);
    try {
      const answer = await this.#exchange(ask, data);
      if (answer === null) return null;
      assert.deepEqual([...answer.subarray(0, 2)], [...data.subarray(0, 2)], 'the id of the query');
      return Uint8Array.from([0, 0, ...answer.subarray(2)]);
    } catch (error) {
      // Silence, or a closed connection; what ends the probe is an error.
      if (error instanceof ProbeError) return null;
      throw error;
    }
  }

  async #exchange(ask: Ask, data: Uint8Array): Promise<Uint8Array | null> {
    const { server, timeoutMs } = ask;
    const to = { to: server, port: 53, timeoutMs };
    if (ask.transport === 'udp') {
      const { replies } = await this.#probe.udp({ ...to, data });
      assert.equal(replies[0]?.from, server, 'the reply is from the server that was asked');
      return replies[0].data;
    }
    const exchange = { data: withLength(data), messages: 1, timeoutMs };
    if (ask.isAlone) return (await this.#probe.tcp({ ...to, ...exchange })).data.subarray(2);
    const stream = this.#streams.get(server) ?? (await this.#probe.connect(to));
    // A client that fails leaves no connection behind: the next one opens its own.
    this.#streams.delete(server);
    const { data: answer } = await stream.exchange(exchange);
    this.#streams.set(server, stream);
    return answer.subarray(2);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const stream of this.#streams.values()) await stream.close();
  }
}
