// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run sim: schedules of two simulated members, any number; a failing one is made smaller and shown. */

import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { err, ok, type Result } from '@tandem/core/result';
import { enumOption, intOption, listOption, stringOption } from '@tandem/runtime/config-option';
import { optional, runTool, type ToolSpec } from '@tandem/runtime/tool';
import { type FaultName, faultNames } from './faults.ts';
import { runParallel } from './parallel.ts';
import type { Totals } from './run.ts';
import { type Outcome, runSchedule } from './schedule.ts';
import { shrink } from './shrink.ts';
import { stepsDefault } from './sizes.ts';
import { invariants } from './violation.ts';

const lastLines = 60;

const seedMax = Number.MAX_SAFE_INTEGER;

interface Options {
  /** From, and to, which is excluded. */
  readonly seeds: readonly [number, number];
  readonly seed: number | null;
  readonly steps: number;
  readonly without: readonly FaultName[];
  readonly threads: number;
  readonly json: string | null;
}

const tool: ToolSpec<Options> = {
  program: './run sim',
  description:
    "Two simulated members of a node - the product's own code over a virtual clock, kernel and network - under faults drawn from a seed, with invariants checked at every step. Exit code 1: an invariant is broken.",
  options: {
    seeds: {
      ...stringOption({
        placeholder: 'N',
        description: 'seeds 0 to N - 1; or FROM..TO, TO excluded',
      }),
      fallback: [0, 100_000],
      parseText: parseSeeds,
      parseYaml: (value) => parseSeeds(String(value)),
      format: ([from, to]) => (from === 0 ? String(to) : `${from}..${to}`),
    },
    seed: optional(
      intOption({
        placeholder: 'S',
        description: 'one seed, with its whole trace',
        min: 0,
        max: seedMax,
      }),
    ),
    steps: intOption({
      description: 'steps with faults of each schedule',
      ...{ default: stepsDefault, min: 1, max: 1_000_000 },
    }),
    without: listOption(
      enumOption({
        description: 'kinds of faults that do not happen (with --seed)',
        values: faultNames,
      }),
      { default: [] },
    ),
    threads: intOption({
      description: 'threads that run schedules',
      ...{ default: Math.min(8, availableParallelism()), min: 1, max: 1024 },
    }),
    json: optional(stringOption({ placeholder: 'FILE', description: 'write the totals' })),
  },
  after: `Invariants:
${Object.entries(invariants)
  .map(([number, text]) => `  ${number}  ${text}`)
  .join('\n')}
`,
};

function parseSeeds(text: string): Result<readonly [number, number], string> {
  const range = /^(?:(\d{1,15})\.\.)?(\d{1,15})$/.exec(text);
  if (range === null) return err(`"${text}" is neither N nor FROM..TO`);
  return ok([Number(range[1] ?? 0), Number(range[2])]);
}

function replayCommand(seed: number, steps: number, without: readonly FaultName[]): string {
  const faults = without.length === 0 ? '' : ` --without '${without.join(',')}'`;
  return `./run sim --seed ${seed} --steps ${steps}${faults}`;
}

/** One seed, in full. */
function showSeed(seed: number, { steps, without }: Options): Outcome {
  const outcome = runSchedule({ seed, steps, without, isVerbose: true });
  for (const line of outcome.lines) console.log(line);
  const { violation, hash, virtualMs, counts } = outcome;
  console.log(
    `seed ${seed}: ${(virtualMs / 1000).toFixed(1)} s of virtual time, trace ${hash.toString(16)}`,
  );
  console.log(JSON.stringify(counts));
  if (violation !== null)
    console.log(`invariant ${violation.invariant} is broken: ${violation.text}`);
  return outcome;
}

/** The smallest schedule like it that was found, and how it ends. */
function showFailure(seed: number, steps: number): void {
  const small = shrink(runSchedule({ seed, steps }), seed, steps);
  const { lines, violation } = runSchedule({ seed, ...small, isVerbose: true });
  console.log(`\nseed ${seed} breaks invariant ${violation?.invariant}: ${violation?.text}`);
  if (violation !== null) console.log(`  (${invariants[violation.invariant]})`);
  console.log(`as first found:  ${replayCommand(seed, steps, [])}`);
  console.log(`made smaller:    ${replayCommand(seed, small.steps, small.without)}`);
  console.log(`the last ${Math.min(lastLines, lines.length)} of its ${lines.length} events:`);
  for (const line of lines.slice(-lastLines)) console.log(line);
}

function showTotals(totals: Totals, seconds: number): void {
  const { schedules, virtualMs, asked, answered, refused, failed, again, silent, excused } = totals;
  const rate = Math.round(schedules / seconds);
  console.log(
    `${schedules} schedules in ${seconds.toFixed(1)} s (${rate} a second), ${(virtualMs / 3.6e6).toFixed(1)} h of virtual time`,
  );
  console.log(
    `queries: ${asked} taken in, ${answered} answered (${refused} refused, ${failed} SERVFAIL, ${again} twice), ${silent} met nobody`,
  );
  for (const [excuse, times] of Object.entries(excused))
    console.log(`  not answered, ${excuse}: ${times}`);
}

async function main(options: Options): Promise<number> {
  const [from, to] = options.seeds;
  if (options.seed !== null) return showSeed(options.seed, options).violation === null ? 0 : 1;
  const startedMs = performance.now();
  let saidMs = startedMs;
  const totals = await runParallel({
    ...{ from, to, steps: options.steps, threads: options.threads },
    onProgress: ({ schedules, failures }) => {
      if (performance.now() - saidMs < 2000) return;
      saidMs = performance.now();
      process.stderr.write(`${schedules} of ${to - from} schedules, ${failures.length} failed\n`);
    },
  });
  const seconds = (performance.now() - startedMs) / 1000;
  if (options.json !== null) {
    const results = { ...options, from, to, seconds, ...totals };
    writeFileSync(options.json, `${JSON.stringify(results, null, 2)}\n`);
  }
  showTotals(totals, seconds);
  for (const { seed, invariant, text } of totals.failures.slice(1)) {
    console.log(`seed ${seed} breaks invariant ${invariant}: ${text}`);
  }
  const [first] = totals.failures;
  if (first !== undefined) showFailure(first.seed, options.steps);
  return first === undefined ? 0 : 1;
}

process.exitCode = await runTool(tool, main);
