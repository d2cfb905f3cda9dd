// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Files of registries on this machine, named by their SHA-256, which is compared at each use. */

import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { join } from 'node:path';
import { type Input, lockPath, renewal } from './lock.ts';

const scratchPrefix = 'new-';
const leftAgeMs = 24 * 3_600_000;

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
    mkdirSync(cache, { recursive: true });
    // Its name is unique also among containers that share the cache, and a rename out of it is within one file system.
    const directory = mkdtempSync(join(cache, scratchPrefix));
    try {
      download(missing, directory);
      for (const input of missing) keep(input, directory, cache);
    } finally {
      rmSync(directory, { recursive: true });
    }
  }
  return inputs.map(({ sha256 }) => {
    const path = join(cache, sha256);
    // The time of the last use decides what is kept.
    ifPossible(() => utimesSync(path, new Date(), new Date()));
    return path;
  });
}

/**
 * Removes what no lock that is in use needs: of files that are not `needed` the most recently used stay, because checkouts share the
 * cache, and what a process that was killed left goes after a day.
 */
export function trim(cache: string, needed: readonly Input[], othersMax = 200): void {
  const hashes = new Set(needed.map(({ sha256 }) => sha256));
  const entries = readdirSync(cache).flatMap((name) => {
    // Another process may trim at the same time.
    const stats = statSync(join(cache, name), { throwIfNoEntry: false });
    return stats === undefined || hashes.has(name) ? [] : [{ name, time: stats.mtimeMs }];
  });
  const isFile = ({ name }: { readonly name: string }): boolean => /^[0-9a-f]{64}$/.test(name);
  const unused = entries.filter(isFile).toSorted((a, b) => b.time - a.time);
  const left = entries.filter((each) => !isFile(each) && each.time < Date.now() - leftAgeMs);
  for (const { name } of [...unused.slice(othersMax), ...left]) {
    ifPossible(() => rmSync(join(cache, name), { recursive: true, force: true }));
  }
}

/** A change that no result depends on: a full cache is of use to a user who may not write it. */
function ifPossible(change: () => void): void {
  try {
    change();
  } catch {
    // The cache is read-only, or another build was faster.
  }
}

function keep(input: Input, directory: string, cache: string): void {
  const { name, version, sha256 } = input;
  const isOf = (file: string): boolean =>
    file.startsWith(`${name}_`) || file.startsWith(`${name}-${version}.`);
  const file = readdirSync(directory).find(isOf);
  if (file === undefined) throw new Error(`${name} ${version}: the registry gave no file`);
  requireHash(input, sha256Of(join(directory, file)), 'the downloaded file');
  renameSync(join(directory, file), join(cache, sha256));
}

/** Null: not there, or damaged. */
export function cachedPath(cache: string, { sha256 }: Input): string | null {
  const path = join(cache, sha256);
  return existsSync(path) && sha256Of(path) === sha256 ? path : null;
}

export function sha256Of(path: string): string {
  return createHash('sha256').update(readFileSync(path)).digest('hex');
}
