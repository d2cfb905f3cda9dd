// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Targets of Tandem: what was measured, whether that is enough, and what the last saved run measured. */

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PacketCost } from './packet-cost.ts';
import {
  find,
  type Measured,
  type PartCosts,
  type Result,
  ratio,
  total,
  transportNames,
} from './report.ts';
import { table } from './table.ts';

/** One element of `targets` of `--json`. */
export interface Target {
  readonly target: string;
  readonly seen: number;
  readonly limit: number;
  readonly digits: number;
}

/** Times the CPU that dnsdist needs for a query over TCP. A connection of Node costs more than one in C++. */
const tcpCpuMax = { tcp: 1, 'tcp-single': 3.5 } as const;

/** Only what was measured. */
export function targetsOf(
  measured: readonly Measured[],
  { packets, journal, node }: Pick<PartCosts, 'packets' | 'journal' | 'node'>,
): readonly Target[] {
  const targets: Target[] = [];
  const add = (target: string, seen: number | undefined, limit: number, digits = 2): void => {
    if (seen !== undefined) targets.push({ target, seen, limit, digits });
  };
  addQueryTargets(measured, add);
  add(
    'CPU of the journal, us per query',
    journal === null ? undefined : journal.costNs / 1000,
    0.3,
  );
  add(
    'judge, a connection that passes: 63 foreign selectors before its own, to none',
    packetRatio(
      packets,
      'judge: learned, 63 foreign selectors before it',
      'judge: pod to a learned address',
    ),
    1.2,
  );
  add(
    'judge, a drop: 64 foreign selectors, to one',
    packetRatio(packets, 'judge: 64 foreign selectors, drop', 'judge: 1 foreign selector, drop'),
    1.2,
  );
  add('reconciliation of 50,000 + 50,000 entries, ms of the main thread', node?.reconcileMs, 20, 1);
  add('rules, routes or nft table deleted by hand: back after ms', node?.rulesBackMs, 200, 0);
  return targets;
}

type Add = (target: string, seen: number | undefined, limit: number, digits?: number) => void;

function addQueryTargets(measured: readonly Measured[], add: Add): void {
  const tandem = find(measured, 'tandem', 100);
  if (tandem === undefined) return;
  type Field = Parameters<typeof ratio>[2];
  const against = (
    other: Measured | undefined,
    field: Field,
    ours: Measured | undefined = tandem,
  ): number | undefined =>
    other === undefined || ours === undefined ? undefined : ratio(ours, other, field);
  const relay = find(measured, 'relay', 0);
  const dnsdist = find(measured, 'dnsdist', 0);
  const large = find(measured, 'tandem', 10_000);
  add('CPU per query saturated, to the relay', against(relay, 'cpuUsPerQuerySaturated'), 1.35);
  add('CPU per query at the fixed rate, to the relay', against(relay, 'cpuUsPerQueryAtRate'), 1.45);
  add('CPU per query saturated, to dnsdist', against(dnsdist, 'cpuUsPerQuerySaturated'), 1.2);
  const growth = large === undefined ? undefined : ratio(large, tandem, 'cpuUsPerQuerySaturated');
  add('CPU per query saturated, 10,000 patterns to 100', growth, 1.2);
  add('p99 at the fixed rate, to dnsdist', against(dnsdist, 'p99Us'), 1);
  add('resident memory without the journal, MiB', tandem.result.rssMiB, 100, 1);
  for (const transport of ['tcp', 'tcp-single'] as const) {
    const ours = find(measured, 'tandem', 100, transport);
    const other = find(measured, 'dnsdist', 0, transport);
    const what = `over TCP (connections: ${transportNames[transport]}), to dnsdist`;
    add(
      `CPU per query saturated ${what}`,
      against(other, 'cpuUsPerQuerySaturated', ours),
      tcpCpuMax[transport],
    );
  }
  const ours = measured.filter(({ result }) => result.subject.startsWith('tandem'));
  const failed = ours.reduce(
    (sum, { samples }) => sum + total(samples, 'lost') + total(samples, 'refused'),
    0,
  );
  add('queries lost or refused, all shapes', failed, 0, 0);
}

/** Ratio of the least times: both are measured in turn, and other load only adds to a time. */
function packetRatio(packets: readonly PacketCost[], of: string, to: string): number | undefined {
  const [above, below] = [of, to].map((name) => packets.find(({ subject }) => subject === name));
  return above === undefined || below === undefined ? undefined : above.minNs / below.minNs;
}

/** Values that an earlier run saw. */
export interface LastTargets {
  /** Name of its page, without the ending. */
  readonly page: string;
  readonly seen: ReadonlyMap<string, number>;
}

/** Reads the newest run before that date (YYYY-MM-DD) that has targets; null: there is none in the directory. */
export function lastTargets(directory: string, date: string): LastTargets | null {
  const files = readdirSync(directory).filter((file) => /^bench-[\d-]+\.json$/.test(file));
  for (const file of files.toSorted().toReversed()) {
    if (file >= `bench-${date}`) continue;
    const targets = savedTargets(JSON.parse(readFileSync(join(directory, file), 'utf8')));
    if (targets.length === 0) continue;
    const seen = new Map(targets.map(({ target, seen: value }) => [target, value]));
    return { page: file.slice(0, -'.json'.length), seen };
  }
  return null;
}

function savedTargets(saved: unknown): readonly Target[] {
  if (!Array.isArray(saved)) return (saved as { readonly targets?: Target[] }).targets ?? [];
  // Runs of before: an array of medians of queries, or of policy alone.
  const results = (saved as readonly Result[]).filter(({ subject }) => subject !== undefined);
  const measured = results.map((result) => ({
    result,
    samples: [{ ...result, lost: Number.NaN, refused: Number.NaN }],
  }));
  return targetsOf(measured, { packets: [], journal: null, node: null }).filter(
    ({ seen }) => !Number.isNaN(seen),
  );
}

export function targetTable(targets: readonly Target[], last: LastTargets | null): string {
  const rows = targets.map(({ target, seen, limit, digits }) => [
    target,
    `${seen.toFixed(digits)} (at most ${limit})`,
    seen <= limit ? 'met' : 'NOT MET',
    last?.seen.get(target)?.toFixed(digits) ?? '-',
  ]);
  const lastHead = last === null ? 'last result' : `last result (${last.page})`;
  return table(['target', 'seen', '', lastHead], rows);
}
