// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A second build of everything with the next ABI version: abi.h changed as its next change might be (values
 * of the agent's maps widened in front, so that every field moves, and a counter more), the BPF programs
 * compiled from it, layouts generated from it, and the migrations that such a change needs. The shared
 * maps stay as they are, which is the rule.
 */

import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '@tandem/testing/process';
import * as layout from '../next/current-layout.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const buildTimeoutMs = 120_000;

/** Text of abi.h and what the next version has in its place. */
const changes: readonly (readonly [string, string])[] = [
  [`#define TD_ABI_VERSION ${layout.version}u`, `#define TD_ABI_VERSION ${layout.version + 1}u`],
  ['struct td_endpoint {\n', 'struct td_endpoint {\n\t__u64 next_stamp;\n'],
  ['struct td_policy {\n', 'struct td_policy {\n\t__u32 next_priority;\n'],
  // Behind the last one, whichever that is.
  ['")\n\nenum td_counter {', '") \\\n\tX(NEXT, next, "of the next version")\n\nenum td_counter {'],
];

/** Builds it below `directory` and returns its `packages` directory. */
export async function buildNextVersion(directory: string): Promise<string> {
  const next = join(directory, 'next');
  mkdirSync(next);
  for (const part of ['include', 'src', 'Makefile']) {
    cpSync(join(root, 'bpf', part), join(next, 'bpf', part), { recursive: true });
  }
  const packages = join(next, 'packages');
  // Links between packages are relative: they lead to the copies.
  await run('cp', ['-a', join(root, 'packages'), packages]);
  symlinkSync(join(root, 'node_modules'), join(next, 'node_modules'));
  changeAbi(join(next, 'bpf/include/tandem/abi.h'));
  await run('make', ['-s', '-C', join(next, 'bpf')], { timeoutMs: buildTimeoutMs });
  const datapath = join(packages, 'datapath');
  const generate = ['--conditions=@tandem/source', join(datapath, 'scripts/generate-abi.ts')];
  await run(process.execPath, generate, { timeoutMs: buildTimeoutMs });
  emit(join(datapath, 'src/abi.gen.ts'), join(datapath, 'dist/abi.gen.js'));
  emit(join(root, 'e2e/next/migrations.ts'), join(datapath, 'dist/migrations.js'));
  const values = Object.entries(layout).map(([name, value]) => `export const ${name} = ${value};`);
  writeFileSync(join(datapath, 'dist/current-layout.js'), `${values.join('\n')}\n`);
  return packages;
}

function changeAbi(path: string): void {
  let text = readFileSync(path, 'utf8');
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`abi.h has no ${JSON.stringify(from)}`);
    text = text.replace(from, to);
  }
  writeFileSync(path, text);
}

function emit(source: string, target: string): void {
  const text = stripTypeScriptTypes(readFileSync(source, 'utf8'));
  writeFileSync(target, text.replaceAll(/(from '\.[^']*)\.ts'/g, "$1.js'"));
}
