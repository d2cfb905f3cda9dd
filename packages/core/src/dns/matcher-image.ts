// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A compiled matcher as octets, for the policy snapshot: a process that starts alone must not compile
 * for seconds. The snapshot has a checksum; nevertheless all that matching relies on is checked here,
 * so that no image, of any writer, can make a lookup leave its arrays.
 *
 * 32-bit little-endian words: magic, version, the sizes, then the arrays in the order of `MatcherTables`.
 */

import { assert } from '../assert.ts';
import { matcherPatternsMax } from '../limits.ts';
import { err, ok, type Result } from '../result.ts';
import { codeEnd } from './alphabet.ts';
import { rowWords, slotAccept, slotBits, slotMask, slotStay } from './dfa-pack.ts';
import { Matcher, type MatcherTables } from './matcher.ts';

/** "TDMX" */
const magic = 0x584d4454;
const version = 1;
const headerWords = 11;

export type MatcherImageError = 'not-an-image' | 'unknown-version' | 'wrong-length' | 'corrupt';

assert(
  new Uint8Array(Uint32Array.of(1).buffer)[0] === 1,
  'images are little-endian, as all targets',
);

/** The image of `matcher`. */
export function encodeMatcher(matcher: Matcher): Uint8Array {
  const { tables } = matcher;
  const { globs } = tables;
  const header = [
    magic,
    version,
    tables.patternCount,
    tables.root,
    tables.plainSet,
    tables.otherSet,
    tables.table.length,
    tables.starts.length,
    tables.members.length,
    globs.words,
    globs.patterns.length,
  ];
  const arrays = [
    tables.table,
    tables.starts,
    tables.members,
    globs.step,
    globs.stay,
    globs.initial,
    globs.patterns,
    globs.acceptBits,
  ];
  const length = arrays.reduce((sum, array) => sum + array.length, headerWords);
  const words = new Int32Array(length);
  words.set(header);
  let at = headerWords;
  for (const array of arrays) {
    words.set(array, at);
    at += array.length;
  }
  return new Uint8Array(words.buffer);
}

/** The matcher of an image. */
export function decodeMatcher(bytes: Uint8Array): Result<Matcher, MatcherImageError> {
  if (bytes.length < headerWords * 4 || bytes.length % 4 !== 0) return err('not-an-image');
  const words = new Int32Array(bytes.slice().buffer);
  if (words[0] !== magic) return err('not-an-image');
  if (words[1] !== version) return err('unknown-version');
  const header = words.subarray(0, headerWords);
  if (header.some((word, index) => index >= 2 && word < 0)) return err('corrupt');
  const globWords = header[9]!;
  const globCount = header[10]!;
  const sizes = [
    header[6]!,
    header[7]!,
    header[8]!,
    globWords * codeEnd,
    globWords * 2,
    globWords,
    globCount,
    globCount,
  ];
  if (sizes.reduce((sum, size) => sum + size, headerWords) !== words.length) {
    return err('wrong-length');
  }
  let at = headerWords;
  const [table, starts, members, step, stay, initial, patterns, acceptBits] = sizes.map((size) =>
    words.slice(at, (at += size)),
  ) as [
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  const tables: MatcherTables = {
    patternCount: header[2]!,
    root: header[3]!,
    plainSet: header[4]!,
    otherSet: header[5]!,
    table,
    starts,
    members,
    globs: { words: globWords, step, stay, initial, patterns, acceptBits },
  };
  return isSound(tables) ? ok(new Matcher(tables)) : err('corrupt');
}

/** All that `Matcher` takes for granted. */
function isSound(tables: MatcherTables): boolean {
  const { patternCount, table, root, starts, plainSet, otherSet, globs } = tables;
  const setCount = starts.length - 1;
  if (patternCount > matcherPatternsMax || setCount < 1) return false;
  if (plainSet >= setCount || otherSet >= setCount) return false;
  if (root + rowWords > table.length) return false;
  for (const entry of table) if (!isSoundEntry(entry, table.length, setCount)) return false;
  if (!areSoundSets(tables)) return false;
  for (const [index, pattern] of globs.patterns.entries()) {
    const previous = index === 0 ? -1 : globs.patterns[index - 1]!;
    const bit = globs.acceptBits[index]!;
    if (pattern <= previous || pattern >= patternCount) return false;
    if (bit < 0 || bit >= globs.words * 32) return false;
  }
  return true;
}

function isSoundEntry(entry: number, tableLength: number, setCount: number): boolean {
  if (entry === 0) return true;
  const slot = entry & slotMask;
  const value = entry >>> slotBits;
  if (slot === slotAccept) return value < setCount;
  return slot >= 1 && slot <= slotStay && value + rowWords <= tableLength;
}

function areSoundSets({ starts, members, patternCount }: MatcherTables): boolean {
  const last = starts.length - 1;
  // Set 0 is the empty one.
  if (starts[0] !== 0 || starts[1] !== 0 || starts[last] !== members.length) return false;
  for (let set = 0; set < last; set++) {
    const end = starts[set + 1]!;
    if (end < starts[set]!) return false;
    for (let i = starts[set]!; i < end; i++) {
      const member = members[i]!;
      if (member < 0 || member >= patternCount) return false;
      if (i > starts[set]! && member <= members[i - 1]!) return false;
    }
  }
  return true;
}
