// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod of a node that no policy selects, beside the one that asks under policy: the same rate, the same server, names of the same
 * zone. What it loses or waits for is no member's doing: its queries pass none.
 */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Inside } from '@tandem/testing/probe-process';
import { waitFor } from '@tandem/testing/wait';
import type { Question } from '../../chaos/names.ts';
import { type QueryRecord, readRecords } from '../../chaos/records.ts';
import { type RunningLoad, startLoad } from '../../kit/load.ts';
import { dnsServiceAddress, nodeName } from '../layout.ts';
import { type Asks, answerTimeoutMs, secondsMax, sockets } from './node-traffic.ts';
import type { ClusterStage } from './stage.ts';

/** As NodeTraffic's connections. */
const podTimeoutMs = 30_000;
let started = 0;

export class DirectTraffic implements AsyncDisposable {
  readonly node: number;
  readonly #questions: readonly Question[];
  readonly #recordsFile: string;
  readonly #load: RunningLoad;

  private constructor(stage: ClusterStage, node: number, { rate, seconds }: Asks, place: Inside) {
    this.node = node;
    // No member refuses it a denied name, and the oracle takes one that reaches the upstream for a leak.
    this.#questions = stage.names
      .take(Math.ceil(rate * seconds))
      .filter(({ kind }) => kind !== 'denied');
    const number = ++started;
    const namesFile = join(stage.directory, `direct-names-${number}`);
    this.#recordsFile = join(stage.directory, `direct-records-${number}`);
    writeFileSync(namesFile, this.#questions.map(({ name }) => `${name}\n`).join(''));
    this.#load = startLoad(place, {
      ...{ server: dnsServiceAddress, rate, seconds: secondsMax, timeoutMs: answerTimeoutMs },
      ...{ sockets, namesFile, recordsFile: this.#recordsFile },
    });
  }

  /** Waits for the pod, which may not be there yet after a power cut. */
  static async start(stage: ClusterStage, node: number, asks: Asks): Promise<DirectTraffic> {
    const pod = `stranger-${nodeName(node)}`;
    const place = await waitFor(() => stage.inside(pod), {
      what: `${pod} to have a process`,
      timeoutMs: podTimeoutMs,
    });
    return new DirectTraffic(stage, node, asks, place);
  }

  /** Sends nothing more; its node is about to lose its power. */
  cut(): void {
    this.#load.end();
  }

  /** Ends it, once what is in flight is answered or lost. */
  async end(): Promise<{
    readonly questions: readonly Question[];
    readonly records: readonly QueryRecord[];
  }> {
    this.#load.end();
    await this.#load.result;
    const records = readRecords(this.#recordsFile).map((record) => ({
      ...record,
      number: record.number % this.#questions.length,
    }));
    rmSync(this.#recordsFile);
    return { questions: this.#questions, records };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#load[Symbol.asyncDispose]();
  }
}
