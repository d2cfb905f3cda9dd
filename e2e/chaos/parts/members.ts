// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** SIGKILL, SIGSTOP and SIGTERM of either process under 2,000 queries a second. */

import type { ProcessName } from '../../kit/tandem-node.ts';
import { kill, stop, terminate } from '../faults/signals.ts';
import {
  atMost,
  type Bound,
  type ChaosOptions,
  nothingWrong,
  type Outcome,
  type Part,
  quantile,
  worst,
} from '../part.ts';
import { type RunContext, type RunResult, run } from '../run.ts';
import { processes, Stage } from '../stage.ts';

const rate = 2000;
const roundsByTier = { short: 1, usual: 2, full: 20 } as const;
/** A control run for so many runs with a fault. */
const controlEvery = 6;
const evictionMsMax = 120;

interface Fault {
  readonly inject: (context: RunContext, victim: ProcessName) => Promise<void>;
  /** Time by which the slowest answer may exceed the slowest one of the control runs; null: no bound. */
  readonly overControlMs: number | null;
}

const faults: Readonly<Record<string, Fault>> = {
  SIGKILL: { inject: kill, overControlMs: 100 },
  SIGSTOP: { inject: stop, overControlMs: 250 },
  SIGTERM: { inject: terminate, overControlMs: null },
};

interface Planned {
  readonly fault: string;
  readonly victim: ProcessName;
  readonly round: number;
}

async function runMembers(options: ChaosOptions): Promise<Outcome> {
  const { seed, tier, progress } = options;
  const rounds = options.rounds ?? roundsByTier[tier];
  const seconds = options.seconds ?? (tier === 'short' ? 2 : 2.5);
  await using stage = await Stage.start({ seed, purpose: 'members' });
  const planned = planOf(stage, rounds);
  const control = (round: number): Promise<RunResult> =>
    runOne(stage, { fault: 'none', victim: '-', round, seconds, inject: async () => undefined });
  progress('warming up');
  await control(0);
  const runs: RunResult[] = [];
  for (const [i, { fault, victim, round }] of planned.entries()) {
    if (i % controlEvery === 0) runs.push(await control(1 + i / controlEvery));
    progress(`${i + 1} of ${planned.length}: ${fault} of the ${victim}`);
    const { inject } = faults[fault] as Fault;
    const inject_ = (context: RunContext): Promise<void> => inject(context, victim);
    runs.push(await runOne(stage, { fault, victim, round, seconds, inject: inject_ }));
  }
  return { runs, bounds: boundsOf(runs) };
}

/** Every fault of either process as often as there are rounds, in an order by the seed. */
function planOf(stage: Stage, rounds: number): Planned[] {
  const planned: Planned[] = [];
  for (let round = 1; round <= rounds; round++) {
    const turn = Object.keys(faults).flatMap((fault) =>
      processes.map((victim) => ({ fault, victim, round })),
    );
    while (turn.length > 0) {
      planned.push(...turn.splice(stage.random.between(0, turn.length - 1), 1));
    }
  }
  return planned;
}

type OneRun = Pick<Parameters<typeof run>[1], 'fault' | 'victim' | 'round' | 'seconds' | 'inject'>;

function runOne(stage: Stage, one: OneRun): Promise<RunResult> {
  return run(stage, { ...one, rate, faultAtMs: stage.random.between(600, 800) });
}

function boundsOf(runs: readonly RunResult[]): Bound[] {
  const of = (fault: string): RunResult[] => runs.filter((candidate) => candidate.fault === fault);
  const worstOf = (fault: string): number => worst(of(fault).map(({ worstMs }) => worstMs));
  const bounds: Bound[] = nothingWrong(of('none'), 'control');
  for (const [fault, { overControlMs }] of Object.entries(faults)) {
    bounds.push(...nothingWrong(of(fault), fault));
    if (overControlMs === null) continue;
    const over = worstOf(fault) - worstOf('none');
    bounds.push(atMost(`${fault}: worst answer over the control's`, over, overControlMs, ' ms'));
    const evictions = of(fault).flatMap(({ evictionMs }) => evictionMs);
    bounds.push(atMost(`${fault}: eviction p99`, quantile(evictions, 0.99), evictionMsMax, ' ms'), {
      what: `${fault}: evictions seen`,
      seen: String(evictions.length),
      limit: `at least ${of(fault).length}`,
      isHeld: evictions.length >= of(fault).length,
    });
  }
  return bounds;
}

export const members: Part = {
  name: 'members',
  what: 'SIGKILL, SIGSTOP and SIGTERM of either process at 2,000 queries a second, upstream 20 ms',
  run: runMembers,
};
