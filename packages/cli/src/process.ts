// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Arguments, streams and signals of a process, as a program of ours gets them. */

import { type ExitCode, exitCode } from './exit-codes.ts';
import type { CliWorld } from './program.ts';

export async function runAsProcess(run: (world: CliWorld) => Promise<ExitCode>): Promise<void> {
  const abort = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => abort.abort());
  }
  let isSaid = false;
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // `tandem observe | head`: the reader has ended, which ends the command and is no failure.
      if (error.code === 'EPIPE') abort.abort();
      // What stderr does not take is lost: the output goes on without it.
      if (error.code === 'EPIPE' || stream === process.stderr || isSaid) return;
      isSaid = true;
      abort.abort();
      // A full disk: half of the output must not look like all of it.
      process.exitCode = exitCode.problem;
      process.stderr.write(`the output cannot be written: ${error.message}\n`);
    });
  }
  const code = await run({
    argv: process.argv.slice(2),
    env: process.env,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: abort.signal,
    nowMs: Date.now,
  });
  process.exitCode ??= code;
}
