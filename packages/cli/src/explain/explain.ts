// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The answer of `tandem explain` and `kubectl tandem explain`. It needs no node. */

import { nearestName } from '@tandem/runtime/nearest-name';
import { usageError } from '../errors.ts';
import type { Printer, Style } from '../output/printer.ts';
import { printTable } from '../output/table.ts';
import { type CatalogueEntry, catalogue, codeKinds, codeNames, entriesOf } from './catalogue.ts';

export const explainSummary =
  'explain a code of status, validate, observe, doctor, metrics or a log; without a code list all';

const styles: Readonly<Record<CatalogueEntry['severity'], Style>> = {
  critical: 'bad',
  error: 'bad',
  warning: 'warning',
  info: 'dim',
};

/** `code` undefined: all. @throws TandemError TANDEM_CLI_USAGE: no such code, with the nearest one */
export function explain(out: Printer, code: string | undefined, wantsJson: boolean): void {
  const entries = code === undefined ? catalogue : entriesOf(code);
  if (code !== undefined && entries.length === 0) {
    throw usageError(
      `there is no code ${code}; did you mean ${nearestName(code, codeNames)}? \`tandem explain\` lists all codes`,
    );
  }
  if (wantsJson) out.json({ codes: entries });
  else if (code === undefined) printList(out, entries);
  else printEntries(out, entries);
}

function printList(out: Printer, entries: readonly CatalogueEntry[]): void {
  printTable(
    out,
    [{ title: 'CODE' }, { title: 'KIND' }, { title: 'SEVERITY' }],
    entries.map(({ code, kind, severity }) => [
      code,
      kind,
      { text: severity, style: styles[severity] },
    ]),
  );
}

function printEntries(out: Printer, entries: readonly CatalogueEntry[]): void {
  for (const [index, { code, kind, severity, meaning, fix }] of entries.entries()) {
    if (index > 0) out.line();
    out.line(
      { text: code, style: 'bold' },
      ` (${kind}, `,
      { text: severity, style: styles[severity] },
      ')',
    );
    out.line(`  ${meaning}`);
    out.line(`  fix: ${fix}`);
    const where = codeKinds.find((each) => each.kind === kind)?.where.replaceAll('`', '') ?? '';
    out.line(`  in:  ${where}`);
  }
}
