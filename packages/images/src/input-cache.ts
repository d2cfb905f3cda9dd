// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Files of registries on this machine, named by their SHA-256, which is compared at each use. */

import { createHash } from 'node:crypto';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Input, lockPath, renewal } from './lock.ts';

/** @throws Error when `seen` is not the hash of the lock. `where`: what has it */
export function requireHash({ name, version, sha256 }: Input, seen: string, where: string): void {
  if (seen === sha256) return;
  throw new Error(
    `${name} ${version}: SHA-256 expected ${sha256} (${lockPath}), seen ${seen} (${where}); if the new file is right, renew the lock: ${renewal}`,
  );
}

/** Paths in the cache, in the order of the inputs. */
export function fetched(
  inputs: readonly Input[],
  cache: string,
  download: (inputs: readonly Input[], directory: string) => void,
): readonly string[] {
  const missing = inputs.filter((input) => cachedPath(cache, input) === null);
  if (missing.length > 0) {
    const directory = mkdtempSync(join(tmpdir(), 'tandem-inputs-'));
    try {
      download(missing, directory);
      mkdirSync(cache, { recursive: true });
      for (const input of missing) keep(input, directory, cache);
    } finally {
      rmSync(directory, { recursive: true });
    }
  }
  return inputs.map(({ sha256 }) => join(cache, sha256));
}

function keep(input: Input, directory: string, cache: string): void {
  const { name, version, sha256 } = input;
  const isOf = (file: string): boolean =>
    file.startsWith(`${name}_`) || file.startsWith(`${name}-${version}.`);
  const file = readdirSync(directory).find(isOf);
  if (file === undefined) throw new Error(`${name} ${version}: the registry gave no file`);
  requireHash(input, sha256Of(join(directory, file)), 'the downloaded file');
  const fresh = join(cache, `${sha256}.${process.pid}`);
  copyFileSync(join(directory, file), fresh);
  renameSync(fresh, join(cache, sha256));
}

/** Null: not there, or damaged. */
export function cachedPath(cache: string, { sha256 }: Input): string | null {
  const path = join(cache, sha256);
  return existsSync(path) && sha256Of(path) === sha256 ? path : null;
}

export function sha256Of(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
