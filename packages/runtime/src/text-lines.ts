// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Text in the lines of a terminal. */

/** Characters of a line of help. */
const helpColumns = 100;

/** Breaks text at spaces. Every line begins with `indent`, the first one with `first`. */
export function wrap(text: string, indent: string, first: string = indent): string {
  let lines = '';
  let line = first;
  let isEmpty = true;
  for (const word of text.split(/\s+/)) {
    if (!isEmpty && line.length + word.length >= helpColumns) {
      lines += `${line.trimEnd()}\n`;
      line = indent;
    }
    line += `${word} `;
    isEmpty = false;
  }
  return `${lines}${line.trimEnd()}\n`;
}
