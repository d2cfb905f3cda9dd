// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** `tandem policy validate`: what the agent would say of files, before it gets them. Needs no node. */

import type { CliCommand } from '../command.ts';
import { type ExitCode, exitCode } from '../exit-codes.ts';
import type { Printer } from '../output/printer.ts';
import { readAll } from '../validate/read-files.ts';
import { type Finding, type Validation, validateObjects } from '../validate/validate-objects.ts';

export const policyValidateCommand: CliCommand = {
  name: 'policy validate',
  summary: 'check files of policies and other objects with the code of the agent, offline',
  details: [
    'Exits with 1 when there are errors, with --strict also when there are warnings.',
    'A warning is a policy that is valid and probably means something else than its author intended.',
    'Kinds of network policy that are not enforced are errors; other kinds that Tandem does not read are skipped.',
    'The agent refuses an object with one error as a whole.',
  ].join('\n'),
  configure: (command) =>
    void command
      .requiredOption(
        '-f, --file <path>',
        'a YAML or JSON file, a directory of them, or - for standard input; may be given several times',
        (path: string, earlier: readonly string[] = []) => [...earlier, path],
      )
      .option('-R, --recursive', 'also the directories below a directory')
      .option('--strict', 'warnings are errors: exit with 1'),
  run: async ({ out, wantsJson }, options): Promise<ExitCode> => {
    const isRecursive = options['recursive'] === true;
    const validation = validateObjects(
      readAll(options['file'] as readonly string[], { isRecursive }),
    );
    const isStrict = options['strict'] === true;
    const isValid = validation.findings.every(({ severity }) => severity !== 'error' && !isStrict);
    if (wantsJson) out.json({ isValid, ...validation });
    else printValidation(out, validation);
    return isValid ? exitCode.ok : exitCode.problem;
  },
};

export function printValidation(
  out: Printer,
  { files, objects, policies, passedOver, findings }: Validation,
): void {
  for (const found of findings) {
    out.line(placeOf(found), ': ', {
      text: found.severity,
      style: found.severity === 'error' ? 'bad' : 'warning',
    });
    const subject = [found.object, found.field].filter((text) => text !== '').join(': ');
    if (subject !== '') out.line(`  ${subject}`);
    out.line(`  ${found.message}`);
  }
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  const read = files === 0 ? '' : `${files} ${plural(files, 'file')}, `;
  const counts = `${read}${objects} ${plural(objects, 'object')}, ${policies} valid ${policies === 1 ? 'policy' : 'policies'}`;
  const warnings = findings.length - errors;
  out.line(
    `${counts}: `,
    errors === 0
      ? { text: 'no errors', style: 'good' }
      : { text: `${errors} ${plural(errors, 'error')}`, style: 'bad' },
    warnings === 0 ? '' : `, ${warnings} ${plural(warnings, 'warning')}`,
    passedOver === 0
      ? ''
      : `; ${passedOver} ${plural(passedOver, 'object')} of other kinds passed over`,
  );
}

const plural = (count: number, word: string): string => (count === 1 ? word : `${word}s`);

/** "policy.yaml:12, document 2". */
function placeOf({ file, document, line }: Finding): string {
  const place = line === 0 ? file : `${file}:${line}`;
  return document === 0 ? place : `${place}, document ${document}`;
}
