// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The one shape of a command: `commands/NAME.ts` exports a `CliCommand`, `program.ts` does the rest. */

import type { Command } from 'commander';
import type { ExitCode } from './exit-codes.ts';
import type { Printer } from './output/printer.ts';
import type { Settings } from './settings.ts';

/** Objects that a command may use. */
export interface CommandContext {
  readonly settings: Settings;
  /** Answers. */
  readonly out: Printer;
  /** Notes and errors; not part of the answer. */
  readonly notes: Printer;
  readonly wantsJson: boolean;
  /** Aborted by a signal, or when the reader of the output has ended. */
  readonly signal: AbortSignal;
  /** Wall clock, ms since 1970. */
  readonly nowMs: () => number;
}

export interface CliCommand {
  /** Words after `tandem`: "endpoint list". */
  readonly name: string;
  /** One line. */
  readonly summary: string;
  /** Paragraphs under the options in `--help`. */
  readonly details?: string;
  /** Adds arguments and options. */
  configure?(command: Command): void;
  /** Values of its argument that shells complete. */
  readonly completes?: readonly string[];
  /** `options` are commander's, by camelCase name; `words` are its arguments. @throws TandemError: see `exitCodeOf`. */
  run(
    context: CommandContext,
    options: Readonly<Record<string, unknown>>,
    words: readonly string[],
  ): Promise<ExitCode>;
}
