// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A program of this machine with the shared libraries that it loads, as files of an image. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TarFile } from './tar.ts';

/** `at`: its path in the image, without a leading slash. Symbols are left out: they are half of a large program. */
export function programFiles(program: string, at: string): readonly TarFile[] {
  const origin = { kind: 'machine', path: realpathSync(program) } as const;
  return [{ path: at, mode: 0o755, content: stripped(program), origin }, ...librariesOf(program)];
}

/** Programs of one image may load the same library. */
export function withoutCopies(files: readonly TarFile[]): readonly TarFile[] {
  return [...new Map(files.map((each) => [each.path, each])).values()];
}

export function librariesOf(program: string): readonly TarFile[] {
  const text = execFileSync('ldd', [program], { encoding: 'utf8' });
  const paths = [...text.matchAll(/(?:=> )?(\/\S+) \(0x/g)].map(([, path = '']) => path);
  return paths.map((path) => ({
    path: path.slice(1),
    mode: 0o755,
    content: readFileSync(realpathSync(path)),
    origin: { kind: 'machine', path: realpathSync(path) },
  }));
}

function stripped(program: string): Buffer {
  const directory = mkdtempSync(join(tmpdir(), 'tandem-image-'));
  try {
    const copy = join(directory, 'program');
    execFileSync('strip', ['-o', copy, realpathSync(program)]);
    return readFileSync(copy);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
