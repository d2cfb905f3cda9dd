// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Errors that end a command with an exit code of their own. */

import { TandemError } from '@tandem/runtime/tandem-error';
import { type ExitCode, exitCode } from './exit-codes.ts';
import type { Printer } from './output/printer.ts';

export function usageError(message: string): TandemError {
  return new TandemError('TANDEM_CLI_USAGE', message);
}

export function unreachableError(message: string): TandemError {
  return new TandemError('TANDEM_CLI_UNREACHABLE', message);
}

/** How a command that threw `error` ends. */
export function exitCodeOf(error: TandemError): ExitCode {
  if (error.code === 'TANDEM_CLI_USAGE') return exitCode.usage;
  const isRefused = error.code === 'TANDEM_RPC' && error.facts['status'] === 'INVALID_ARGUMENT';
  if (isRefused) return exitCode.usage;
  const isDown = error.code === 'TANDEM_CLI_UNREACHABLE' || error.code === 'TANDEM_RPC';
  return isDown ? exitCode.down : exitCode.problem;
}

/** Prints what a command threw, as one line, and returns it. */
export function printError(program: string, thrown: unknown, notes: Printer): TandemError {
  const error = TandemError.from(thrown);
  notes.line({ text: `${program}: `, style: 'bad' }, error.message);
  // A bug of ours: where it happened is all that helps.
  if (error.code === 'TANDEM_UNEXPECTED' && thrown instanceof Error) {
    notes.paragraphs(thrown.stack ?? '');
  }
  return error;
}
