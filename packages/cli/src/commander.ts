// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Settings of commander that all our programs share. */

import type { Command } from 'commander';
import type { Printer } from './output/printer.ts';
import { columns, wrapped } from './output/wrap.ts';

/** Adds a text below the lists of a command's help, each of its lines wrapped as commander wraps the lists. */
export function addNotes(command: Command, text: string): Command {
  return command.addHelpText('after', `\n${text.split('\n').flatMap(wrapped).join('\n')}`);
}

/** Applies what subcommands inherit when they are made: no exit of the process, output through printers. */
export function configured(command: Command, out: Printer, notes: Printer): Command {
  return command
    .exitOverride()
    .showHelpAfterError('(--help lists commands and options)')
    .configureHelp({ showGlobalOptions: true, helpWidth: columns })
    .configureOutput({
      writeOut: (text) => out.paragraphs(text),
      writeErr: (text) => notes.paragraphs(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
}
