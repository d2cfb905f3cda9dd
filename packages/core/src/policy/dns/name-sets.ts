// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Sets of names that rules permit, for one policy. Rules choose how many servers there are, and how many names each may be asked
 * for, so equal sets are made once, and all together have a bound.
 */

import type { Pattern } from '../../dns/pattern.ts';
import { dnsNamesPerPolicyMax } from '../../limits.ts';
import type { DnsNames } from '../model/rule.ts';

/** Names that may be asked. `patterns` by text, empty if `matchAll`. */
export interface NameSet {
  readonly matchAll: boolean;
  readonly patterns: ReadonlyMap<string, Pattern>;
}

/** No name: every query is refused. */
export const noNames: NameSet = { matchAll: false, patterns: new Map() };
/** Every name. */
export const allNames: NameSet = { matchAll: true, patterns: new Map() };

const contents = new WeakMap<NameSet, string>();

/** Canonical text of a set of names. */
export function namesContent(names: NameSet): string {
  let content = contents.get(names);
  if (content === undefined) {
    content = names.matchAll ? '*' : JSON.stringify([...names.patterns.keys()].sort());
    contents.set(names, content);
  }
  return content;
}

export class NameSets {
  /** By what they are made of. */
  readonly #sets = new Map<string, NameSet>();
  /** Numbers of the parts of sets. */
  readonly #numbers = new Map<DnsNames | NameSet, number>();
  readonly #max: number;
  #names = 0;
  #isFull = false;

  /** `max`: names of all sets together, where there are several. */
  constructor(max: number = dnsNamesPerPolicyMax) {
    this.#max = max;
  }

  /** There was no room for one of the sets: it has no name, so none of them is to be used. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Names that any of these permits. */
  union(lists: readonly DnsNames[]): NameSet {
    if (lists.some(({ matchAll }) => matchAll)) return allNames;
    return this.#set('any', lists, () =>
      lists.flatMap(({ patterns }) => patterns.map((pattern) => [pattern.text, pattern] as const)),
    );
  }

  /** Names that either permits. */
  unite(left: NameSet, right: NameSet): NameSet {
    if (left.matchAll || right.matchAll) return allNames;
    if (left === right) return left;
    return this.#set('either', [left, right], () => [...left.patterns, ...right.patterns]);
  }

  /** Names that both permit, as far as equal patterns show: never more than either permits. */
  intersect(left: NameSet, right: NameSet): NameSet {
    if (left.matchAll || left === right) return right;
    if (right.matchAll) return left;
    return this.#set('both', [left, right], () =>
      [...left.patterns].filter(([text]) => right.patterns.has(text)),
    );
  }

  #set(
    how: string,
    parts: readonly (DnsNames | NameSet)[],
    patterns: () => readonly (readonly [string, Pattern])[],
  ): NameSet {
    if (this.#isFull) return noNames;
    const key = `${how} ${parts.map((part) => this.#numberOf(part)).join(' ')}`;
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    const made: NameSet = { matchAll: false, patterns: new Map(patterns()) };
    this.#names += made.patterns.size + 1;
    // One set may be as large as its rules are.
    this.#isFull = this.#names > this.#max && this.#sets.size > 0;
    if (this.#isFull) return noNames;
    this.#sets.set(key, made);
    return made;
  }

  #numberOf(part: DnsNames | NameSet): number {
    let number = this.#numbers.get(part);
    if (number === undefined) this.#numbers.set(part, (number = this.#numbers.size));
    return number;
  }
}
