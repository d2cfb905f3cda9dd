// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A tcx program of another agent, ahead of those that are there. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { TcxDirection } from '@tandem/bpf-loader-node/link';
import { type Namespace, ownPrefix } from '@tandem/testing/namespace';
import { run, startProcess, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';

/**
 * Attached when this resolves, gone when it is disposed. It ends the chain of its hook, or with `target` delivers
 * everything to the other end of that interface.
 */
export async function startForeignProgram(
  node: Namespace,
  ifindex: number,
  target?: number,
  direction: TcxDirection = 'ingress',
): Promise<AsyncDisposable> {
  const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-foreign-`));
  const object = join(directory, 'foreign.bpf.o');
  const machine = (await run('uname', ['-m'])).stdout.trim();
  const source = fileURLToPath(new URL('foreign.bpf.c', import.meta.url));
  const flags = ['-target', 'bpf', '-O2', '-g', `-I/usr/include/${machine}-linux-gnu`];
  try {
    await run(await findClang(), [...flags, '-c', source, '-o', object]);
  } catch (error) {
    rmSync(directory, { recursive: true });
    throw error;
  }
  const child = startProcess(
    ...node.enter(process.execPath, [
      '--conditions=@tandem/source',
      fileURLToPath(new URL('foreign-program-child.ts', import.meta.url)),
      object,
      String(ifindex),
      direction,
      ...(target === undefined ? [] : [String(target)]),
    ]),
  );
  const dispose = async (): Promise<void> => {
    child.stdin.end();
    await child.exited;
    rmSync(directory, { recursive: true, force: true });
  };
  await waitFor(
    () => {
      if (child.child.exitCode !== null) throw new Error(`it ended: ${child.stderr()}`);
      return child.stdout().includes('attached');
    },
    { what: 'the foreign program', timeoutMs: 10_000 },
  );
  return { [Symbol.asyncDispose]: dispose };
}

/** As bpf/Makefile looks for it. */
async function findClang(): Promise<string> {
  for (const name of ['clang-19', 'clang-16', 'clang']) {
    if ((await tryRun('which', [name])).status === 0) return name;
  }
  throw new Error('no clang: it builds the programs of this repository too');
}
