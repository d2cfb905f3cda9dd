// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Other processes take 90 % of the machine: members look hung and are left out, and nothing is lost. */

import { fileURLToPath } from 'node:url';
import { startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { type ChaosOptions, nothingWrong, type Outcome, type Part } from '../part.ts';
import { run } from '../run.ts';
import { Stage } from '../stage.ts';

const rate = 500;
const percent = 90;
const secondsByTier = { short: 5, usual: 30, full: 600 } as const;

async function runStarvation(options: ChaosOptions): Promise<Outcome> {
  const { seed, tier, progress } = options;
  const seconds = options.seconds ?? secondsByTier[tier];
  await using stage = await Stage.start({ seed, purpose: 'starvation' });
  const tool = fileURLToPath(new URL('../../bench/native/build/burn', import.meta.url));
  await using burn = startProcess(tool, ['--percent', String(percent)]);
  await waitFor(() => burn.stdout().includes('ready'), { what: 'the burning' });
  progress(`${seconds} s at ${percent} % of all CPUs`);
  const result = await run(stage, {
    fault: `${percent} % CPU taken`,
    victim: 'machine',
    round: 1,
    rate,
    seconds,
    faultAtMs: 0,
    inject: async () => undefined,
  });
  burn.stdin.end();
  await burn.exited;
  const share = /"share":([\d.]+)/.exec(burn.stdout())?.[1] ?? 'unknown';
  return {
    runs: [result],
    bounds: nothingWrong([result]),
    notes: [`the others got ${share} of all CPU time; ${result.evictionMs.length} false evictions`],
  };
}

export const starvation: Part = {
  name: 'starvation',
  what: 'other processes want 90 % of the CPUs while 500 queries a second come',
  run: runStarvation,
};
