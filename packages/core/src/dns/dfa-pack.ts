// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Row displacement (comb) packing: the rows of all states slid over each other in one array of 32-bit
 * words, so that no two entries meet. A state is the offset of its row, its base; the entry for slot s
 * lies at base + s and carries s in its low six bits. Bases are distinct, so an entry at base + s that
 * carries s can only be this state's: no owner needs to be stored.
 *
 *     word = value << 6 | slot;  slot 1..39 code -> base of the next state
 *                                slot 40    base of the stay state
 *                                slot 63, at offset 0: id of the accept set
 *     0 is an empty word
 */

import { assert } from '../assert.ts';
import { type Dfa, stateNone } from './dfa-build.ts';

export const slotBits = 6;
export const slotMask = 63;
export const slotStay = 40;
/** Mark of an accept entry; it lies at the base itself, where no code can lie. */
export const slotAccept = 63;
/** Words of a row, empty ones included: every base plus this is inside the table. */
export const rowWords = 41;
/** Places that are tried for a row before the search goes on behind them. */
const triesMax = 32;

export interface PackedDfa {
  readonly table: Int32Array;
  /** Base of the state where names start. */
  readonly root: number;
}

/** Packs `dfa`. Larger rows first; each at the first place that fits, within a bounded search. */
export function packDfa(dfa: Dfa): PackedDfa {
  const places = new Places(dfa.edgeCodes.length + dfa.stateCount * 2);
  const bases = new Int32Array(dfa.stateCount);
  const offsets = new Int32Array(rowWords);
  for (const state of statesByRowSize(dfa)) {
    bases[state] = places.take(offsets, rowOffsets(dfa, state, offsets));
  }
  let last = 0;
  for (const base of bases) if (base > last) last = base;
  assert(last + rowWords < 1 << 25, 'a base fits its bits');
  const table = new Int32Array(last + rowWords);
  for (let state = 0; state < dfa.stateCount; state++) writeRow(dfa, state, bases, table);
  return { table, root: bases[0]! };
}

/** The offsets that a state uses, ascending, in `offsets`; their number. */
function rowOffsets(dfa: Dfa, state: number, offsets: Int32Array): number {
  let count = 0;
  if (dfa.accept[state] !== 0) offsets[count++] = 0;
  const end = dfa.rowStarts[state + 1]!;
  for (let edge = dfa.rowStarts[state]!; edge < end; edge++) {
    offsets[count++] = dfa.edgeCodes[edge]!;
  }
  if (dfa.stay[state] !== stateNone) offsets[count++] = slotStay;
  return count;
}

function statesByRowSize(dfa: Dfa): number[] {
  const bySize: number[][] = Array.from({ length: rowWords + 1 }, () => []);
  const offsets = new Int32Array(rowWords);
  for (let state = 0; state < dfa.stateCount; state++) {
    bySize[rowOffsets(dfa, state, offsets)]!.push(state);
  }
  return bySize.reverse().flat();
}

function writeRow(dfa: Dfa, state: number, bases: Int32Array, table: Int32Array): void {
  const base = bases[state]!;
  const accept = dfa.accept[state]!;
  if (accept !== 0) table[base] = (accept << slotBits) | slotAccept;
  const end = dfa.rowStarts[state + 1]!;
  for (let edge = dfa.rowStarts[state]!; edge < end; edge++) {
    const code = dfa.edgeCodes[edge]!;
    const target = bases[dfa.edgeTargets[edge]!]!;
    table[base + code] = (target << slotBits) | code;
  }
  const stay = dfa.stay[state]!;
  if (stay !== stateNone) table[base + slotStay] = (bases[stay]! << slotBits) | slotStay;
}

/** Which words and which bases are taken. */
class Places {
  #words: Uint8Array;
  #bases: Uint8Array;
  /** Where the search for a row of each size begins: it never looks twice at what was crowded. */
  readonly #from = new Int32Array(rowWords + 1);

  constructor(wordsExpected: number) {
    this.#words = new Uint8Array(wordsExpected * 2 + rowWords);
    this.#bases = new Uint8Array(wordsExpected * 2 + rowWords);
  }

  /** Takes a base at which the first `count` of `offsets` are free. */
  take(offsets: Int32Array, count: number): number {
    const first = count === 0 ? 0 : offsets[0]!;
    let place = this.#from[count]!;
    for (let tries = 1; ; tries++, place++) {
      place = (count === 0 ? this.#bases : this.#words).indexOf(0, place);
      if (place < 0 || place + rowWords > this.#words.length) place = this.#grow(place);
      if (this.#fits(place - first, offsets, count)) break;
      if (tries % triesMax === 0) this.#from[count] = place;
    }
    const base = place - first;
    this.#bases[base] = 1;
    for (let i = 0; i < count; i++) this.#words[base + offsets[i]!] = 1;
    return base;
  }

  #fits(base: number, offsets: Int32Array, count: number): boolean {
    if (base < 0 || this.#bases[base] === 1) return false;
    for (let i = 0; i < count; i++) {
      if (this.#words[base + offsets[i]!] === 1) return false;
    }
    return true;
  }

  /** Doubles the room. The place where the search goes on. */
  #grow(place: number): number {
    const length = this.#words.length;
    const words = new Uint8Array(length * 2);
    const bases = new Uint8Array(length * 2);
    words.set(this.#words);
    bases.set(this.#bases);
    this.#words = words;
    this.#bases = bases;
    return place < 0 ? length : place;
  }
}
