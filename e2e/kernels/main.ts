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
import { boolOption, enumOption, intOption, listOption } from '@tandem/runtime/config-option';
import { runTool, type ToolSpec } from '@tandem/runtime/tool';
import { Archive } from './archive.ts';
import { boot } from './guest.ts';
import { type KernelSpec, kernels } from './kernels.ts';
import { isAsExpected, type KernelRun, markdown, summary } from './report.ts';
import { factsFile, type GuestFacts, type TestResult, testsFile } from './results.ts';

const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');
const directory = join(root, '.tools/kernels');

interface Options {
  readonly only: readonly string[];
  readonly minutes: number;
  readonly save: boolean;
}

const kernelNames = kernels.map(({ name }) => name);

const tool: ToolSpec<Options> = {
  program: './run test --kernels',
  description:
    'The shipped BPF object and the tests of the datapath on kernels that this machine does not run, each booted in emulation. Exit code 1: a kernel does not do what is expected of it.',
  options: {
    only: {
      ...listOption(enumOption({ description: 'kernels by name', values: kernelNames }), {
        default: kernelNames,
      }),
      format: () => 'all',
    },
    minutes: intOption({
      description: "after which a kernel's emulation is ended",
      ...{ default: 8, min: 1, max: 24 * 60 },
    }),
    save: boolOption({
      description: 'write the results to docs/results/kernels-DATE.md',
      default: false,
    }),
  },
};

async function run(archive: Archive, spec: KernelSpec, timeoutMs: number): Promise<KernelRun> {
  const say = (line: string): void => console.log(`[${spec.name}] ${line}`);
  say(`fetching from ${spec.suite}`);
  const kernel = archive.kernel(spec);
  say(`booting ${kernel.release}, package ${kernel.version}`);
  const runDirectory = join(directory, `run-${spec.name}`);
  const paths = { repository: root, node: process.execPath };
  const { ended, seconds } = await boot({
    kernel,
    paths,
    parameters: spec.parameters ?? '',
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

async function main({ only, minutes, save }: Options): Promise<number> {
  mkdirSync(directory, { recursive: true });
  // the guest reads what is here and cannot build
  execFileSync('make', ['-s', '-C', join(root, 'bpf'), 'all', 'test-object'], { stdio: 'inherit' });
  const suites = [...new Set(kernels.map(({ suite }) => suite))];
  const archive = Archive.open(join(directory, 'archive'), suites);
  const runs: KernelRun[] = [];
  const chosen = kernels.filter(({ name }) => only.includes(name));
  for (const spec of chosen) runs.push(await run(archive, spec, minutes * 60_000));
  if (save) {
    const file = join(root, `docs/results/kernels-${new Date().toISOString().slice(0, 10)}.md`);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, markdown(runs));
    console.log(`written: ${file}`);
  }
  return runs.every(isAsExpected) ? 0 : 1;
}

process.exitCode = await runTool(tool, main);
