// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Other commits of this repository, built once each, to upgrade from: their images and their chart. */

import { cpSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run } from '@tandem/testing/process';
import { cacheDirectory } from './layout.ts';
import type { Progress } from './progress.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const buildTimeoutMs = 1_200_000;
const archiveTimeoutMs = 60_000;

export interface Checkout {
  readonly commit: string;
  readonly chart: string;
  /** Archives of the images agent and dns-proxy, by name. */
  readonly images: Readonly<Record<'agent' | 'dns-proxy', string>>;
}

/**
 * A commit, a branch or a tag, with images of this tag. It is built by its own `./run`, with the tools of this checkout.
 * @throws Error when git does not know it, or it cannot be built
 */
export async function checkoutOf(ref: string, tag: string, progress: Progress): Promise<Checkout> {
  const named = await run('git', ['-C', root, 'rev-parse', '--verify', `${ref}^{commit}`]);
  const commit = named.stdout.trim();
  const directory = join(cacheDirectory, 'checkouts', commit);
  const images = join(directory, 'images', tag);
  if (!existsSync(images)) {
    await progress.slow(`building ${commit.slice(0, 12)}`, () => build(commit, directory, tag));
  }
  return {
    commit,
    chart: join(directory, 'charts/tandem'),
    images: { agent: join(images, 'agent.tar'), 'dns-proxy': join(images, 'dns-proxy.tar') },
  };
}

async function build(commit: string, directory: string, tag: string): Promise<void> {
  if (!existsSync(directory)) await unpack(commit, directory);
  const images = join(directory, 'images', tag);
  const fresh = `${images}.${process.pid}`;
  const options = { cwd: directory, timeoutMs: buildTimeoutMs };
  try {
    await run('./run', ['images', '--output', fresh, '--tag', tag], options);
    renameSync(fresh, images);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

async function unpack(commit: string, directory: string): Promise<void> {
  const fresh = `${directory}.${process.pid}`;
  const archive = `${fresh}.tar`;
  mkdirSync(fresh, { recursive: true });
  try {
    const options = { timeoutMs: archiveTimeoutMs };
    await run('git', ['-C', root, 'archive', '--output', archive, commit], options);
    await run('tar', ['-xf', archive, '-C', fresh], options);
    cpSync(join(root, '.tools'), join(fresh, '.tools'), { recursive: true });
    // so that ./run does not ask which files git knows of the directory above
    await run('git', ['init', '--quiet', fresh], options);
    renameSync(fresh, directory);
  } finally {
    rmSync(archive, { force: true });
    rmSync(fresh, { recursive: true, force: true });
  }
}
