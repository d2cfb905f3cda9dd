// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A small set of domains: does a name lie in one of them? Compared as labels on the wire, so that a
 * label which holds the octets of a suffix is not taken for it (threat T2). A lookup reads each suffix
 * at most once and allocates nothing.
 */

import { nameSuffixesMax } from '../limits.ts';
import { nameLengthAt } from './name.ts';
import type { QueryView } from './query.ts';

export class NameSuffixes {
  /** The suffixes in wire form, one after the other. */
  readonly #octets: Uint8Array;
  /** Where each begins; the last is where they end. */
  readonly #starts: readonly number[];

  /**
   * `names`: lower-case wire form (`nameFromText`). The root is left out, since every name lies in it,
   * and so is what is over `nameSuffixesMax`.
   */
  constructor(names: readonly Uint8Array[]) {
    const kept = names
      .filter((name) => name.length > 1 && nameLengthAt(name, 0, name.length) === name.length)
      .slice(0, nameSuffixesMax);
    const starts = [0];
    for (const name of kept) starts.push(starts.at(-1)! + name.length);
    this.#octets = new Uint8Array(starts.at(-1)!);
    kept.forEach((name, i) => this.#octets.set(name, starts[i]!));
    this.#starts = starts;
  }

  get size(): number {
    return this.#starts.length - 1;
  }

  /** Whether the name in `view` is one of the suffixes or lies below one. */
  matches(view: QueryView): boolean {
    const starts = this.#starts;
    for (let i = 0; i + 1 < starts.length; i++) {
      if (this.#holds(view, starts[i]!, starts[i + 1]!)) return true;
    }
    return false;
  }

  #holds(view: QueryView, start: number, end: number): boolean {
    const offset = view.nameLength - (end - start);
    if (offset < 0) return false;
    for (let i = start; i < end; i++) {
      if (view.name[offset + i - start] !== this.#octets[i]) return false;
    }
    // The octets may lie inside of a label: a label must begin where they do.
    for (let label = 0; label < view.labelCount; label++) {
      if (view.labelOffsets[label] === offset) return true;
    }
    return false;
  }
}
