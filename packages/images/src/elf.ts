// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Links of an ELF file to others, by readelf, which reads any architecture and runs nothing. */

import { execFileSync } from 'node:child_process';

export interface Links {
  /** Path of the loader; null: a library, or a static program. */
  readonly interpreter: string | null;
  /** Names of the shared libraries that it needs. */
  readonly needed: readonly string[];
}

export function linksOf(path: string): Links {
  const text = execFileSync('readelf', ['--wide', '--program-headers', '--dynamic', path], {
    encoding: 'utf8',
    env: { ...process.env, LC_ALL: 'C' },
  });
  return {
    interpreter: /Requesting program interpreter: ([^\]]+)\]/.exec(text)?.[1] ?? null,
    needed: [...text.matchAll(/\(NEEDED\)\s+Shared library: \[([^\]]+)\]/g)].map(
      ([, name = '']) => name,
    ),
  };
}
