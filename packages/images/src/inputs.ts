// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The files that images are made of, by the lock: from a cache of this user or from the registries, and each with the hash of the lock.
 * Debian removes a version from its mirrors when the next one is published. A build that is `isLocked` fails then, and names what
 * renews the lock; another one takes what Debian has, and says so.
 */

import { execFileSync } from 'node:child_process';
import type { Archive, OnStale } from './archive.ts';
import { cachedPath, fetched, requireHash, trim } from './input-cache.ts';
import { type Architecture, type Input, inputsOf, type Lock, lockPath, renewal } from './lock.ts';

/** Packages whose files are in the images; those that they depend on follow. */
export const imagePackages: readonly string[] = [
  ...['libc6', 'libstdc++6', 'libgcc-s1', 'libbpf1', 'nftables', 'iptables'],
];
/** Package with the static C library, which a cross compiler links. */
export const staticPackage = 'libc6-dev';

export interface InputsOptions {
  readonly architecture: Architecture;
  /** Refuse what the lock does not name. */
  readonly isLocked: boolean;
  /** Whether the programs of the image are compiled here by a cross compiler. */
  readonly isCross: boolean;
  /** ID and VERSION_ID of this machine. */
  readonly distribution: string;
  /** Directory of files by their SHA-256. */
  readonly cache: string;
  readonly open: (architecture: Architecture, onStale: OnStale) => Archive;
  /** Writes the package from the npm registry to `directory`. */
  readonly pack: (input: Input, directory: string) => void;
  readonly say: (line: string) => void;
}

/** Paths of files whose hashes were compared. */
export interface Inputs {
  readonly packages: readonly string[];
  /** Archive of the npm package with Node.js. */
  readonly node: string;
}

/** @throws Error naming the package, what was expected and seen, and the command that renews the lock */
export function inputsFor(lock: Lock, options: InputsOptions): Inputs {
  const { architecture, cache, pack } = options;
  const [node] = inputsOf(lock, 'node', architecture);
  if (node === undefined) {
    throw new Error(`${lockPath} has no Node.js for ${architecture}; renew it: ${renewal}`);
  }
  const packages = packagesFor(lock, options);
  const [program = ''] = fetched([node], cache, ([input = node], to) => pack(input, to));
  trim(cache, lock.inputs);
  return { packages, node: program };
}

function packagesFor(lock: Lock, options: InputsOptions): readonly string[] {
  const { architecture, isLocked, isCross, distribution, cache, open, say } = options;
  const inputs = [
    ...inputsOf(lock, 'package', architecture),
    ...inputsOf(lock, 'tool', architecture).filter(({ name }) => isCross && name === staticPackage),
  ];
  const isSame = lock.distribution === distribution;
  if (isSame && inputs.every((input) => cachedPath(cache, input) !== null)) {
    return fetched(inputs, cache, () => {});
  }
  if (isLocked && !isSame) {
    throw new Error(
      `${lockPath} is for ${lock.distribution}, and this machine is ${distribution}: build on ${lock.distribution}, or renew the lock here: ${renewal}`,
    );
  }
  const onStale = (reason: string): void =>
    say(`${reason}\ntaken are the indices that this machine has: apt-get update renews them`);
  // The machine's own indices have nothing of another architecture.
  using archive = open(architecture, isLocked || isCross ? null : onStale);
  const download = (wanted: readonly Input[], directory: string): void =>
    archive.download(wanted, directory);
  const lacking = isSame ? lackingIn(archive, inputs, cache) : [];
  if (isSame && lacking.length === 0) return fetched(inputs, cache, download);
  if (isLocked) {
    throw new Error(
      `${lacking.join('\n')}\nDebian has other versions than ${lockPath}; renew it: ${renewal}`,
    );
  }
  const chosen = [
    ...archive.closureOf(imagePackages),
    ...(isCross ? archive.closureOf([staticPackage]) : []).filter(
      ({ name }) => name === staticPackage,
    ),
  ];
  for (const line of isSame ? lacking : [`${lockPath} is for ${lock.distribution}`]) say(line);
  say(`images have packages that ${lockPath} does not name; --locked refuses them`);
  return fetched(chosen, cache, download);
}

/** A line for each input that neither the cache nor the archive has. @throws Error when the archive has it with another hash */
function lackingIn(archive: Archive, inputs: readonly Input[], cache: string): readonly string[] {
  const missing = inputs.filter((input) => cachedPath(cache, input) === null);
  const versions = archive.versionsOf(missing.map(({ name }) => name));
  return missing.flatMap((input) => {
    const { name, version } = input;
    const there = versions.filter((each) => each.name === name);
    const same = there.find((each) => each.version === version);
    if (same !== undefined) {
      requireHash(input, same.sha256, "Debian's index");
      return [];
    }
    const others = there.map((each) => each.version).join(', ');
    return [`${name}: ${lockPath} has ${version}, Debian has ${others === '' ? 'none' : others}`];
  });
}

/** `npm pack`: the archive of a package, which is not installed. */
export function npmPack({ name, version }: Input, directory: string): void {
  execFileSync('npm', ['pack', `${name}@${version}`, '--silent', '--ignore-scripts'], {
    cwd: directory,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}
