// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What a run of the benchmark says: medians, spread, ratios, and whether the targets hold. */

import { execFileSync } from 'node:child_process';
import { cpus, release } from 'node:os';
import { median } from './cpu.ts';
import type { JournalCost } from './journal-cost.ts';
import type { Sample } from './load-run.ts';
import type { PacketCost } from './packet-cost.ts';
import type { Subject } from './subjects.ts';

/** One element of the array of `--json`. */
export interface Result {
  readonly subject: string;
  readonly patterns: number;
  readonly processes: number;
  readonly cpuUsPerQueryAtRate: number;
  readonly cpuUsPerQuerySaturated: number;
  readonly qpsMax: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly rssMiB: number;
}

/** What was measured beside the subjects. */
export interface PartCosts {
  packets: readonly PacketCost[];
  journal: JournalCost | null;
}

export interface Measured {
  readonly result: Result;
  readonly samples: readonly Sample[];
}

export interface RunFacts {
  readonly date: string;
  readonly rounds: number;
  readonly seconds: number;
  readonly rate: number;
  /** One-minute load average before, in between and after, others' work included. */
  readonly loadAverages: readonly number[];
}

type SampleField = Exclude<keyof Result, 'subject' | 'patterns' | 'processes'>;

export function summarise(subject: Subject, samples: readonly Sample[]): Measured {
  const of = (field: SampleField): number =>
    Number(median(samples.map((sample) => sample[field])).toPrecision(5));
  const { name, patterns, processes } = subject;
  const result: Result = {
    subject: name,
    patterns,
    processes,
    cpuUsPerQueryAtRate: of('cpuUsPerQueryAtRate'),
    cpuUsPerQuerySaturated: of('cpuUsPerQuerySaturated'),
    qpsMax: of('qpsMax'),
    p50Us: of('p50Us'),
    p99Us: of('p99Us'),
    rssMiB: of('rssMiB'),
  };
  return { result, samples };
}

function spread(samples: readonly Sample[], field: SampleField, digits: number): string {
  const values = samples.map((sample) => sample[field]);
  return `${Math.min(...values).toFixed(digits)}..${Math.max(...values).toFixed(digits)}`;
}

function total(samples: readonly Sample[], field: 'lost' | 'refused'): number {
  return samples.reduce((sum, sample) => sum + sample[field], 0);
}

function find(
  measured: readonly Measured[],
  subject: string,
  patterns: number,
  processes = 1,
): Measured | undefined {
  return measured.find(
    ({ result }) =>
      result.subject === subject && result.patterns === patterns && result.processes === processes,
  );
}

/**
 * The median of the ratio of two subjects' values of the same round: what disturbs a round disturbs
 * both.
 */
function ratio(a: Measured, b: Measured, field: SampleField): number {
  return median(a.samples.map((sample, i) => sample[field] / (b.samples[i] as Sample)[field]));
}

export function queryTable(measured: readonly Measured[]): string {
  const relay = find(measured, 'relay', 0);
  const head = [
    ...['subject', 'patterns', 'processes', 'us/query at rate', 'us/query saturated', 'spread'],
    ...['x relay', 'queries/s max', 'p50 us', 'p99 us', 'spread', 'RSS MiB', 'lost', 'refused'],
  ];
  const rows = measured.map((entry) => {
    const { result, samples } = entry;
    return [
      result.subject,
      result.patterns === 0 ? '-' : String(result.patterns),
      String(result.processes),
      result.cpuUsPerQueryAtRate.toFixed(1),
      result.cpuUsPerQuerySaturated.toFixed(1),
      spread(samples, 'cpuUsPerQuerySaturated', 1),
      relay === undefined ? '-' : ratio(entry, relay, 'cpuUsPerQuerySaturated').toFixed(2),
      result.qpsMax.toFixed(0),
      result.p50Us.toFixed(0),
      result.p99Us.toFixed(0),
      spread(samples, 'p99Us', 0),
      result.rssMiB.toFixed(1),
      String(total(samples, 'lost')),
      String(total(samples, 'refused')),
    ];
  });
  return table(head, rows);
}

export function packetTable(costs: readonly PacketCost[]): string {
  const rows = costs.map(({ subject, minNs, medianNs }) => [
    subject,
    String(minNs),
    String(medianNs),
  ]);
  return table(['program: packet', 'ns, least', 'ns, median'], rows);
}

/** What is asked of Tandem, what was seen, and whether that is enough; only what was measured. */
export function targetTable(measured: readonly Measured[], journal: JournalCost | null): string {
  const rows: string[][] = [];
  const add = (what: string, seen: number | undefined, limit: number, digits = 2): void => {
    if (seen === undefined) return;
    const verdict = seen <= limit ? 'met' : 'NOT MET';
    rows.push([what, `${seen.toFixed(digits)} (at most ${limit})`, verdict]);
  };
  const tandem = find(measured, 'tandem', 100);
  if (tandem === undefined) return '';
  const against = (other: Measured | undefined, field: SampleField): number | undefined =>
    other === undefined ? undefined : ratio(tandem, other, field);
  const relay = find(measured, 'relay', 0);
  const dnsdist = find(measured, 'dnsdist', 0);
  const large = find(measured, 'tandem', 10_000);
  add('CPU per query saturated, to the relay', against(relay, 'cpuUsPerQuerySaturated'), 1.6);
  add('CPU per query saturated, to dnsdist', against(dnsdist, 'cpuUsPerQuerySaturated'), 1.2);
  const growth = large === undefined ? undefined : ratio(large, tandem, 'cpuUsPerQuerySaturated');
  add('CPU per query saturated, 10,000 patterns to 100', growth, 1.2);
  add('p99 at the fixed rate, to dnsdist', against(dnsdist, 'p99Us'), 1);
  add('resident memory without the journal, MiB', tandem.result.rssMiB, 100, 1);
  add(
    'CPU of the journal, us per query',
    journal === null ? undefined : journal.costNs / 1000,
    0.3,
  );
  const ours = measured.filter(({ result }) => result.subject.startsWith('tandem'));
  const failed = ours.reduce(
    (sum, { samples }) => sum + total(samples, 'lost') + total(samples, 'refused'),
    0,
  );
  add('queries lost or refused, all shapes', failed, 0, 0);
  return table(['target', 'seen', ''], rows);
}

/** The page that is kept: how it was measured comes first. */
export function markdown(
  facts: RunFacts,
  measured: readonly Measured[],
  { packets, journal }: PartCosts,
): string {
  const lines = [
    `# Benchmark of ${facts.date}`,
    '',
    ...factLines(facts).map((line) => `- ${line}`),
    '',
    queryTable(measured),
    '',
    'CPU is on-CPU time of all threads of the subject (schedstat) over answered queries; the kernel work',
    'that a send does on its way to the next socket is in it, for all alike. "x relay" is the median of',
    'the ratios within a round. "tandem": policy, learning, events and exchange on, 1,000 names that',
    'repeat; with one process the agent was killed. "tandem-fresh": every name is new, so every answer is',
    'learned and, the quota of its namespace full, evicts another. Peers only forward. RSS is that of the',
    'DNS proxy or peer after load, without the 8 MiB of the journal that it has mapped. p50 and p99 are',
    'those of the fixed rate; saturated: 128 in flight. The journal alone: the life of a slot in it, less',
    'the same in private memory without states.',
    '',
    targetTable(measured, journal),
  ];
  if (packets.length > 0) {
    lines.push('', '## BPF programs, per packet (test_run, hot caches)', '', packetTable(packets));
    lines.push('', '`select_member` and `guard_port` are of types that have no test run.');
  }
  return `${lines.join('\n')}\n`;
}

export function factLines(facts: RunFacts): string[] {
  const { rounds, seconds, rate, loadAverages } = facts;
  const load = loadAverages.map((value) => value.toFixed(1)).join(', ');
  return [
    `commit ${commit()}, node ${process.version}, Linux ${release()}, ${cpus().length} x ${cpus()[0]?.model.trim()}`,
    `medians of ${rounds} interleaved rounds, ${seconds} s at ${rate} queries a second and ${seconds} s saturated each`,
    `load average ${load}: load, upstream and subject run on the same CPUs, and so may others`,
    'a loop of the class SCHED_IDLE keeps each CPU awake: no wake-up waits for the host of a virtual machine',
  ];
}

function commit(): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' }).trim();
  try {
    const isChanged = git('status', '--porcelain', '--untracked-files=no') !== '';
    return `${git('rev-parse', '--short=12', 'HEAD')}${isChanged ? ' with changes' : ''}`;
  } catch {
    return 'unknown (no git)';
  }
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const widths = head.map((cell, i) =>
    Math.max(cell.length, ...rows.map((row) => (row[i] ?? '').length)),
  );
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell, i) => cell.padEnd(widths[i] as number)).join(' | ')} |`;
  const rule = `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`;
  return [line(head), rule, ...rows.map(line)].join('\n');
}
