// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `tandem explain`: the meaning and the fix of a code. */

import type { CliCommand } from '../command.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import { codeNames } from '../explain/catalogue.ts';
import { explain, explainSummary } from '../explain/explain.ts';

export const explainCommand: CliCommand = {
  name: 'explain',
  summary: explainSummary,
  details: 'Needs no node. Exits with 2 when there is no such code, and names the nearest one.',
  configure: (command) => void command.argument('[code]', 'such as agent-away or drop_no_match'),
  completes: codeNames,
  run: async ({ out, wantsJson }, _options, [code]): Promise<ExitCode> => {
    explain(out, code, wantsJson);
    return exitCode.ok;
  },
};
