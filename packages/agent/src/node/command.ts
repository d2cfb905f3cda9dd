// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Runs a system program and gives its output; an error names the command and quotes its output. */

import { execFile } from 'node:child_process';
import { TandemError } from '@tandem/runtime/tandem-error';

const timeoutMs = 10_000;
const outputBytesMax = 16 << 20;

export function run(program: string, args: readonly string[], input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(
      program,
      args,
      { timeout: timeoutMs, maxBuffer: outputBytesMax, encoding: 'utf8' },
      (error, stdout, stderr) => {
        if (error === null) {
          resolve(stdout);
          return;
        }
        const said = stderr.trim() === '' ? error.message : stderr.trim();
        reject(new TandemError('TANDEM_COMMAND', `${program} ${args.join(' ')}: ${said}`));
      },
    );
    // A program that does not read its input may close it before we do: that is no error of ours.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(input ?? '');
  });
}
