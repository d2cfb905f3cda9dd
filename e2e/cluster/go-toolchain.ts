// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A Go that is new enough: the machine's, or the one that the machine's older Go fetches as a module. Since 1.21
 * go does that by itself (GOTOOLCHAIN); Debian 12 has 1.19, which can download the module but not run it.
 */

import { chmodSync, copyFileSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '@tandem/testing/process';

const wantedVersion = '1.26.8';
/** From this one on, `go` replaces itself by the toolchain that GOTOOLCHAIN names. */
const switchingMinor = 21;
const downloadTimeoutMs = 300_000;

export interface GoToolchain {
  readonly command: string;
  readonly env: NodeJS.ProcessEnv;
}

/** @throws Error when there is no Go at all, or the module of the toolchain cannot be had. */
export async function findGo(): Promise<GoToolchain> {
  const { stdout } = await run('go', ['env', 'GOVERSION', 'GOHOSTARCH']);
  const [version = '', architecture = ''] = stdout.split('\n');
  const minor = Number(/^go1\.(\d+)/.exec(version)?.[1] ?? 0);
  const wantedMinor = Number(wantedVersion.split('.')[1]);
  if (minor >= wantedMinor) return { command: 'go', env: { ...process.env, GOTOOLCHAIN: 'local' } };
  if (minor >= switchingMinor) {
    return { command: 'go', env: { ...process.env, GOTOOLCHAIN: `go${wantedVersion}` } };
  }
  const directory = await downloadToolchain(`v0.0.1-go${wantedVersion}.linux-${architecture}`);
  const env = { ...process.env, GOROOT: directory, GOTOOLCHAIN: 'local' };
  return { command: join(directory, 'bin/go'), env };
}

/** Downloads a toolchain as `go` does for a switch: modules have neither execute bits nor a go.mod below their root. */
async function downloadToolchain(version: string): Promise<string> {
  const module = `golang.org/toolchain@${version}`;
  const { stdout } = await run('go', ['mod', 'download', '-modcacherw', '-json', module], {
    timeoutMs: downloadTimeoutMs,
  });
  const { Dir: directory } = JSON.parse(stdout) as { Dir: string };
  for (const part of ['bin', `pkg/tool/${version.split('.').at(-1)?.replace('-', '_')}`]) {
    for (const name of readdirSync(join(directory, part))) {
      chmodSync(join(directory, part, name), 0o755);
    }
  }
  for (const source of ['src', 'src/cmd']) {
    const shipped = join(directory, source, '_go.mod');
    if (existsSync(shipped)) copyFileSync(shipped, join(directory, source, 'go.mod'));
  }
  return directory;
}
