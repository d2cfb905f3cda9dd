// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The catalogue: every other fault, each under the same load, with victims and times by the seed. */

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { deaths } from '../faults/deaths.ts';
import type { Fault } from '../faults/fault.ts';
import { linkFaults } from '../faults/link.ts';
import { clockFile, diskBytes, resources } from '../faults/resources.ts';
import { starving } from '../faults/starving.ts';
import { upstreamFaults } from '../faults/upstream-faults.ts';
import {
  type Bound,
  type ChaosOptions,
  equal,
  nothingWrong,
  type Outcome,
  type Part,
  total,
} from '../part.ts';
import { type RunResult, run } from '../run.ts';
import { Stage } from '../stage.ts';

export const faults: readonly Fault[] = [
  ...deaths,
  ...starving,
  ...linkFaults,
  ...upstreamFaults,
  ...resources,
];
/** Faults of the short tier: the hardest ones for the members. */
const shortNames = ['both SIGKILL', 'survivor SIGKILL', 'worker blocked', 'upstream lossy'];

const rate = 1000;
const seconds = 2.5;
/** In full more names than a namespace may hold: what is asked all the time must stay all the same. */
const roundsByTier = { short: 1, usual: 1, full: 5 } as const;

function startStage(seed: number): Promise<Stage> {
  const shim = fileURLToPath(new URL('../../bench/native/build/clock-shim.so', import.meta.url));
  return Stage.start({
    seed,
    purpose: 'faults',
    diskBytes,
    environment: (name, { directory }) => {
      // A process starts with the right time.
      writeFileSync(clockFile(directory, name), new Uint8Array(8));
      // Threads are blocked through the inspector.
      const TANDEM_CHAOS_CLOCK = clockFile(directory, name);
      return { LD_PRELOAD: shim, TANDEM_CHAOS_CLOCK, TANDEM_INSPECT: '1' };
    },
  });
}

async function runFaults(options: ChaosOptions): Promise<Outcome> {
  const { seed, tier, progress } = options;
  const rounds = options.rounds ?? roundsByTier[tier];
  const names = options.faults ?? (tier === 'short' ? shortNames : null);
  const chosen = faults.filter(({ name }) => names?.includes(name) ?? true);
  await using stage = await startStage(seed);
  const runs: RunResult[] = [];
  const failed: string[] = [];
  for (let round = 1; round <= rounds; round++) {
    for (const fault of inOrder(stage, chosen)) {
      const victim = stage.random.pick(fault.victims);
      progress(`round ${round} of ${rounds}, ${runs.length + 1}: ${fault.name}, ${victim}`);
      try {
        runs.push(await runOne(stage, fault, { victim, round }, options.seconds ?? seconds));
        await stage.settle();
        await fault.check?.(stage, victim);
      } catch (error) {
        failed.push(`${fault.name}, ${victim}, run ${round}: ${String(error).slice(0, 500)}`);
        progress(`${failed.at(-1)}\n${stage.tandem.logs()}`);
      }
    }
  }
  const bounds = [
    ...chosen.flatMap((fault) => boundsOf(fault, runs)),
    equal('faults after which something did not come right', failed.length, 0),
  ];
  return { runs, bounds, notes: failed };
}

/** Another order in each round. */
function inOrder(stage: Stage, all: readonly Fault[]): Fault[] {
  const left = [...all];
  const order: Fault[] = [];
  while (left.length > 0) order.push(...left.splice(stage.random.between(0, left.length - 1), 1));
  return order;
}

function runOne(
  stage: Stage,
  { name, prepare, inject, mayNotLearn }: Fault,
  { victim, round }: Pick<RunResult, 'victim' | 'round'>,
  length: number,
): Promise<RunResult> {
  return run(stage, {
    ...{ fault: name, victim, round, rate, seconds: length },
    ...(mayNotLearn === undefined ? {} : { mayNotLearn }),
    ...(prepare === undefined ? {} : { prepare: () => prepare(stage, victim) }),
    faultAtMs: stage.random.between(500, 800),
    inject: (context) => inject(context, victim),
  });
}

function boundsOf({ name, mayBeLate = false }: Fault, all: readonly RunResult[]): Bound[] {
  const runs = all.filter(({ fault }) => fault === name);
  const late = mayBeLate ? [] : [equal(`${name}: later than 1 s`, total(runs, 'late'), 0)];
  return [...nothingWrong(runs, name), ...late];
}

export const faultsPart: Part = {
  name: 'faults',
  what: 'the other faults, one after the other, at 1,000 queries a second, upstream 20 ms',
  run: runFaults,
};
