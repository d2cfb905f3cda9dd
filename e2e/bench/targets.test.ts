// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Measured, Result } from './report.ts';
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
  assert.equal(lastTargets(directory), null);
  save('bench-2026-01-01.json', results);
  save('bench-2026-01-02.json', [{ size: 'whole' }]);
  const relay = 'CPU per query saturated, to the relay';
  assert.deepEqual(lastTargets(directory)?.seen.get(relay), 1.2);
  assert.equal(lastTargets(directory)?.page, 'bench-2026-01-01');
  assert.equal(lastTargets(directory)?.seen.has('queries lost or refused, all shapes'), false);
  const targets = targetsOf(results.map(measuredOf), nothing);
  save('bench-2026-01-03.json', { results, packets, targets });
  assert.equal(lastTargets(directory)?.page, 'bench-2026-01-03');
  assert.equal(lastTargets(directory)?.seen.get('queries lost or refused, all shapes'), 0);
  const page = targetTable(targets, lastTargets(directory));
  assert.match(page, /last result \(bench-2026-01-03\)/);
  assert.match(page, /to the relay +\| 1\.20 \(at most 1\.35\) \| met +\| 1\.20 /);
});
