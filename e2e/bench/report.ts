// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Report of a run of the benchmark: medians, spread, ratios, and whether the targets hold. */

import { execFileSync } from 'node:child_process';
import { cpus, loadavg, release } from 'node:os';
import { median } from './cpu.ts';
import type { JournalCost } from './journal-cost.ts';
import type { LastPackets } from './last-packets.ts';
import type { Sample } from './load-run.ts';
import type { NodeFigures } from './node-figures.ts';
import type { PacketCost } from './packet-cost.ts';
import { type PolicyCost, policyTables } from './policy/policy-cost.ts';
import type { Subject, Transport } from './subjects.ts';
import { table } from './table.ts';

/** One element of `results` of `--json`. */
export interface Result {
  readonly subject: string;
  readonly patterns: number;
  readonly processes: number;
  readonly transport: Transport;
  readonly cpuUsPerQueryAtRate: number;
  readonly cpuUsPerQuerySaturated: number;
  readonly qpsMax: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly rssMiB: number;
}

/** Measurements beside the subjects. */
export interface PartCosts {
  packets: readonly PacketCost[];
  journal: JournalCost | null;
  /** Null: not asked for. */
  node: NodeFigures | null;
  policies: readonly PolicyCost[];
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

type SampleField = Exclude<keyof Result, 'subject' | 'patterns' | 'processes' | 'transport'>;

export function summarise(subject: Subject, samples: readonly Sample[]): Measured {
  const of = (field: SampleField): number =>
    Number(median(samples.map((sample) => sample[field])).toPrecision(5));
  const { name, patterns, processes, transport } = subject;
  const result: Result = {
    subject: name,
    patterns,
    processes,
    transport,
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

export function total(samples: readonly Sample[], field: 'lost' | 'refused'): number {
  return samples.reduce((sum, sample) => sum + sample[field], 0);
}

export function find(
  measured: readonly Measured[],
  subject: string,
  patterns: number,
  transport: Transport = 'udp',
): Measured | undefined {
  return measured.find(
    ({ result }) =>
      result.subject === subject &&
      result.patterns === patterns &&
      result.processes === 1 &&
      result.transport === transport,
  );
}

/**
 * The median of the ratio of two subjects' values of the same round: what disturbs a round disturbs
 * both.
 */
export function ratio(a: Measured, b: Measured, field: SampleField): number {
  return median(a.samples.map((sample, i) => sample[field] / (b.samples[i] as Sample)[field]));
}

export function queryTable(measured: readonly Measured[]): string {
  const relay = find(measured, 'relay', 0);
  const overUdp = measured.filter(({ result }) => result.transport === 'udp');
  return resultTable(overUdp, 'relay', () => relay);
}

/** The same over TCP, beside dnsdist instead of the relay. */
export function tcpTable(measured: readonly Measured[]): string {
  const overTcp = measured.filter(({ result }) => result.transport !== 'udp');
  return resultTable(overTcp, 'dnsdist', ({ result }) =>
    find(measured, 'dnsdist', 0, result.transport),
  );
}

export const transportNames: Readonly<Record<Transport, string>> = {
  udp: 'UDP',
  tcp: '8 stay open',
  'tcp-single': 'one a query',
};

function resultTable(
  measured: readonly Measured[],
  floorName: string,
  floorOf: (entry: Measured) => Measured | undefined,
): string {
  const head = [
    ...['subject', 'patterns', 'processes', 'connections'],
    ...['us/query at rate', `x ${floorName}`, 'us/query saturated', 'spread', `x ${floorName}`],
    ...['queries/s max', 'p50 us', 'p99 us', 'spread', 'RSS MiB', 'lost', 'refused'],
  ];
  const rows = measured.map((entry) => {
    const { result, samples } = entry;
    const floor = floorOf(entry);
    const against = (field: SampleField): string =>
      floor === undefined ? '-' : ratio(entry, floor, field).toFixed(2);
    return [
      result.subject,
      result.patterns === 0 ? '-' : String(result.patterns),
      String(result.processes),
      transportNames[result.transport],
      result.cpuUsPerQueryAtRate.toFixed(1),
      against('cpuUsPerQueryAtRate'),
      result.cpuUsPerQuerySaturated.toFixed(1),
      spread(samples, 'cpuUsPerQuerySaturated', 1),
      against('cpuUsPerQuerySaturated'),
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

/** The packets of this run beside those of the last one, and a sentence that names the other CPU. */
export function packetTable(costs: readonly PacketCost[], last: LastPackets | null): string {
  const head = ['program: packet', 'ns, least', 'ns, median'];
  if (last !== null) head.push('last: least', 'last: median');
  const rows = costs.map(({ subject, minNs, medianNs }) => {
    const row = [subject, String(minNs), String(medianNs)];
    if (last === null) return row;
    const then = last.costs.find((each) => each.subject === subject);
    return [...row, then === undefined ? '-' : String(then.minNs), String(then?.medianNs ?? '-')];
  });
  const lines = [table(head, rows)];
  if (last !== null) {
    const at = last.cpu === '' ? '' : `, measured on ${last.cpu}`;
    const how = 'compare nanoseconds of equal CPUs alone, and of others the ratios between rows';
    lines.push('', `Last: ${last.page}${at}: ${how}.`);
  }
  return lines.join('\n');
}

/** Tables of the page that name the last run. */
export interface ComparedTables {
  readonly targets: string;
  /** Empty: no packets were measured. */
  readonly packets: string;
}

/** The page that is kept: how it was measured comes first. */
export function markdown(
  facts: RunFacts,
  measured: readonly Measured[],
  policies: readonly PolicyCost[],
  { targets, packets }: ComparedTables,
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
    'DNS proxy or peer after load, without the 12 MiB of the journal that it has mapped. p50 and p99 are',
    'those of the fixed rate; saturated: 128 in flight. The journal alone: the life of a slot in it, less',
    'the same in private memory without states.',
    '',
    '## TCP',
    '',
    tcpTable(measured),
    '',
    'From the pod to the upstream over TCP. Connections: 8 that stay open and carry queries one behind the',
    'other, 128 in flight at saturation; or one a query, 8 at a time, the fixed rate a quarter of the other',
    'one, latency from the SYN. With connections that end, ports in TIME_WAIT are reused (tcp_tw_reuse).',
    '',
    '## Targets',
    '',
    targets,
    '',
    'Packets that `judge` sees: of the least times. Reconciliation, and rules that are deleted by hand: by the tests that hold their',
    'bounds. The last result of a page whose JSON has no targets is the ratio of its medians.',
  ];
  if (packets !== '') {
    lines.push('', '## BPF programs, per packet (test_run, hot caches)', '', packets);
    lines.push('', '`select_member` and `guard_port` are of types that have no test run.');
  }
  if (policies.length > 0) {
    lines.push('', '## Policy of a large cluster', '', policyTables(policies), '', policyText);
  }
  return `${lines.join('\n')}\n`;
}

/** The page of a run of nothing but the policy of a large cluster. */
export function policyPage(date: string, policies: readonly PolicyCost[]): string {
  const load = loadavg().map((value) => value.toFixed(1));
  return [
    `# Policy of a large cluster, ${date}`,
    '',
    `- ${machine()}`,
    `- load average at the end ${load.join(', ')}: others may work on the same CPUs`,
    '',
    policyTables(policies),
    '',
    policyText,
    '',
  ].join('\n');
}

const policyText = [
  'The agent’s source state, controller, compilation, files and kernel maps, with its flags of Node.js, without its network,',
  'DNS and gRPC. Times are from the change in the source’s state to the end of what the kernel is told; the 20 ms for which',
  'changes are gathered come on top. A stall is the longest time that a timer of the main thread waited.',
].join('\n');

export function factLines(facts: RunFacts): string[] {
  const { rounds, seconds, rate, loadAverages } = facts;
  const load = loadAverages.map((value) => value.toFixed(1)).join(', ');
  return [
    machine(),
    `medians of ${rounds} interleaved rounds, ${seconds} s at ${rate} queries a second and ${seconds} s saturated each`,
    `load average ${load}: load, upstream and subject run on the same CPUs, and so may others`,
    'a loop of the class SCHED_IDLE keeps each CPU awake: no wake-up waits for the host of a virtual machine',
  ];
}

function machine(): string {
  return `commit ${commit()}, node ${process.version}, Linux ${release()}, ${cpus().length} x ${cpus()[0]?.model.trim()}`;
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
