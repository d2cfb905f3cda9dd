// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** Longest life of a child, ms. */
const lifeMs = 30_000;

export interface ScriptChild {
  readonly process: ChildProcess;
  /** Everything written to both outputs so far. */
  readonly output: () => string;
  /** Resolves with the exit code, null if a signal ended it. */
  readonly exited: Promise<number | null>;
}

/** Runs an ES module text with our sources importable by absolute URL; as another user when given. */
export function runScript(script: string, user?: { uid: number; gid: number }): ScriptChild {
  const child = spawn(
    process.execPath,
    ['--conditions=@tandem/source', '--input-type=module', '-e', script],
    { cwd: '/', timeout: lifeMs, killSignal: 'SIGKILL', ...user },
  );
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  }
  const exited = once(child, 'close').then(([code]) => code as number | null);
  return { process: child, output: () => output, exited };
}
