// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The desired content of `classes`, as a value that does not change: the next one shares equal buckets
 * with it, so that making and comparing it costs as much as changed.
 */

import type { Prefix } from '../../net/ip.ts';
import { prefixKey } from '../../net/ip.ts';
import { textHash, wordHashNumbers } from '../../word-hash.ts';

/** One entry of `classes`. Sorted by address, then by prefix length; no two have one prefix. */
export interface ClassEntry {
  readonly prefix: Prefix;
  /** `classNone`, or a content-addressed id of 2 or more: the set of peer selectors that match. */
  readonly classId: number;
  /** `ClassFlag` bits, those of all enclosing prefixes included. */
  readonly flags: number;
}

const bucketCount = 1024;
/** A character for each octet of the address, and one for the length. */
const keyCharacters = 17;
const hashNumbers = wordHashNumbers(
  globalThis.crypto.getRandomValues(new Int32Array(1))[0]!,
  Math.ceil(keyCharacters / 2),
);

type Bucket = ReadonlyMap<string, ClassEntry>;
const emptyBucket: Bucket = new Map();

/** An entry that is there on one side alone, or on both with different values. */
export interface ClassChange {
  readonly before: ClassEntry | null;
  readonly after: ClassEntry | null;
}

export class ClassEntries implements Iterable<ClassEntry> {
  static readonly none: ClassEntries = new ClassEntries(
    Array.from({ length: bucketCount }, () => emptyBucket),
    0,
  );
  readonly #buckets: readonly Bucket[];
  readonly size: number;

  private constructor(buckets: readonly Bucket[], size: number) {
    this.#buckets = buckets;
    this.size = size;
  }

  /** With these entries, by `prefixKey`; null: without one. */
  with(changes: ReadonlyMap<string, ClassEntry | null>): ClassEntries {
    const changed = new Map<number, Map<string, ClassEntry>>();
    let size = this.size;
    for (const [key, entry] of changes) {
      const index = bucketOf(key);
      const bucket = changed.get(index) ?? (this.#buckets[index] as Bucket);
      const before = bucket.get(key);
      if (entry === null ? before === undefined : isSame(before, entry)) continue;
      let copy = changed.get(index);
      if (copy === undefined) changed.set(index, (copy = new Map(bucket)));
      if (before === undefined) size++;
      if (entry === null) {
        copy.delete(key);
        size--;
      } else copy.set(key, entry);
    }
    if (changed.size === 0) return this;
    const buckets = [...this.#buckets];
    for (const [index, bucket] of changed) buckets[index] = bucket;
    return new ClassEntries(buckets, size);
  }

  get(key: string): ClassEntry | undefined {
    return (this.#buckets[bucketOf(key)] as Bucket).get(key);
  }

  /** By address, then by prefix length. */
  *[Symbol.iterator](): Generator<ClassEntry, void, undefined> {
    const all = this.#buckets.flatMap((bucket) => [...bucket]);
    all.sort(([left], [right]) => (left < right ? -1 : 1));
    for (const [, entry] of all) yield entry;
  }

  /** In no certain order. */
  *changesSince(former: ClassEntries): Generator<ClassChange, void, undefined> {
    for (const [index, bucket] of this.#buckets.entries()) {
      const before = former.#buckets[index] as Bucket;
      if (bucket === before) continue;
      for (const [key, entry] of bucket) {
        const other = before.get(key);
        if (!isSame(other, entry)) yield { before: other ?? null, after: entry };
      }
      for (const [key, entry] of before) if (!bucket.has(key)) yield { before: entry, after: null };
    }
  }

  isEqual(other: ClassEntries): boolean {
    return this.size === other.size && this.changesSince(other).next().done === true;
  }

  static of(entries: Iterable<ClassEntry>): ClassEntries {
    const changes = new Map<string, ClassEntry>();
    for (const entry of entries) changes.set(prefixKey(entry.prefix), entry);
    return ClassEntries.none.with(changes);
  }
}

function isSame(left: ClassEntry | undefined, right: ClassEntry): boolean {
  return left?.classId === right.classId && left.flags === right.flags;
}

/**
 * Keyed, of each process: authors of policies choose prefixes, and a compilation that changes one of them copies its bucket.
 * Entries of one process alone are compared, so no other needs the key.
 */
function bucketOf(key: string): number {
  return textHash(hashNumbers, key) & (bucketCount - 1);
}
