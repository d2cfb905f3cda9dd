// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * ./run mutations: breaks one line of a safety rule at a time in a copy of the repository, and runs the tests that are to find it. A mutation
 * that no test finds is a missing test, and ends with exit code 1. Those of the simulator: e2e/sim/mutations.ts.
 */

import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { loadavg, release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from 'node:test';
import { fileURLToPath } from 'node:url';
import { boolOption, intOption } from '@tandem/runtime/config-option';
import { runTool, type ToolSpec } from '@tandem/runtime/tool';
import { ownPrefix } from '@tandem/testing/namespace';
import type { Mutation } from './mutation.ts';
import { mutations } from './mutations.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const namesShown = 2;
/** Several times what the slowest of these files takes: one that a mutation lets wait for ever has found it. */
const fileTimeoutMs = 240_000;
const buildTimeoutMs = 300_000;
/** A signal to this process aborts it: what runs is ended, and the copy removed. */
const stopped = new AbortController();

interface Options {
  /** 0: all. */
  readonly rule: number;
  readonly save: boolean;
}

const tool: ToolSpec<Options> = {
  program: './run mutations',
  description:
    'Breaks one line of a safety rule at a time and runs the tests that must find it. Exit code 1: no test found one.',
  options: {
    rule: intOption({
      description: 'mutations of one rule of docs/security.md; 0: of all',
      ...{ default: 0, min: 0, max: 99 },
    }),
    save: boolOption({
      description: 'write the results to docs/results/mutations-DATE.md',
      default: false,
    }),
  },
};

interface Outcome {
  readonly mutation: Mutation;
  /** Tests that failed; none: the mutation survived. */
  readonly failed: readonly string[];
}

/** Copies what tests of packages and programs need. Links between packages are relative: they lead to the copies. */
function copyRepository(): string {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-mutations-`));
  for (const part of ['bpf', 'packages']) {
    execFileSync('cp', ['-a', join(root, part), join(directory, part)]);
  }
  // What a broken line leaves unused is no error.
  const makefile = join(directory, 'bpf/Makefile');
  writeFileSync(makefile, readFileSync(makefile, 'utf8').replace(' -Werror', ''));
  for (const part of ['node_modules', '.tools', 'docs', 'charts', 'e2e', 'scripts']) {
    if (existsSync(join(root, part))) symlinkSync(join(root, part), join(directory, part));
  }
  cpSync(join(root, 'package.json'), join(directory, 'package.json'));
  return directory;
}

function build(directory: string): void {
  execFileSync('make', ['-s', '-C', join(directory, 'bpf'), 'all', 'test-object'], {
    stdio: ['ignore', 'inherit', 'inherit'],
    timeout: buildTimeoutMs,
  });
}

/** "file: test" of each test that fails, of the first of these files in which any does. */
async function failures(directory: string, tests: readonly string[]): Promise<readonly string[]> {
  for (const test of tests) {
    // oxlint-disable-next-line no-await-in-loop -- the next one only if this one finds nothing
    const failed = await failuresIn(directory, test);
    if (failed.length > 0) return failed;
  }
  return [];
}

async function failuresIn(directory: string, test: string): Promise<readonly string[]> {
  const failed: string[] = [];
  const files = [join(directory, test)];
  const execArgv = ['--conditions=@tandem/source', '--disable-warning=ExperimentalWarning'];
  const short = test.slice(test.lastIndexOf('/') + 1).replace('.test.ts', '');
  const options = { files, concurrency: false, execArgv, cwd: directory };
  // Where each test of a file waits in vain, the file takes many minutes: it is ended, and that is a failure.
  const late = AbortSignal.timeout(fileTimeoutMs);
  const limits = { timeout: fileTimeoutMs, signal: AbortSignal.any([stopped.signal, late]) };
  for await (const event of run({ ...options, ...limits })) {
    if (event.type !== 'test:fail' || event.data.details.type === 'suite') continue;
    const { name, details } = event.data;
    // A file that runs once more inside of a namespace tells its tests in its error.
    const inside = [...String(details.error.cause).matchAll(/^ *✖ (.+) \([\d.]+ms\)$/gm)];
    const names = inside.length === 0 ? [name] : new Set(inside.map(([, inner = '']) => inner));
    for (const each of names) {
      failed.push(`${short}: ${each.replaceAll(directory, '').slice(0, 120)}`);
    }
  }
  // What it ended has failed for no other reason.
  stopped.signal.throwIfAborted();
  if (late.aborted) failed.push(`${short}: does not end within ${fileTimeoutMs / 1000} s`);
  return failed;
}

async function tryOne(directory: string, mutation: Mutation): Promise<Outcome> {
  const path = join(directory, mutation.file);
  const text = readFileSync(path, 'utf8');
  if (text.split(mutation.find).length !== 2) {
    throw new TypeError(`${JSON.stringify(mutation.find)} is not once in ${mutation.file}`);
  }
  writeFileSync(
    path,
    text.replace(mutation.find, () => mutation.replace),
  );
  try {
    if (mutation.file.startsWith('bpf/')) build(directory);
    return { mutation, failed: await failures(directory, mutation.tests) };
  } finally {
    writeFileSync(path, text);
  }
}

/** Each file passes, if not at first then the second time: other load of the machine must not cost the run. */
async function assertPass(directory: string, tests: readonly string[]): Promise<void> {
  for (const test of tests) {
    // oxlint-disable-next-line no-await-in-loop -- one file at a time
    const first = await failuresIn(directory, test);
    if (first.length === 0) continue;
    console.log(`without a mutation, once more: ${first.join('; ')}`);
    // oxlint-disable-next-line no-await-in-loop -- as above
    const second = await failuresIn(directory, test);
    if (second.length > 0) throw new Error(`these fail without a mutation: ${second.join('; ')}`);
  }
}

function page(outcomes: readonly Outcome[]): string {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  const survived = outcomes.filter(({ failed }) => failed.length === 0).length;
  return [
    `# Mutations of the safety rules, ${new Date().toISOString().slice(0, 10)}`,
    '',
    `- commit ${git('describe', '--always', '--dirty= with changes', '--abbrev=12')}, node ${process.version}, Linux ${release()}`,
    `- load average after the runs: ${loadavg()
      .map((load) => load.toFixed(1))
      .join(', ')}`,
    `- ${outcomes.length} mutations of one line each, ${survived} survived. Without one all these tests pass. Again: \`./run mutations --save\``,
    '- rules: [security](../security.md#rules). Rules 10 and 17 have more in `e2e/sim/mutations.ts`, which every `./run test` runs',
    '',
    '| rule | line of | without it | found by |',
    '|---|---|---|---|',
    ...outcomes.map(({ mutation: { rule, file, what }, failed }) => {
      const names = failed.slice(0, namesShown).map((name) => name.replaceAll('|', '\\|'));
      const more = failed.length - names.length;
      const found =
        names.length === 0
          ? '**nothing**'
          : `${names.join('; ')}${more > 0 ? `; ${more} more` : ''}`;
      return `| ${rule} | \`${file}\` | ${what} | ${found} |`;
    }),
    '',
  ].join('\n');
}

async function main({ rule: wanted, save }: Options): Promise<number> {
  const chosen = mutations.filter(({ rule }) => wanted === 0 || rule === wanted);
  if (chosen.length === 0) throw new TypeError(`there is no mutation of rule ${wanted}`);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => stopped.abort(new Error(`ended by ${signal}`)));
  }
  const directory = copyRepository();
  try {
    // The first file is the one that is expected to find the break.
    const all = [...new Set(chosen.flatMap(({ tests }) => tests))];
    const outcomes: Outcome[] = [];
    for (const mutation of chosen) {
      // oxlint-disable-next-line no-await-in-loop -- one line at a time
      const outcome = await tryOne(directory, mutation);
      outcomes.push(outcome);
      const found = outcome.failed[0] ?? 'SURVIVED';
      console.log(`rule ${mutation.rule}: ${mutation.what}: ${found} (${outcome.failed.length})`);
    }
    build(directory);
    await assertPass(directory, all);
    console.log(`${all.length} files pass without a mutation`);
    if (save) {
      const date = new Date().toISOString().slice(0, 10);
      writeFileSync(join(root, `docs/results/mutations-${date}.md`), page(outcomes));
    }
    return outcomes.every(({ failed }) => failed.length > 0) ? 0 : 1;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

process.exitCode = await runTool(tool, main);
