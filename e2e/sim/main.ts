// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ./run sim: schedules of two simulated members, any number; a failing one is made smaller and shown. */

import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { type FaultName, faultNames } from './faults.ts';
import { invariants } from './oracle.ts';
import { runParallel } from './parallel.ts';
import type { Totals } from './run.ts';
import { type Outcome, runSchedule } from './schedule.ts';
import { shrink } from './shrink.ts';
import { stepsDefault } from './sizes.ts';

const help = `usage: ./run sim [OPTIONS]

Two simulated members of a node - the product's own code over a virtual clock, kernel and network - under
faults drawn from a seed, with invariants checked at every step. Exit code 1: an invariant is broken.

  --seeds N          seeds 0 to N - 1, default 100000; or FROM..TO, TO excluded
  --seed S           one seed, with its whole trace
  --steps N          steps with faults of each schedule, default ${stepsDefault}
  --without A,B      kinds of faults that do not happen (with --seed): ${faultNames.join(', ')}
  --threads N        default: as many as the machine has
  --json FILE        write the totals
  --help

Invariants:
${Object.entries(invariants)
  .map(([number, text]) => `  ${number}  ${text}`)
  .join('\n')}
`;

const lastLines = 60;

interface Options {
  readonly from: number;
  readonly to: number;
  readonly seed: number | null;
  readonly steps: number;
  readonly without: readonly FaultName[];
  readonly threads: number;
  readonly jsonFile: string | undefined;
}

/** Null: the help was asked for. A wrong option is an error that names it. */
function readOptions(): Options | null {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '100000' },
      seed: { type: 'string' },
      steps: { type: 'string', default: String(stepsDefault) },
      without: { type: 'string', default: '' },
      threads: { type: 'string', default: String(Math.min(8, availableParallelism())) },
      json: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return null;
  const range = /^(?:(\d+)\.\.)?(\d+)$/.exec(values.seeds);
  if (range === null) throw new TypeError(`--seeds wants N or FROM..TO, not '${values.seeds}'`);
  return {
    from: Number(range[1] ?? 0),
    to: Number(range[2]),
    seed: values.seed === undefined ? null : natural('--seed', values.seed, 0),
    steps: natural('--steps', values.steps, 1),
    without: readFaults(values.without),
    threads: natural('--threads', values.threads, 1),
    jsonFile: values.json,
  };
}

function natural(name: string, text: string, least: number): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < least) {
    throw new TypeError(`${name} wants a whole number from ${least} on, not '${text}'`);
  }
  return value;
}

function readFaults(text: string): FaultName[] {
  const chosen = text === '' ? [] : text.split(',');
  const wrong = chosen.find((name) => !(faultNames as readonly string[]).includes(name));
  if (wrong !== undefined)
    throw new TypeError(`--without does not know '${wrong}': ${faultNames.join(', ')}`);
  return chosen as FaultName[];
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

async function main(): Promise<number> {
  const options = readOptions();
  if (options === null) {
    process.stdout.write(help);
    return 0;
  }
  if (options.seed !== null) return showSeed(options.seed, options).violation === null ? 0 : 1;
  const startedMs = performance.now();
  let saidMs = startedMs;
  const totals = await runParallel({
    ...options,
    onProgress: ({ schedules, failures }) => {
      if (performance.now() - saidMs < 2000) return;
      saidMs = performance.now();
      process.stderr.write(
        `${schedules} of ${options.to - options.from} schedules, ${failures.length} failed\n`,
      );
    },
  });
  const seconds = (performance.now() - startedMs) / 1000;
  if (options.jsonFile !== undefined) {
    writeFileSync(
      options.jsonFile,
      `${JSON.stringify({ ...options, seconds, ...totals }, null, 2)}\n`,
    );
  }
  showTotals(totals, seconds);
  for (const { seed, invariant, text } of totals.failures.slice(1)) {
    console.log(`seed ${seed} breaks invariant ${invariant}: ${text}`);
  }
  const [first] = totals.failures;
  if (first !== undefined) showFailure(first.seed, options.steps);
  return first === undefined ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`sim: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
}
