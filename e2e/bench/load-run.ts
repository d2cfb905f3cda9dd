// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One measurement of one subject: a fixed rate, then as much as it takes. */

import { run } from '@tandem/testing/process';
import { cpuUs, rssMiB } from './cpu.ts';
import { type Subject, type Transport, tool } from './subjects.ts';

interface Shape {
  readonly program: 'load' | 'tcp-load';
  /** Ports of the client, or connections at a time; an endpoint of Tandem may have 20 of these. */
  readonly sockets: number;
  /** Queries in flight at saturation. */
  readonly window: number;
  /** Share of the fixed rate. */
  readonly rateShare: number;
  readonly options: readonly string[];
}

const shapes: Readonly<Record<Transport, Shape>> = {
  udp: { program: 'load', sockets: 16, window: 128, rateShare: 1, options: [] },
  tcp: { program: 'tcp-load', sockets: 8, window: 128, rateShare: 1, options: [] },
  'tcp-single': {
    program: 'tcp-load',
    sockets: 8,
    window: 8,
    rateShare: 1 / 4,
    options: ['--queries-per-port', '1'],
  },
};
/** The load waits for late answers before it ends. */
const endTimeoutMs = 20_000;

export interface LoadSettings {
  readonly seconds: number;
  /** Queries per second of the fixed rate. */
  readonly rate: number;
  /** Names that are asked in turn, one a line. */
  readonly namesFile: string;
}

interface LoadOutput {
  readonly sent: number;
  readonly answered: number;
  readonly elapsedS: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly rcodes: Readonly<Record<string, number>>;
}

export interface Sample {
  readonly cpuUsPerQueryAtRate: number;
  readonly cpuUsPerQuerySaturated: number;
  readonly qpsMax: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly rssMiB: number;
  /** Queries without any answer, and answers that are not NOERROR: a refusal is cheap, and no answer. */
  readonly lost: number;
  readonly refused: number;
}

/** Numbers of names that were given to fresh loads so far: none comes twice in a run. */
let freshNames = 0;

async function load(
  subject: Subject,
  settings: LoadSettings,
  mode: readonly string[],
): Promise<LoadOutput> {
  const names = subject.isFresh
    ? ['--name-format', 'n-%u.p0007.bench.example.net', '--name-start', String(freshNames)]
    : ['--names', settings.namesFile];
  const { program, sockets, options } = shapes[subject.transport];
  const [command, args] = subject.client.enter(tool(program), [
    ...['--server', subject.server, '--port', String(subject.port)],
    ...['--sockets', String(sockets), '--edns', '--seconds', String(settings.seconds)],
    ...options,
    ...names,
    ...mode,
  ]);
  const timeoutMs = settings.seconds * 1000 + endTimeoutMs;
  const output = JSON.parse((await run(command, args, { timeoutMs })).stdout) as LoadOutput;
  if (subject.isFresh) freshNames += output.sent;
  if (output.answered === 0) throw new Error(`${subject.name} answered none of ${output.sent}`);
  return output;
}

/** CPU time of all processes of the subject since they started. */
function cpuOf(subject: Subject): number {
  return subject.pids().reduce((sum, pid) => sum + cpuUs(pid), 0);
}

export async function measure(subject: Subject, settings: LoadSettings): Promise<Sample> {
  const { window, rateShare } = shapes[subject.transport];
  const rate = Math.max(1, Math.floor(settings.rate * rateShare));
  const start = cpuOf(subject);
  const fixed = await load(subject, settings, ['--rate', String(rate)]);
  const between = cpuOf(subject);
  const full = await load(subject, settings, ['--window', String(window)]);
  const end = cpuOf(subject);
  const good = (fixed.rcodes['0'] ?? 0) + (full.rcodes['0'] ?? 0);
  const answered = fixed.answered + full.answered;
  return {
    cpuUsPerQueryAtRate: (between - start) / fixed.answered,
    cpuUsPerQuerySaturated: (end - between) / full.answered,
    qpsMax: full.answered / full.elapsedS,
    p50Us: fixed.p50Us,
    p99Us: fixed.p99Us,
    rssMiB: rssMiB(subject.pids()[0]!),
    lost: fixed.sent + full.sent - answered,
    refused: answered - good,
  };
}
