// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Long texts as lines; the same on a terminal and in a pipe. */

/** Characters of a line. */
export const columns = 100;

/** Lines of at most `columns` characters, broken at spaces; a longer word has a line of its own. */
export function wrapped(text: string): string[] {
  const words = text.split(/(?<=\S) /);
  const lines = [words.shift() ?? ''];
  for (const word of words) {
    const last = lines.at(-1) ?? '';
    if (last.length + 1 + word.length > columns) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}
