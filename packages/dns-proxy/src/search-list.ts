// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The node's search list, which kubelet appends to that of its pods: from resolv.conf(5), read once at
 * the start. The last `search` or `domain` line holds.
 */

import { closeSync, constants, openSync, readSync } from 'node:fs';
import { nameFromText, nameToText } from '@tandem/core/dns/name';
import { TandemError } from '@tandem/runtime/tandem-error';
import { resolvConfBytesMax, searchSuffixesMax } from './limits.ts';

export interface SearchList {
  /** In presentation form with the final dot, lower-case, each once; not the root. */
  readonly suffixes: readonly string[];
  /** Words of the line that are no names, or over the limit. */
  readonly ignored: number;
}

/** Reads the text of a resolv.conf. */
export function parseSearchList(text: string): SearchList {
  let words: readonly string[] = [];
  for (const line of text.split('\n')) {
    // A keyword begins its line (resolv.conf(5)).
    const [keyword, ...rest] = line.trimEnd().split(/[ \t]+/);
    if (rest.length === 0) continue;
    if (keyword === 'search') words = rest;
    else if (keyword === 'domain') words = rest.slice(0, 1);
  }
  const names = words.map((word) => nameFromText(word));
  // The root says that nothing is to be appended: it is no mistake, and no suffix.
  const suffixes = names.flatMap((name) =>
    name !== null && name.length > 1 ? [nameToText(name)] : [],
  );
  const different = [...new Set(suffixes)];
  const over = Math.max(0, different.length - searchSuffixesMax);
  const broken = names.filter((name) => name === null).length;
  return { suffixes: different.slice(0, searchSuffixesMax), ignored: broken + over };
}

/** Reads the file; an error if it cannot be read. */
export function readSearchList(path: string): SearchList | TandemError {
  try {
    return parseSearchList(readStart(path));
  } catch (error) {
    return TandemError.from(error, path);
  }
}

/** The file up to the limit: whatever lies there, the start hangs neither on its size nor on a pipe. */
function readStart(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const bytes = new Uint8Array(resolvConfBytesMax);
    const length = readSync(fd, bytes, 0, bytes.length, 0);
    return Buffer.from(bytes.buffer, 0, length).toString('latin1');
  } finally {
    closeSync(fd);
  }
}
