// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Tools of the machine whose output is in the images, compared with the lock. */

import {
  type Architecture,
  architectures,
  type Input,
  inputsOf,
  type Lock,
  lockPath,
} from './lock.ts';
import { triplets } from './package-root.ts';

export interface Machine {
  readonly architecture: Architecture;
  /** Versions of installed Debian packages, by name. */
  readonly installed: ReadonlyMap<string, string>;
  /** Version of the Node.js that runs this, whose zlib compresses the layers. */
  readonly node: string;
}

/** A line for each tool of a build of `architecture` that the machine lacks, or has in another version than the lock. */
export function otherTools(
  lock: Lock,
  architecture: Architecture,
  { architecture: machine, installed, node }: Machine,
): readonly string[] {
  const packages = neededTools(lock, architecture, machine).flatMap(({ name, version }) => {
    const seen = installed.get(name);
    if (seen === version) return [];
    const state = seen === undefined ? 'it is not installed' : `installed is ${seen}`;
    return [`${name}: ${lockPath} has ${version}, ${state}: apt-get install ${name}=${version}`];
  });
  const programs = inputsOf(lock, 'node', machine).flatMap(({ version }) =>
    version === node ? [] : [`Node.js: ${lockPath} has ${version}, ${node} runs this`],
  );
  return [...packages, ...programs];
}

/** Cross compilers are needed for another architecture alone. */
function neededTools(
  lock: Lock,
  architecture: Architecture,
  machine: Architecture,
): readonly Input[] {
  const tools = inputsOf(lock, 'tool', machine);
  if (architecture !== machine) return tools;
  const others = architectures.filter((each) => each !== machine);
  const marks = others.flatMap((each) => [triplets[each].replaceAll('_', '-'), `-${each}-cross`]);
  const isCross = (name: string): boolean =>
    name.endsWith('-cross-base') || marks.some((mark) => name.includes(mark));
  return tools.filter(({ name }) => !isCross(name));
}

/** Name of the compiler of the eBPF object in the lock; null: none. */
export function clangOf(lock: Lock, machine: Architecture): string | null {
  const found = inputsOf(lock, 'tool', machine).find(({ name }) => /^clang-\d+$/.test(name));
  return found?.name ?? null;
}
