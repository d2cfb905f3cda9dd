// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A second build of everything from changed sources, for tests in which two versions meet. */

import { cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '@tandem/testing/process';

const root = fileURLToPath(new URL('../..', import.meta.url));
const buildTimeoutMs = 120_000;

/** Text of a file and what the other version has in its place, by the path below the repository. */
export type Edits = Readonly<Record<string, readonly (readonly [from: string, to: string])[]>>;

/** Copies the repository below `directory`. Links between packages are relative: they lead to the copies. */
async function copyBuild(directory: string): Promise<void> {
  mkdirSync(directory);
  for (const part of ['include', 'src', 'Makefile']) {
    cpSync(join(root, 'bpf', part), join(directory, 'bpf', part), { recursive: true });
  }
  await run('cp', ['-a', join(root, 'packages'), join(directory, 'packages')]);
  symlinkSync(join(root, 'node_modules'), join(directory, 'node_modules'));
}

/** Builds it in `directory`, BPF programs and layouts included, and returns its `packages` directory. */
export async function buildOtherVersion(directory: string, edits: Edits): Promise<string> {
  await copyBuild(directory);
  for (const [path, changes] of Object.entries(edits)) edit(directory, path, changes);
  await run('make', ['-s', '-C', join(directory, 'bpf')], { timeoutMs: buildTimeoutMs });
  const packages = join(directory, 'packages');
  const datapath = join(packages, 'datapath');
  const generate = ['--conditions=@tandem/source', join(datapath, 'scripts/generate-abi.ts')];
  await run(process.execPath, generate, { timeoutMs: buildTimeoutMs });
  emit(join(datapath, 'src/abi.gen.ts'), join(datapath, 'dist/abi.gen.js'));
  return packages;
}

function edit(
  directory: string,
  path: string,
  changes: readonly (readonly [from: string, to: string])[],
): void {
  const file = join(directory, path);
  let text = readFileSync(file, 'utf8');
  for (const [from, to] of changes) {
    if (!text.includes(from)) throw new Error(`${path} has no ${JSON.stringify(from)}`);
    text = text.replace(from, to);
  }
  writeFileSync(file, text);
}

/** Compiles one module as the build does. */
export function emit(source: string, target: string): void {
  const text = stripTypeScriptTypes(readFileSync(source, 'utf8'));
  writeFileSync(target, text.replaceAll(/(from '\.[^']*)\.ts'/g, "$1.js'"));
}
