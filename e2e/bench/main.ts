// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * ./run bench: what a query costs, beside other forwarders, interleaved in one run so that the machine's
 * mood hits all alike. Absolutes mean little on a shared machine; read the ratios.
 */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ownPrefix } from '@tandem/testing/namespace';
import type { TestNode } from '@tandem/testing/netns';
import { runShort } from '@tandem/testing/process';
import { cpuUs, median, rssMiB } from './cpu.ts';
import { nameOf, peerSubjects, type Subject, tandemSubject, tool } from './subjects.ts';

const help = `usage: ./run bench [OPTIONS]

  --json FILE     write the results as JSON
  --rounds N      interleaved rounds, default 7
  --seconds N     length of one measurement, default 3
  --rate N        queries per second of the fixed rate, default 2000
  --only A,B      subjects by name (tandem, relay, unbound, dnsmasq, dnsdist)
  --skip-large    leave out 10,000 patterns
`;

interface Load {
  readonly sent: number;
  readonly answered: number;
  readonly elapsedS: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly rcodes: Readonly<Record<string, number>>;
}

interface Sample {
  readonly cpuUsPerQueryAtRate: number;
  readonly cpuUsPerQuerySaturated: number;
  readonly qpsMax: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly rssMiB: number;
  readonly lost: number;
}

export interface Result extends Omit<Sample, 'lost'> {
  readonly subject: string;
  readonly patterns: number;
  readonly processes: number;
}

async function load(subject: Subject, namesFile: string, args: readonly string[]): Promise<Load> {
  const target = ['--server', subject.server, '--port', String(subject.port)];
  const names = ['--names', namesFile, '--sockets', '16', '--edns'];
  const [command, all] = subject.client.enter(tool('load'), [...target, ...names, ...args]);
  return JSON.parse(await runShort(command, all)) as Load;
}

function cpuOf(subject: Subject): number {
  return subject.pids().reduce((sum, pid) => sum + cpuUs(pid), 0);
}

async function measure(
  subject: Subject,
  namesFile: string,
  seconds: number,
  rate: number,
): Promise<Sample> {
  const bounded = ['--seconds', String(seconds)];
  const before = cpuOf(subject);
  const fixed = await load(subject, namesFile, [...bounded, '--rate', String(rate)]);
  const between = cpuOf(subject);
  const full = await load(subject, namesFile, [...bounded, '--window', '128']);
  const after = cpuOf(subject);
  return {
    cpuUsPerQueryAtRate: (between - before) / fixed.answered,
    cpuUsPerQuerySaturated: (after - between) / full.answered,
    qpsMax: full.answered / full.elapsedS,
    p50Us: fixed.p50Us,
    p99Us: fixed.p99Us,
    rssMiB: Math.max(...subject.pids().map(rssMiB)),
    lost: fixed.sent - good(fixed) + full.sent - good(full),
  };
}

/** Answers with NOERROR: a refusal is cheap, and no answer. */
function good({ rcodes }: Load): number {
  return rcodes['0'] ?? 0;
}

function summarise(subject: Subject, samples: readonly Sample[]): Result {
  const of = (field: keyof Sample): number => median(samples.map((sample) => sample[field]));
  return {
    subject: subject.name,
    patterns: subject.patterns,
    processes: subject.processes,
    cpuUsPerQueryAtRate: of('cpuUsPerQueryAtRate'),
    cpuUsPerQuerySaturated: of('cpuUsPerQuerySaturated'),
    qpsMax: of('qpsMax'),
    p50Us: of('p50Us'),
    p99Us: of('p99Us'),
    rssMiB: of('rssMiB'),
  };
}

/** Medians, the spread of the saturated cost, and the ratio to the relay. */
function print(results: readonly Result[], samples: ReadonlyMap<Subject, readonly Sample[]>): void {
  const floor = results.find(({ subject }) => subject === 'relay')?.cpuUsPerQuerySaturated;
  const rows = [...samples.keys()].map((subject, index) => {
    const result = results[index] as Result;
    const costs = (samples.get(subject) ?? []).map((sample) => sample.cpuUsPerQuerySaturated);
    const lost = (samples.get(subject) ?? []).reduce((sum, sample) => sum + sample.lost, 0);
    return {
      subject: subject.name,
      patterns: subject.patterns,
      proc: subject.processes,
      'us/q rate': result.cpuUsPerQueryAtRate.toFixed(1),
      'us/q max': result.cpuUsPerQuerySaturated.toFixed(1),
      'min..max': `${Math.min(...costs).toFixed(1)}..${Math.max(...costs).toFixed(1)}`,
      'x relay': floor === undefined ? '-' : (result.cpuUsPerQuerySaturated / floor).toFixed(2),
      'q/s max': Math.round(result.qpsMax),
      'p50 us': Math.round(result.p50Us),
      'p99 us': Math.round(result.p99Us),
      'RSS MiB': Math.round(result.rssMiB),
      lost,
    };
  });
  console.table(rows);
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      json: { type: 'string' },
      rounds: { type: 'string', default: '7' },
      seconds: { type: 'string', default: '3' },
      rate: { type: 'string', default: '2000' },
      only: { type: 'string' },
      'skip-large': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(help);
    return 0;
  }
  const [rounds, seconds, rate] = [values.rounds, values.seconds, values.rate].map(Number) as [
    number,
    number,
    number,
  ];
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}bench-`));
  const namesFile = join(directory, 'names');
  writeFileSync(namesFile, Array.from({ length: 1000 }, (_, i) => nameOf(i)).join('\n'));
  const nodes: TestNode[] = [];
  try {
    const subjects = await prepare(nodes, values['skip-large']);
    const only = values.only?.split(',');
    const chosen = subjects.filter(({ name }) => only === undefined || only.includes(name));
    const samples = new Map<Subject, Sample[]>(chosen.map((subject) => [subject, []]));
    for (let round = 0; round <= rounds; round++) {
      for (const subject of chosen) {
        process.stderr.write(
          `\r\x1b[Kround ${round}/${rounds}${round === 0 ? ' (warm-up)' : ''}: ${subject.name} ${subject.patterns} `,
        );
        const sample = await measure(subject, namesFile, round === 0 ? 1 : seconds, rate);
        if (round > 0) samples.get(subject)?.push(sample);
      }
    }
    process.stderr.write('\r\x1b[K');
    const results = chosen.map((subject) => summarise(subject, samples.get(subject) ?? []));
    console.log(
      `medians of ${rounds} rounds of ${seconds} s, load average ${loadavg()[0]?.toFixed(1)}`,
    );
    print(results, samples);
    if (values.json !== undefined) {
      writeFileSync(values.json, `${JSON.stringify(results, null, 2)}\n`);
    }
    return 0;
  } finally {
    for (const node of nodes) await node[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function prepare(nodes: TestNode[], skipLarge: boolean): Promise<Subject[]> {
  const shapes: [number, 1 | 2][] = [
    [100, 1],
    [100, 2],
    ...(skipLarge ? [] : ([[10_000, 1]] satisfies [number, 1][])),
  ];
  const [peers, peerNode] = await peerSubjects();
  nodes.push(peerNode);
  const subjects = [...peers];
  for (const [patterns, processes] of shapes) {
    process.stderr.write(`\r\x1b[Kpreparing tandem with ${patterns} patterns`);
    const [subject, node] = await tandemSubject(patterns, processes);
    nodes.push(node);
    subjects.push(subject);
  }
  return subjects;
}

process.exitCode = await main();
