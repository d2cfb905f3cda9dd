// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Runs a command line in the test's own process and keeps what it wrote. */

import { Writable } from 'node:stream';
import type { ExitCode } from '../src/exit-codes.ts';
import { runCli } from '../src/program.ts';

export interface CliRun {
  readonly code: ExitCode;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliRunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly isTerminal?: boolean;
  readonly signal?: AbortSignal;
  /** Called with everything on standard output so far. */
  readonly onOutput?: (stdout: string) => void;
}

/** A stream that keeps its text. */
export class TextStream extends Writable {
  readonly isTTY: boolean;
  text = '';
  readonly #onText: (text: string) => void;

  constructor(isTTY: boolean, onText: (text: string) => void = () => undefined) {
    super({ decodeStrings: false });
    this.isTTY = isTTY;
    this.#onText = onText;
  }

  override _write(chunk: string, _encoding: BufferEncoding, done: () => void): void {
    this.text += chunk;
    this.#onText(this.text);
    done();
  }
}

export async function cli(argv: readonly string[], options: CliRunOptions = {}): Promise<CliRun> {
  const isTerminal = options.isTerminal === true;
  const stdout = new TextStream(isTerminal, options.onOutput);
  const stderr = new TextStream(isTerminal);
  const code = await runCli({
    argv,
    env: options.env ?? {},
    stdout,
    stderr,
    signal: options.signal ?? new AbortController().signal,
    nowMs: Date.now,
  });
  return { code, stdout: stdout.text, stderr: stderr.text };
}
