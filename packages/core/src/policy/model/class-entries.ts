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

/** A change copies the buckets of what it touches, and one array of them all: at 100,000 addresses a bucket has some 14 entries. */
const bucketCount = 8192;
/** A character for each octet of the address, and one for the length. */
const keyCharacters = 17;
const hashNumbers = wordHashNumbers(
  globalThis.crypto.getRandomValues(new Int32Array(1))[0]!,
  Math.ceil(keyCharacters / 2),
);

type Bucket = ReadonlyMap<string, ClassEntry>;
const emptyBucket: Bucket = new Map();

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
      if (copy === undefined) changed.set(index, (copy = copyOf(bucket)));
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

  /**
   * Visits each entry that is there on one side alone (null: on the other), or on both with different values; in no certain order.
   * No iterators: they would allocate for each entry of a changed bucket.
   */
  forEachChange(
    former: ClassEntries,
    visit: (before: ClassEntry | null, after: ClassEntry | null) => void,
  ): void {
    for (let index = 0; index < bucketCount; index++) {
      const bucket = this.#buckets[index] as Bucket;
      const before = former.#buckets[index] as Bucket;
      if (bucket === before) continue;
      bucket.forEach((entry, key) => {
        const other = before.get(key);
        if (!isSame(other, entry)) visit(other ?? null, entry);
      });
      before.forEach((entry, key) => {
        if (!bucket.has(key)) visit(entry, null);
      });
    }
  }

  isEqual(other: ClassEntries): boolean {
    let changes = 0;
    if (this.size === other.size) this.forEachChange(other, () => changes++);
    return this.size === other.size && changes === 0;
  }

  static of(entries: Iterable<ClassEntry>): ClassEntries {
    const changes = new Map<string, ClassEntry>();
    for (const entry of entries) changes.set(prefixKey(entry.prefix), entry);
    return ClassEntries.none.with(changes);
  }
}

function copyOf(bucket: Bucket): Map<string, ClassEntry> {
  const copy = new Map<string, ClassEntry>();
  bucket.forEach((entry, key) => copy.set(key, entry));
  return copy;
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
