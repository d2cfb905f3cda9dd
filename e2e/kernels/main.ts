// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * ./run test --kernels: the shipped BPF object and the tests of the datapath on kernels that this machine does not
 * run, each booted in emulation. Exit code 1 when a kernel does not do what kernels.ts expects of it.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Archive } from './archive.ts';
import { boot } from './guest.ts';
import { type KernelSpec, kernels } from './kernels.ts';
import { isAsExpected, type KernelRun, markdown, summary } from './report.ts';
import { factsFile, type GuestFacts, type TestResult, testsFile } from './results.ts';

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const directory = join(root, '.tools/kernels');

const help = `usage: ./run test --kernels [OPTIONS]

  --only A,B    kernels by line: ${kernels.map(({ line }) => line).join(', ')}
  --minutes N   after which a kernel's emulation is ended, default 8
  --save        write the results to docs/results/kernels-DATE.md
`;

interface Options {
  readonly kernels: readonly KernelSpec[];
  readonly timeoutMs: number;
  readonly isSaved: boolean;
}

/** Null: the help was asked for. A wrong option is an error with its name. */
function readOptions(): Options | null {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      minutes: { type: 'string', default: '8' },
      save: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) return null;
  const lines = values.only?.split(',') ?? kernels.map(({ line }) => line);
  const unknown = lines.find((line) => kernels.every((kernel) => kernel.line !== line));
  if (unknown !== undefined) throw new Error(`--only: no kernel ${unknown}`);
  const minutes = Number(values.minutes);
  if (!(minutes > 0)) throw new Error('--minutes is not a number above 0');
  return {
    kernels: kernels.filter(({ line }) => lines.includes(line)),
    timeoutMs: minutes * 60_000,
    isSaved: values.save,
  };
}

async function run(archive: Archive, spec: KernelSpec, timeoutMs: number): Promise<KernelRun> {
  const say = (line: string): void => console.log(`[${spec.line}] ${line}`);
  say(`fetching from ${spec.suite}`);
  const kernel = archive.kernel(spec);
  say(`booting ${kernel.release}, package ${kernel.version}`);
  const runDirectory = join(directory, `run-${spec.line}`);
  const paths = { repository: root, node: process.execPath };
  const { ended, seconds } = await boot({
    kernel,
    paths,
    directory: runDirectory,
    timeoutMs,
    onLine: say,
  });
  const results = join(runDirectory, 'results');
  const facts = join(results, factsFile);
  const result: KernelRun = {
    spec,
    release: kernel.release,
    version: kernel.version,
    ended,
    seconds,
    facts: existsSync(facts) ? (JSON.parse(readFileSync(facts, 'utf8')) as GuestFacts) : null,
    tests: testResults(join(results, testsFile)),
  };
  say(summary(result));
  if (!isAsExpected(result)) say(`console: ${join(runDirectory, 'console.log')}`);
  return result;
}

function testResults(file: string): TestResult[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line !== '');
  return lines.map((line) => JSON.parse(line) as TestResult);
}

async function main(): Promise<number> {
  const options = readOptions();
  if (options === null) {
    console.log(help);
    return 0;
  }
  mkdirSync(directory, { recursive: true });
  // the guest reads what is here and cannot build
  execFileSync('make', ['-s', '-C', join(root, 'bpf'), 'all', 'test-object'], { stdio: 'inherit' });
  const suites = [...new Set(kernels.map(({ suite }) => suite))];
  const archive = Archive.open(join(directory, 'archive'), suites);
  const runs: KernelRun[] = [];
  for (const spec of options.kernels) runs.push(await run(archive, spec, options.timeoutMs));
  if (options.isSaved) {
    const file = join(root, `docs/results/kernels-${new Date().toISOString().slice(0, 10)}.md`);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, markdown(runs));
    console.log(`written: ${file}`);
  }
  return runs.every(isAsExpected) ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  console.error(`kernels: ${error instanceof Error ? error.message : String(error)}`);
  process.exitCode = 2;
}
