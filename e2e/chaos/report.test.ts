// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The report: merged by part, told as a table and as a page; the command line. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { readTool, UsageError } from '@tandem/runtime/tool';
import { ownPrefix } from '@tandem/testing/namespace';
import { pageOf } from './html.ts';
import { impossible, listText } from './list.ts';
import { chaosTool, chosenRun } from './options.ts';
import { atMost, equal, nothingWrong, type PartResult, quantile } from './part.ts';
import { isHeld, mergeInto, textOf } from './report.ts';
import type { RunResult } from './run.ts';

const run: RunResult = {
  ...{ fault: '<SIGKILL>', victim: 'agent', round: 1, faultAtMs: 20 },
  ...{ sent: 3, answered: 2, late: 0, lost: 1, excused: 0, wronglyAllowed: 0, wronglyRefused: 0 },
  ...{ connections: 1, medianMs: 20, p99Ms: 90, worstMs: 90.5, knocks: 5 },
  ...{ evictionMs: [103.2], recoveryMs: 70, restartMs: [], problems: ['lost: n-1.allowed.test'] },
  timeline: {
    bucketMs: 10,
    slowestMs: [20, null, 90.5],
    lost: { 1: 1 },
    marks: [{ atMs: 20, what: '<SIGKILL>' }],
  },
};

function partResult(part: string, commit: string, runs: readonly RunResult[]): PartResult {
  return {
    part,
    what: 'a part',
    facts: {
      ...{ date: '2026-01-02T03:04:05.000Z', commit, seed: 1, tier: 'usual', kernel: '6.6' },
      ...{ cpus: 2, loadAverages: [0.5, 1], elapsedSeconds: 10 },
    },
    runs,
    bounds: nothingWrong(runs),
  };
}

test('parts that ran now replace those in the file, the others stay', () => {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-report-`));
  try {
    const file = join(directory, 'report.json');
    const before = [partResult('a', 'old', []), partResult('b', 'old', [])];
    writeFileSync(file, JSON.stringify(mergeInto(file, before)));
    const { parts } = mergeInto(file, [partResult('b', 'new', [])]);
    assert.deepEqual(
      parts.map(({ part, facts }) => [part, facts.commit]),
      [
        ['a', 'old'],
        ['b', 'new'],
      ],
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a broken bound is broken everywhere', () => {
  const result = partResult('a', 'c', [run]);
  assert.ok(!isHeld(mergeInto(undefined, [result])));
  assert.match(textOf(result), /BROKEN\s+lost\s+1\s+0/);
  assert.match(textOf(result), /lost: n-1\.allowed\.test/);
  assert.ok(isHeld(mergeInto(undefined, [partResult('a', 'c', [{ ...run, lost: 0 }])])));
});

test('the page needs nothing else, escapes what it shows, and draws each run', () => {
  const page = pageOf(mergeInto(undefined, [partResult('a', 'c', [run, { ...run, round: 2 }])]));
  assert.doesNotMatch(page, /<SIGKILL>|https?:|<script|<link/);
  assert.equal(page.match(/<svg/g)?.length, 2);
  assert.match(page, /prefers-color-scheme: dark/);
  assert.match(page, /<title>1 lost<\/title>/);
});

test('bounds and quantiles', () => {
  assert.ok(atMost('x', 2, 2).isHeld && !atMost('x', 2.01, 2).isHeld);
  assert.ok(equal('x', 0, 0).isHeld && !equal('x', 1, 0).isHeld);
  const values = Array.from({ length: 100 }, (_, i) => i + 1);
  assert.deepEqual([quantile(values, 0.5), quantile(values, 0.99), quantile([], 0.5)], [50, 99, 0]);
});

test('the command line', () => {
  const read = (...args: string[]) => {
    const values = readTool(chaosTool, args)?.config;
    return values === undefined ? null : chosenRun(values, '2026-01-02');
  };
  assert.deepEqual([read()?.tier, read('--full')?.tier, read('--help')], ['usual', 'full', null]);
  assert.deepEqual(
    read('--only', 'tcp,gate')?.parts.map(({ name }) => name),
    ['tcp', 'gate'],
  );
  // Naming a fault is enough to choose its part.
  assert.deepEqual(
    read('--fault', 'gRPC cut')?.parts.map(({ name }) => name),
    ['faults'],
  );
  assert.match(read('--save')?.jsonFile ?? '', /docs\/results\/chaos-2026-01-02\.json$/);
  for (const wrong of [
    ['--only', 'nothing'],
    ['--fault', 'nothing'],
    ['--rounds', '0'],
    ['--seed', 'x'],
    ['--unknown'],
  ]) {
    assert.throws(() => read(...wrong), UsageError, wrong.join(' '));
  }
});

test('the list says what is done and what cannot be had', () => {
  const text = listText();
  for (const [fault, reason] of impossible) {
    assert.ok(text.includes(fault) && reason.length > 0);
  }
  assert.match(text, /survivor SIGKILL/);
});
