// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** What all our programs set on commander. */

import type { Command } from 'commander';
import type { Printer } from './output/printer.ts';

/** Applies what subcommands inherit when they are made: no exit of the process, output through printers. */
export function configured(command: Command, out: Printer, notes: Printer): Command {
  return command
    .exitOverride()
    .showHelpAfterError('(--help lists commands and options)')
    .configureHelp({ showGlobalOptions: true, helpWidth: 100 })
    .configureOutput({
      writeOut: (text) => out.paragraphs(text),
      writeErr: (text) => notes.paragraphs(text),
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
}
