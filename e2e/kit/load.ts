// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A load of queries from a namespace, by the benchmark's generator. */

import { fileURLToPath } from 'node:url';
import type { Namespace } from '@tandem/testing/namespace';
import { type RunningProcess, startProcess } from '@tandem/testing/process';

export interface LoadOptions {
  readonly server: string;
  /** Queries per second. */
  readonly rate: number;
  readonly seconds: number;
  /** With %u for the number. */
  readonly nameFormat: string;
  readonly nameStart?: number;
  /** How many names are asked in turn; default: never the same twice. */
  readonly nameCount?: number;
  readonly sockets?: number;
  /** A query is lost when there is no answer by then. */
  readonly timeoutMs?: number;
}

export interface LoadResult {
  readonly sent: number;
  readonly answered: number;
  readonly lost: number;
  readonly late: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly maxUs: number;
  readonly rcodes: Readonly<Record<string, number>>;
}

export interface RunningLoad extends AsyncDisposable {
  readonly result: Promise<LoadResult>;
}

/** Starts the load; it ends by itself. */
export function startLoad(namespace: Namespace, options: LoadOptions): RunningLoad {
  const tool = fileURLToPath(new URL('../bench/native/build/load', import.meta.url));
  const args = [
    ...['--server', options.server, '--rate', String(options.rate)],
    ...['--seconds', String(options.seconds), '--name-format', options.nameFormat],
    ...['--name-start', String(options.nameStart ?? 0)],
    ...(options.nameCount === undefined ? [] : ['--name-count', String(options.nameCount)]),
    ...[
      '--sockets',
      String(options.sockets ?? 16),
      '--timeout-ms',
      String(options.timeoutMs ?? 2000),
    ],
  ];
  const running = startProcess(...namespace.enter(tool, args));
  const result = resultOf(running);
  // A test that fails meanwhile stops the load; its own error is the one to tell.
  result.catch(() => undefined);
  return { result, [Symbol.asyncDispose]: () => running.stop() };
}

async function resultOf(running: RunningProcess): Promise<LoadResult> {
  const { status } = await running.exited;
  if (status !== 0) throw new Error(`load ended with ${status}: ${running.stderr()}`);
  return JSON.parse(running.stdout()) as LoadResult;
}
