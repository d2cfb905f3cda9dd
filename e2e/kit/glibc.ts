// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Lookups by the C library in a pod with a resolv.conf of its own, as applications make them. */

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Namespace, ownPrefix } from '@tandem/testing/namespace';
import { tryRun } from '@tandem/testing/process';

export interface GlibcLookup {
  readonly addresses: readonly string[];
  readonly tookMs: number;
}

/** `resolvConf`: its lines. The time includes the start of two processes. */
export async function lookUpByGlibc(
  namespace: Namespace,
  name: string,
  resolvConf: readonly string[],
): Promise<GlibcLookup> {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}glibc-`));
  const file = join(directory, 'resolv.conf');
  try {
    writeFileSync(file, `${resolvConf.join('\n')}\n`);
    const script = 'mount --bind "$1" /etc/resolv.conf && exec getent ahostsv4 "$2"';
    const args = ['--mount', '--propagation', 'private', 'sh', '-c', script, 'sh', file, name];
    const start = performance.now();
    const command = namespace.enter('unshare', args);
    const { stdout } = await tryRun(...command, { timeoutMs: 30_000 });
    const tookMs = performance.now() - start;
    const addresses = stdout.split('\n').flatMap((line) => line.split(/\s+/)[0] || []);
    return { addresses: [...new Set(addresses)], tookMs };
  } finally {
    rmSync(directory, { recursive: true });
  }
}
