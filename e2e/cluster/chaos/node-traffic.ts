// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Traffic of the asking pod of a node during a run: queries at a rate, a connection to some of the answers, connections that stay open. */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RunningProcess, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { addressOf, type Question } from '../../chaos/names.ts';
import { type QueryRecord, readRecords } from '../../chaos/records.ts';
import { type RunningLoad, startLoad } from '../../kit/load.ts';
import { dnsServiceAddress } from '../layout.ts';
import type { LongConnections } from '../trials/long-connections.ts';
import { askerOf, type ClusterStage } from './stage.ts';

/** A query that has no answer by then is lost. */
export const answerTimeoutMs = 5000;
/** One of so many answers is used at once, by a connection. */
const connectEvery = 4;
export const sockets = 16;
/** Names for so long, unless a fault lasts longer; after that they come again, and new ones are not new any more. */
export const newNamesSeconds = 40;
/** Queries of a pod. */
export interface Asks {
  /** A second. */
  readonly rate: number;
  /** For which it has names. */
  readonly seconds: number;
}
/** No run is longer. */
export const secondsMax = 600;
const connections = 5;
const exchangeMs = 200;
const openTimeoutMs = 30_000;
/** Number of loads so far, a part of their file names: a load after a power cut must not find the files of the one before. */
let started = 0;

export interface NodeSaw {
  readonly questions: readonly Question[];
  readonly records: readonly QueryRecord[];
  /** Queries that could not be sent. */
  readonly unsent: number;
  /** How connections ended that were to stay open. */
  readonly broken: readonly string[];
}

export class NodeTraffic implements AsyncDisposable {
  readonly node: number;
  /** Its node has lost its power: nothing after that says anything. */
  isCut = false;
  readonly #questions: readonly Question[];
  readonly #recordsFile: string;
  readonly #load: RunningLoad;
  readonly #long: RunningProcess;

  private constructor(
    node: number,
    questions: readonly Question[],
    recordsFile: string,
    load: RunningLoad,
    long: RunningProcess,
  ) {
    this.node = node;
    this.#questions = questions;
    this.#recordsFile = recordsFile;
    this.#load = load;
    this.#long = long;
  }

  /** Resolves when its connections are open. */
  static async start(
    stage: ClusterStage,
    node: number,
    { rate, seconds }: Asks,
  ): Promise<NodeTraffic> {
    const place = stage.asker(node);
    if (place === null) throw new Error(`${askerOf(node)} has no process`);
    const questions = stage.names.take(Math.ceil(rate * seconds));
    const number = ++started;
    const namesFile = join(stage.directory, `names-${number}`);
    const recordsFile = join(stage.directory, `records-${number}`);
    writeFileSync(namesFile, questions.map(({ name }) => `${name}\n`).join(''));
    const load = startLoad(place, {
      ...{ server: dnsServiceAddress, rate, seconds: secondsMax, timeoutMs: answerTimeoutMs },
      ...{ sockets, namesFile, recordsFile, connectEvery },
    });
    const script = fileURLToPath(new URL('../trials/long-connections.ts', import.meta.url));
    // Of a name that is asked all the time.
    const target = [addressOf(1), `${connections}`, `${exchangeMs}`];
    const long = startProcess(
      ...place.enter(process.execPath, [...process.execArgv, script, ...target]),
    );
    const traffic = new NodeTraffic(node, questions, recordsFile, load, long);
    try {
      await waitFor(() => long.stdout().startsWith('open\n'), {
        what: `${connections} connections of ${askerOf(node)} to be open`,
        timeoutMs: openTimeoutMs,
      });
    } catch (error) {
      await traffic[Symbol.asyncDispose]();
      throw error;
    }
    return traffic;
  }

  /** The node is about to lose its power. */
  cut(): void {
    this.isCut = true;
    this.#load.end();
    this.#long.child.kill('SIGKILL');
  }

  /** Ends it, once what is in flight is answered or lost. */
  async end(): Promise<NodeSaw> {
    this.#load.end();
    this.#long.stdin.end();
    const { sendFailed } = await this.#load.result;
    await this.#long.exited;
    const broken = this.isCut
      ? []
      : (JSON.parse(this.#long.stdout().slice('open\n'.length)) as LongConnections).broken;
    // The list comes round when it is at its end.
    const records = readRecords(this.#recordsFile).map((record) => ({
      ...record,
      number: record.number % this.#questions.length,
    }));
    rmSync(this.#recordsFile);
    return { questions: this.#questions, records, unsent: this.isCut ? 0 : sendFailed, broken };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#load[Symbol.asyncDispose]();
    await this.#long.stop();
  }
}
