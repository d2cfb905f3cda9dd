// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Tables in columns aligned by spaces, two between them; the same on a terminal and in a pipe. */

import { type Printer, plainText, type Text } from './printer.ts';

export interface Column {
  readonly title: string;
  /** Numbers stand at the right edge. */
  readonly isNumeric?: boolean;
}

/** Prints titles and rows; each row has a text for each column. */
export function printTable(
  printer: Printer,
  columns: readonly Column[],
  rows: readonly (readonly Text[])[],
): void {
  const titles = columns.map(({ title }): Text => ({ text: title, style: 'dim' }));
  const all = [titles, ...rows];
  const widths = columns.map((_, index) =>
    all.reduce((width, row) => Math.max(width, plainText(row[index] ?? '').length), 0),
  );
  for (const row of all) {
    const parts = columns.flatMap(({ isNumeric }, index): Text[] => {
      const cell = row[index] ?? '';
      const padding = ' '.repeat((widths[index] ?? 0) - plainText(cell).length);
      const gap = index === 0 ? '' : '  ';
      return isNumeric === true ? [gap, padding, cell] : [gap, cell, padding];
    });
    printer.line(...parts);
  }
}
