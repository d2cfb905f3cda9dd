// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { lastPackets } from './last-packets.ts';
import { type Measured, packetTable, type Result } from './report.ts';
import { lastTargets, targetsOf, targetTable } from './targets.ts';

const directory = mkdtempSync(join(tmpdir(), 'tandem-targets-'));
after(() => rmSync(directory, { recursive: true }));

const resultOf = (subject: string, patterns: number, us: number): Result => ({
  ...{ subject, patterns, processes: 1, transport: 'udp' },
  ...{ cpuUsPerQueryAtRate: us, cpuUsPerQuerySaturated: us, qpsMax: 1, p50Us: us, p99Us: us },
  rssMiB: us,
});
const measuredOf = (result: Result): Measured => ({
  result,
  samples: [{ ...result, lost: 0, refused: 0 }],
});
const results = [resultOf('relay', 0, 10), resultOf('tandem', 100, 12)];
const packets = [
  { subject: 'judge: pod to a learned address', minNs: 100, medianNs: 0 },
  { subject: 'judge: learned, 63 foreign selectors before it', minNs: 119, medianNs: 0 },
  { subject: 'judge: 1 foreign selector, drop', minNs: 100, medianNs: 0 },
  { subject: 'judge: 64 foreign selectors, drop', minNs: 121, medianNs: 0 },
];
const today = '2026-02-01';
const nothing = { packets: [], journal: null, node: null };

test('targets without queries: judge, reconciliation and rules, each with its verdict', () => {
  const node = { reconcileMs: 20.1, rulesBackMs: 199 };
  const targets = targetsOf([], { ...nothing, packets, node });
  const lines = targetTable(targets, null)
    .split('\n')
    .slice(2)
    .map((line) => line.split('|').map((cell) => cell.trim()));
  assert.deepEqual(
    lines.map(([, , seen, verdict, last]) => [seen, verdict, last]),
    [
      ['1.19 (at most 1.2)', 'met', '-'],
      ['1.21 (at most 1.2)', 'NOT MET', '-'],
      ['20.1 (at most 20)', 'NOT MET', '-'],
      ['199 (at most 200)', 'met', '-'],
    ],
  );
});

test('the last result is that of the newest page with targets, in the former form too', () => {
  const save = (name: string, content: unknown): void =>
    writeFileSync(join(directory, name), JSON.stringify(content));
  assert.equal(lastTargets(directory, today), null);
  save('bench-2026-01-01.json', results);
  save('bench-2026-01-02.json', [{ size: 'whole' }]);
  const relay = 'CPU per query saturated, to the relay';
  assert.deepEqual(lastTargets(directory, today)?.seen.get(relay), 1.2);
  assert.equal(lastTargets(directory, today)?.page, 'bench-2026-01-01');
  assert.equal(
    lastTargets(directory, today)?.seen.has('queries lost or refused, all shapes'),
    false,
  );
  const targets = targetsOf(results.map(measuredOf), nothing);
  save('bench-2026-01-03.json', { results, packets, targets });
  assert.equal(lastTargets(directory, today)?.page, 'bench-2026-01-03');
  assert.equal(lastTargets(directory, today)?.seen.get('queries lost or refused, all shapes'), 0);
  const page = targetTable(targets, lastTargets(directory, today));
  assert.match(page, /last result \(bench-2026-01-03\)/);
  assert.match(page, /to the relay +\| 1\.20 \(at most 1\.35\) \| met +\| 1\.20 /);
  save(`bench-${today}.json`, { results, packets, targets });
  assert.equal(lastTargets(directory, today)?.page, 'bench-2026-01-03', 'not the run itself');
});

test('packets stand beside those of the newest page that has them, which names its CPU', () => {
  const save = (name: string, lines: readonly string[]): void =>
    writeFileSync(join(directory, name), lines.join('\n'));
  const rowsOf = (page: string): string[][] =>
    page
      .split('\n')
      .slice(2)
      .map((line) => line.split('|').map((cell) => cell.trim()));
  assert.equal(lastPackets(directory, today), null);
  assert.deepEqual(
    rowsOf(packetTable(packets, null)).map(([, , least, median, more]) => [least, median, more]),
    packets.map(({ minNs, medianNs }) => [`${minNs}`, `${medianNs}`, '']),
  );
  const kept = [
    { subject: 'judge: pod to a learned address', minNs: 90, medianNs: 95 },
    { subject: 'judge: gone since', minNs: 1, medianNs: 2 },
  ];
  const commit = '- commit 0123456789ab, node v24.0.0, Linux 6.18.0, 2 x Some(R) CPU';
  save('bench-2026-01-02.md', [commit, '', packetTable(kept, null), '', '`guard_port` has none.']);
  save('bench-2026-01-03.md', ['a page without packets']);
  save(`bench-${today}.md`, [commit, '', packetTable(packets, null)]);
  save('bench-policy-2026-01-04.md', [commit, '', packetTable(packets, null)]);
  const last = lastPackets(directory, today);
  const { page, cpu, costs } = last ?? {};
  assert.deepEqual(
    { page, cpu, costs },
    { page: 'bench-2026-01-02', cpu: '2 x Some(R) CPU', costs: kept },
  );
  const text = packetTable(packets, last);
  const seen = rowsOf(text).map(([, , , , least, median]) => [least, median]);
  assert.deepEqual(seen.slice(0, packets.length), [
    ['90', '95'],
    ['-', '-'],
    ['-', '-'],
    ['-', '-'],
  ]);
  assert.match(text, /Last: bench-2026-01-02, measured on 2 x Some\(R\) CPU: /);
  // A page with those columns can be the last one of the next run.
  save('bench-2026-01-31.md', [commit, '', text]);
  assert.deepEqual(lastPackets(directory, today)?.costs, packets);
});
