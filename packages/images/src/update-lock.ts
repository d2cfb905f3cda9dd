// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The lock of the images, made from what apt installs of Debian for both architectures and the version of Node.js in scripts/setup.sh. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openArchive } from './archive.ts';
import { sha256Of } from './input-cache.ts';
import { imagePackages, npmPack, staticPackage } from './inputs.ts';
import {
  type Architecture,
  architectures,
  type Input,
  type Lock,
  type LockedInput,
} from './lock.ts';
import { machineDistribution } from './machine.ts';
import { triplets } from './package-root.ts';

/** Tools that scripts/setup.sh installs, whose output is in the images. */
const tools = [
  ...['gcc', 'binutils', 'clang-19', 'libbpf-dev', 'libuv1-dev', 'linux-libc-dev', staticPackage],
];
/** Packages of the tools' closure that decide what they write: compilers, binutils, headers, static libraries. */
const isTool =
  /^(gcc|cpp|libgcc|binutils|libbinutils|clang|libclang|libllvm|linux-libc|libc6-dev|libbpf-dev|libuv1-dev)/;

/** `root`: directory of the checkout. @throws Error when a registry is not reachable */
export function newLock(root: string, say: (line: string) => void): Lock {
  const version = /^node_version=(\S+)$/m.exec(
    readFileSync(join(root, 'scripts/setup.sh'), 'utf8'),
  )?.[1];
  if (version === undefined) throw new Error('scripts/setup.sh has no node_version');
  const inputs = architectures.flatMap((architecture) => {
    say(`reading the indices of ${architecture}`);
    return [...debianInputs(architecture), nodeInput(architecture, version)];
  });
  return { distribution: machineDistribution(), inputs };
}

function debianInputs(architecture: Architecture): readonly LockedInput[] {
  using archive = openArchive(architecture);
  const of = (kind: LockedInput['kind'], inputs: readonly Input[]): readonly LockedInput[] =>
    inputs.map((input) => ({ kind, architecture, ...input }));
  const others = architectures.filter((each) => each !== architecture);
  const compilers = others.flatMap((each) => [
    `gcc-${triplets[each].replaceAll('_', '-')}`,
    `libc6-dev-${each}-cross`,
  ]);
  const closure = archive.closureOf([...tools, ...compilers]);
  return [
    ...of('package', archive.closureOf(imagePackages)),
    ...of(
      'tool',
      closure.filter(({ name }) => isTool.test(name)),
    ),
  ];
}

/** node-linux-ARCH has the program, which the npm package `node` fetches in its install script. */
function nodeInput(architecture: Architecture, version: string): LockedInput {
  const name = `node-linux-${architecture === 'amd64' ? 'x64' : architecture}`;
  const directory = mkdtempSync(join(tmpdir(), 'tandem-node-'));
  try {
    const input: Input = { name, version, sha256: '' };
    npmPack(input, directory);
    const [file] = readdirSync(directory);
    if (file === undefined) throw new Error(`the npm registry gave no ${name}@${version}`);
    return { kind: 'node', architecture, ...input, sha256: sha256Of(join(directory, file)) };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
