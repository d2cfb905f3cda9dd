// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Patterns that would make the merged automaton too large, simulated bit by bit (shift-and, Baeza-Yates
 * and Gonnet): a bit for each character of each pattern, all advanced together for each octet of a
 * name. Work is words x octets, whatever the patterns are.
 *
 * Bit j of a pattern means: the first j of its characters have been read, backwards.
 *     next = (bits & step[code]) << 1 | bits & stay[code is the dot]
 */

import { codeDot, codeEnd } from './alphabet.ts';
import { tokenDeep, tokenStar } from './pattern-tokens.ts';

export interface GlobPattern {
  readonly tokens: Uint8Array;
  /** Index of the pattern in the matcher. */
  readonly pattern: number;
}

/** The arrays of a `GlobNfa`, as an image holds them. */
export interface GlobTables {
  /** 32-bit words of a bit set. */
  readonly words: number;
  /** For each code `words` words: bits whose next character is the code. */
  readonly step: Int32Array;
  /** Bits with a star, twice: for codes other than the dot, then for the dot. */
  readonly stay: Int32Array;
  readonly initial: Int32Array;
  /** For each pattern, ascending: its index, and the bit that accepts. */
  readonly patterns: Int32Array;
  readonly acceptBits: Int32Array;
}

export class GlobNfa {
  readonly tables: GlobTables;
  readonly #bits: Int32Array;

  constructor(tables: GlobTables) {
    this.tables = tables;
    this.#bits = new Int32Array(tables.words);
  }

  /** Reads the name in `codes`, which has `nameLength` octets in wire form. */
  run(codes: Uint8Array, nameLength: number): void {
    const { words, step, stay, initial } = this.tables;
    const bits = this.#bits;
    for (let w = 0; w < words; w++) bits[w] = initial[w]!;
    for (let i = nameLength - 2; i > 0; i--) {
      const code = codes[i]!;
      const stepAt = code * words;
      const stayAt = code === codeDot ? words : 0;
      let carry = 0;
      for (let w = 0; w < words; w++) {
        const before = bits[w]!;
        const moved = before & step[stepAt + w]!;
        bits[w] = (moved << 1) | carry | (before & stay[stayAt + w]!);
        carry = moved >>> 31;
      }
    }
  }

  /** Whether the pattern at `index` of `tables.patterns` matched the name of the last `run`. */
  isMatch(index: number): boolean {
    const bit = this.tables.acceptBits[index]!;
    return ((this.#bits[bit >>> 5]! >>> (bit & 31)) & 1) === 1;
  }
}

/**
 * Builds the tables of as many of `patterns`, in their order, as `wordsMax` words have room for;
 * `rejected` are the indices of the others.
 */
export function buildGlobTables(
  patterns: readonly GlobPattern[],
  wordsMax: number,
): { readonly tables: GlobTables; readonly rejected: readonly number[] } {
  const accepted: GlobPattern[] = [];
  const rejected: number[] = [];
  let bitCount = 0;
  for (const glob of patterns) {
    const bits = bitsOf(glob.tokens);
    if (bitCount + bits > wordsMax * 32) rejected.push(glob.pattern);
    else {
      bitCount += bits;
      accepted.push(glob);
    }
  }
  accepted.sort((a, b) => a.pattern - b.pattern);
  const words = (bitCount + 31) >>> 5;
  const tables: GlobTables = {
    words,
    step: new Int32Array(words * codeEnd),
    stay: new Int32Array(words * 2),
    initial: new Int32Array(words),
    patterns: Int32Array.from(accepted, (glob) => glob.pattern),
    acceptBits: new Int32Array(accepted.length),
  };
  let bit = 0;
  for (const [index, glob] of accepted.entries()) {
    tables.acceptBits[index] = writePattern(tables, glob.tokens, bit);
    bit += bitsOf(glob.tokens);
  }
  return { tables, rejected };
}

function bitsOf(tokens: Uint8Array): number {
  let characters = 0;
  for (const token of tokens) if (token < codeEnd) characters++;
  return characters + 1;
}

/** Sets the bits of one pattern from `firstBit` up. The bit that accepts. */
function writePattern(tables: GlobTables, tokens: Uint8Array, firstBit: number): number {
  const { words, step, stay, initial } = tables;
  let bit = firstBit;
  setBit(initial, 0, bit);
  for (const token of tokens) {
    if (token === tokenStar || token === tokenDeep) {
      setBit(stay, 0, bit);
      if (token === tokenDeep) setBit(stay, words, bit);
    } else {
      setBit(step, token * words, bit);
      bit++;
    }
  }
  return bit;
}

function setBit(array: Int32Array, offset: number, bit: number): void {
  const at = offset + (bit >>> 5);
  array[at] = array[at]! | (1 << (bit & 31));
}
