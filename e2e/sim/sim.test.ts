// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The simulator in the test run: that a seed is a schedule, that 60,000 of them (`TANDEM_SIM_SEEDS`) break nothing, and
 * that it finds what is broken on purpose.
 */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { mutations } from './mutations.ts';
import { runParallel } from './parallel.ts';
import type { Failure } from './run.ts';
import { runSchedule } from './schedule.ts';
import { shrink } from './shrink.ts';
import { stepsDefault } from './sizes.ts';

const seeds = Number(process.env['TANDEM_SIM_SEEDS'] ?? 60_000);
/** A break of the product is found within so many schedules. */
const mutantSeeds = 20_000;
const threads = Math.min(2, availableParallelism());
const run = promisify(execFile);
const options = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

test('a seed is a schedule: the same trace every time, another one for another seed', () => {
  const hashes = new Set<number>();
  for (let seed = 0; seed < 200; seed++) {
    const { hash } = runSchedule({ seed, steps: stepsDefault });
    assert.equal(
      runSchedule({ seed, steps: stepsDefault, isVerbose: true }).hash,
      hash,
      `seed ${seed}`,
    );
    hashes.add(hash);
  }
  assert.equal(hashes.size, 200);
});

test(`${seeds} schedules break nothing`, async () => {
  const totals = await runParallel({ from: 0, to: seeds, steps: stepsDefault, threads });
  const [first] = totals.failures;
  if (first !== undefined) {
    const { seed } = first;
    const small = shrink(runSchedule({ seed, steps: stepsDefault }), seed, stepsDefault);
    const without = small.without.length === 0 ? '' : ` --without '${small.without.join(',')}'`;
    assert.fail(`${first.text}: ./run sim --seed ${seed} --steps ${small.steps}${without}`);
  }
  assert.equal(totals.schedules, seeds);
  // There was something to lose.
  assert.ok(totals.asked > seeds * 10 && totals.answered > totals.asked * 0.9);
  console.log(JSON.stringify({ ...totals, failures: undefined }));
});

describe('what is broken is found', { concurrency: threads }, () => {
  for (const [index, { name, breaks, fromSeed = 0 }] of mutations.entries()) {
    test(name, async () => {
      const { stdout } = await run(process.execPath, [
        ...options,
        script('mutant.ts'),
        String(index),
        String(mutantSeeds),
        String(fromSeed),
      ]);
      const { isApplied, schedules, failure } = JSON.parse(stdout) as {
        isApplied: boolean;
        schedules: number;
        failure: Failure | null;
      };
      assert.ok(isApplied, 'the file was loaded');
      assert.ok(failure !== null, `nothing found in ${schedules} schedules`);
      assert.ok(breaks.includes(failure.invariant), `${failure.invariant}: ${failure.text}`);
    });
  }
});

describe('./run sim', () => {
  test('shows one seed, and says how it ended', async () => {
    const { stdout } = await run(process.execPath, [...options, script('main.ts'), '--seed', '7']);
    assert.match(stdout, /starts/);
    assert.match(stdout, /seed 7: .* trace [0-9a-f]+/);
  });

  test('refuses what it does not understand', async () => {
    for (const wrong of [['--seeds', 'many'], ['--steps', '0'], ['--without', 'luck'], ['--no']]) {
      await assert.rejects(run(process.execPath, [...options, script('main.ts'), ...wrong]), {
        code: 2,
      });
    }
  });
});
