// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Traffic of one pod under the demonstration's policy while something is done to Tandem: queries at a rate, and connections that stay open. */

import { fileURLToPath } from 'node:url';
import { type RunningProcess, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { dnsServiceAddress, worldNewAddress, worldNewNumberMax } from '../layout.ts';
import type { LongConnections } from './long-connections.ts';

export const queriesPerSecond = 500;
export const connections = 20;
const exchangeMs = 100;
/** A lookup that takes longer is lost. */
const answerTimeoutMs = 5000;
const openTimeoutMs = 30_000;
/** No trial is longer. */
const secondsMax = 1800;
const lateUs = 1_000_000;

interface LoadResult {
  readonly sent: number;
  readonly lost: number;
  readonly maxUs: number;
  readonly p99Us: number;
  readonly rcodes: Readonly<Record<string, number>>;
  /** By the second in which lookups were sent. */
  readonly seconds: readonly { readonly maxUs: number }[];
}

/** Faults of the DNS server that explain late and lost lookups. */
export interface ServerFaults {
  /** Lookups that it answered late. */
  readonly slow: number;
  /** Queries that its full receive buffer did not take: it had no CPU time, so those before and after them are late. */
  readonly dropped: number;
}

export class Traffic implements AsyncDisposable {
  readonly #load: RunningProcess;
  readonly #long: RunningProcess;

  private constructor(load: RunningProcess, long: RunningProcess) {
    this.#load = load;
    this.#long = long;
  }

  /** Starts traffic in a pod. `pid`: a process of the pod, in the machine's namespace. */
  static async start(pid: number): Promise<Traffic> {
    const inPod = (command: string, args: readonly string[]): [string, string[]] => [
      'nsenter',
      [`--net=/proc/${pid}/ns/net`, command, ...args],
    ];
    const options = {
      server: dnsServiceAddress,
      rate: queriesPerSecond,
      seconds: secondsMax,
      'name-format': 'new-%u.example.com',
      'name-start': 1,
      'name-count': worldNewNumberMax,
      sockets: 16,
      'queries-per-port': 50,
      'timeout-ms': answerTimeoutMs,
    };
    const tool = fileURLToPath(new URL('../../bench/native/build/load', import.meta.url));
    const loadArguments = Object.entries(options).flatMap(([name, value]) => [
      `--${name}`,
      `${value}`,
    ]);
    const script = fileURLToPath(new URL('long-connections.ts', import.meta.url));
    const load = startProcess(...inPod(tool, loadArguments));
    // To an address that the queries bring: the policy allows it by its name.
    const target = [worldNewAddress(1), `${connections}`, `${exchangeMs}`];
    const long = startProcess(...inPod(process.execPath, [...process.execArgv, script, ...target]));
    const traffic = new Traffic(load, long);
    try {
      await waitFor(() => long.stdout().startsWith('open\n'), {
        what: `${connections} connections to be open`,
        timeoutMs: openTimeoutMs,
      });
    } catch (error) {
      await traffic[Symbol.asyncDispose]();
      throw error;
    }
    return traffic;
  }

  /** Ends it, and says what became of it. @throws Error when something was lost, late or broken that the DNS server does not explain */
  async end(server: () => Promise<ServerFaults>): Promise<string> {
    this.#load.child.kill('SIGTERM');
    this.#long.stdin.end();
    const load = await resultOf<LoadResult>(this.#load, 'load');
    const long = await resultOf<LongConnections>(this.#long, 'long-connections');
    const { sent, lost, maxUs, rcodes } = load;
    const refused = sent - lost - (rcodes['0'] ?? 0);
    const ms = (us: number): string => `${(us / 1000).toFixed(0)} ms`;
    const lateIn = load.seconds.flatMap(({ maxUs: us }, second) => (us > lateUs ? [second] : []));
    const isClean = lateIn.length === 0 && lost === 0;
    const { slow, dropped } = isClean ? { slow: 0, dropped: 0 } : await server();
    const late = isClean
      ? ''
      : `, late in seconds ${lateIn.join(', ') || 'none'} of ${load.seconds.length} (${slow} slow in the DNS server itself, ${dropped} dropped at its full receive buffer)`;
    const text =
      `${sent} lookups, ${lost} lost, ${refused} failed, slowest ${ms(maxUs)}${late}, p99 ${ms(load.p99Us)}; ` +
      `${long.opened} connections, ${long.exchanges} exchanges, slowest ${long.slowestMs.toFixed(0)} ms, ${long.broken.length} broken`;
    const isWell =
      lost <= dropped &&
      refused === 0 &&
      (lateIn.length <= slow || dropped > 0) &&
      long.opened === connections &&
      long.broken.length === 0;
    if (!isWell) throw new Error(`${text} ${long.broken.slice(0, 3).join(', ')}`.trim());
    return text;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#load.stop();
    await this.#long.stop();
  }
}

/** The last line that it wrote. @throws Error that says how it ended, when that is none of JSON */
async function resultOf<Result>(program: RunningProcess, what: string): Promise<Result> {
  const { status, signal } = await program.exited;
  const line = program.stdout().trim().split('\n').at(-1) ?? '';
  if (line.startsWith('{')) return JSON.parse(line) as Result;
  const how = signal ?? `status ${status}`;
  throw new Error(`${what} ended with ${how} and no result: ${program.stderr().trim()}`);
}
