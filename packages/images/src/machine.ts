// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Facts of the machine that builds. */

import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { type Architecture, architectures } from './lock.ts';

/** @throws Error when images cannot be built on it */
export function machineArchitecture(): Architecture {
  const name = process.arch === 'x64' ? 'amd64' : process.arch;
  const found = architectures.find((each) => each === name);
  if (found === undefined) throw new Error(`images are not built on ${name}`);
  return found;
}

/** ID and VERSION_ID of os-release(5), such as debian-12. */
export function machineDistribution(): string {
  const text = readFileSync('/etc/os-release', 'utf8');
  const valueOf = (name: string): string =>
    new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? 'unknown';
  return `${valueOf('ID')}-${valueOf('VERSION_ID')}`;
}

/** Versions of installed Debian packages, by name. */
export function installedPackages(): ReadonlyMap<string, string> {
  const format = '${Package}\t${Version}\t${db:Status-Status}\n';
  const text = execFileSync('dpkg-query', ['--show', `--showformat=${format}`], {
    encoding: 'utf8',
    maxBuffer: 16 << 20,
  });
  const rows = text.split('\n').map((line) => line.split('\t'));
  return new Map(
    rows.flatMap(([name = '', version = '', status]) =>
      status === 'installed' ? [[name, version] as const] : [],
    ),
  );
}

/** Inputs of images that were fetched, kept when checkouts come and go. `configured`: value of XDG_CACHE_HOME; an empty one is none. */
export function inputCache(configured: string | undefined = process.env['XDG_CACHE_HOME']): string {
  const base = configured || join(homedir(), '.cache');
  return join(base, 'tandem/images');
}
