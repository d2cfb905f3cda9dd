// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A load of queries from a namespace, by the benchmark's generator. */

import { fileURLToPath } from 'node:url';
import type { Inside } from '@tandem/testing/probe-process';
import { type RunningProcess, startProcess } from '@tandem/testing/process';

export interface LoadOptions {
  readonly server: string;
  /** Queries per second. */
  readonly rate: number;
  /** At most: `end` ends it before. */
  readonly seconds: number;
  /** With %u for the number. */
  readonly nameFormat?: string;
  readonly nameStart?: number;
  /** How many names are asked in turn; default: never the same twice. */
  readonly nameCount?: number;
  readonly sockets?: number;
  /** Queries of a socket before it is opened again, with another port; default: no end. */
  readonly queriesPerPort?: number;
  /** Instead of a format: a file with a name a line, asked in this order. */
  readonly namesFile?: string;
  /** Where to write what became of each query (`chaos/records.ts`). */
  readonly recordsFile?: string;
  /** Number of answers with an address of which one is used: a TCP connection to port 80. Needs `recordsFile`. */
  readonly connectEvery?: number;
  /** A query is lost when there is no answer by then. */
  readonly timeoutMs?: number;
}

export interface LoadResult {
  readonly sent: number;
  readonly answered: number;
  readonly lost: number;
  readonly late: number;
  /** The system refused to send: an error that an earlier query got back, for one. */
  readonly sendFailed: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
  readonly rcodes: Readonly<Record<string, number>>;
}

export interface RunningLoad extends AsyncDisposable {
  readonly result: Promise<LoadResult>;
  /** Sends nothing more; what is in flight is still waited for. */
  end(): void;
}

/** Starts the load; it ends by itself. */
export function startLoad(namespace: Inside, options: LoadOptions): RunningLoad {
  const tool = fileURLToPath(new URL('../bench/native/build/load', import.meta.url));
  const { nameFormat, namesFile, recordsFile, connectEvery } = options;
  const args = Object.entries({
    server: options.server,
    rate: options.rate,
    seconds: options.seconds,
    names: namesFile,
    'name-format': nameFormat,
    'name-start': nameFormat === undefined ? undefined : (options.nameStart ?? 0),
    'name-count': options.nameCount,
    sockets: options.sockets ?? 16,
    'queries-per-port': options.queriesPerPort,
    'timeout-ms': options.timeoutMs ?? 2000,
    records: recordsFile,
    'connect-every': connectEvery,
    'connect-port': connectEvery === undefined ? undefined : 80,
  }).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, String(value)]));
  const running = startProcess(...namespace.enter(tool, args));
  const result = resultOf(running);
  // A test that fails meanwhile stops the load; its own error is the one to tell.
  result.catch(() => undefined);
  return {
    result,
    end: () => running.child.kill('SIGTERM'),
    [Symbol.asyncDispose]: () => running.stop(),
  };
}

async function resultOf(running: RunningProcess): Promise<LoadResult> {
  const { status } = await running.exited;
  if (status !== 0) throw new Error(`load ended with ${status}: ${running.stderr()}`);
  return JSON.parse(running.stdout()) as LoadResult;
}

/** Queries that were not answered, or with an error. */
export function lossOf({ sent, rcodes }: LoadResult): number {
  return sent - (rcodes['0'] ?? 0);
}

export function describeLoss(result: LoadResult): string {
  const { sent, lost, rcodes, sendFailed, maxUs } = result;
  return (
    `${lossOf(result)} of ${sent} lost (${lost} unanswered, ${rcodes['2'] ?? 0} SERVFAIL, ` +
    `${sendFailed} not sent), slowest ${Math.round(maxUs / 1000)} ms`
  );
}
