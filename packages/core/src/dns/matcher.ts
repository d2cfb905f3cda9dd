// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which of many patterns match a name: one pass over its octets, backwards, in a merged automaton,
 * whose cost does not grow with the number of patterns. The few patterns that the automaton has no
 * room for are simulated beside it; the answer is exact either way.
 *
 * An answer is the id of an accept set, 0 for no pattern. Ids below `stableSets` mean the same set for
 * as long as the matcher exists, so a caller may keep what it derives from one. The id `stableSets` itself is
 * the transient set, made of a stable set and simulated patterns: the next `match` overwrites it.
 */

import { assert } from '../assert.ts';
import type { Branded } from '../brand.ts';
import { codeDot } from './alphabet.ts';
import { slotAccept, slotBits, slotMask, slotStay } from './dfa-pack.ts';
import { GlobNfa, type GlobTables } from './glob-nfa.ts';
import type { QueryView } from './query.ts';

/** Number of a set of patterns that match one name, in one matcher. */
export type AcceptSet = Branded<'AcceptSet'>;

/** Sets of pattern indices: members[starts[id]] up to members[starts[id + 1]], ascending. */
export interface AcceptSets {
  readonly starts: Int32Array;
  readonly members: Int32Array;
}

/** Tables of a matcher; also the content of an image. */
export interface MatcherTables {
  /** Patterns that it was compiled from: their indices are below this. */
  readonly patternCount: number;
  /** The packed automaton (dfa-pack.ts) and the base of its first state. */
  readonly table: Int32Array;
  readonly root: number;
  readonly starts: Int32Array;
  readonly members: Int32Array;
  /** Set of a name of ordinary characters at which the automaton does not accept. */
  readonly plainSet: number;
  /** Set of a name with other octets. */
  readonly otherSet: number;
  readonly globs: GlobTables;
}

export class Matcher {
  readonly tables: MatcherTables;
  /** Stable ids are 0 up to this; this one is the transient set. */
  readonly stableSets: number;
  readonly acceptSets: AcceptSets;
  readonly #table: Int32Array;
  readonly #globs: GlobNfa;
  readonly #globCount: number;

  constructor(tables: MatcherTables) {
    this.tables = tables;
    this.stableSets = tables.starts.length - 1;
    this.#table = tables.table;
    this.#globs = new GlobNfa(tables.globs);
    this.#globCount = tables.globs.patterns.length;
    const stableMembers = tables.members.length;
    const starts = new Int32Array(this.stableSets + 2);
    starts.set(tables.starts);
    starts[this.stableSets + 1] = stableMembers;
    const members = new Int32Array(stableMembers + this.#transientMax());
    members.set(tables.members);
    this.acceptSets = { starts, members };
  }

  /** The accept set of the name in `view` (`parseQuery`, `loadName`). No allocation. */
  match(view: QueryView): AcceptSet {
    if (!view.isPlain) return this.tables.otherSet as AcceptSet;
    const set = this.#walk(view.codes, view.nameLength);
    return (this.#globCount === 0 ? set : this.#withGlobs(set, view)) as AcceptSet;
  }

  /** Whether `set` means the same patterns as long as this matcher exists. */
  isStable(set: number): boolean {
    return set < this.stableSets;
  }

  /** Whether pattern `index` is in `set`, by binary search. */
  has(set: number, index: number): boolean {
    const { starts, members } = this.acceptSets;
    let low = starts[set]!;
    let high = starts[set + 1]!;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (members[middle]! < index) low = middle + 1;
      else high = middle;
    }
    return low < starts[set + 1]! && members[low] === index;
  }

  /** Octets of the arrays that matching uses. */
  get byteLength(): number {
    const { globs } = this.tables;
    const words = this.acceptSets.starts.length + this.acceptSets.members.length;
    return 4 * (this.#table.length + words + globs.step.length + globs.stay.length);
  }

  #walk(codes: Uint8Array, nameLength: number): number {
    const table = this.#table;
    let base = this.tables.root;
    // The last octet is the root, octet 0 the length of the first label: neither is read.
    for (let i = nameLength - 2; i > 0; i--) {
      const code = codes[i]!;
      let entry = table[base + code]!;
      if ((entry & slotMask) === code) {
        base = entry >>> slotBits;
        continue;
      }
      entry = table[base + slotStay]!;
      if ((entry & slotMask) !== slotStay) return this.tables.plainSet;
      base = entry >>> slotBits;
      entry = table[base + code]!;
      if ((entry & slotMask) === code) base = entry >>> slotBits;
      else if (code === codeDot) return this.tables.plainSet;
    }
    const entry = table[base]!;
    return (entry & slotMask) === slotAccept ? entry >>> slotBits : this.tables.plainSet;
  }

  /** Merges the simulated patterns that match into the transient set, if there are any. */
  #withGlobs(set: number, view: QueryView): number {
    this.#globs.run(view.codes, view.nameLength);
    const { patterns } = this.tables.globs;
    const { starts, members } = this.acceptSets;
    let at = starts[set]!;
    const end = starts[set + 1]!;
    const first = starts[this.stableSets]!;
    let out = first;
    for (let index = 0; index < this.#globCount; index++) {
      if (!this.#globs.isMatch(index)) continue;
      const pattern = patterns[index]!;
      for (; at < end && members[at]! < pattern; at++) members[out++] = members[at]!;
      members[out++] = pattern;
    }
    if (out === first) return set;
    for (; at < end; at++) members[out++] = members[at]!;
    starts[this.stableSets + 1] = out;
    return this.stableSets;
  }

  /** Members that the transient set can have: the largest stable set and all simulated patterns. */
  #transientMax(): number {
    const { starts } = this.tables;
    let largest = 0;
    for (let id = 0; id < this.stableSets; id++) {
      largest = Math.max(largest, starts[id + 1]! - starts[id]!);
    }
    assert(starts[0] === 0, 'sets begin at 0');
    return largest + this.#globCount;
  }
}
