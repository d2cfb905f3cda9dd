// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Rows of a table of ids, kind by kind, in buckets that tables share, and how the next table's are made. */

import type { EndpointId, NamespaceId, PolicyId } from '../../ids.ts';
import { idsRetiredMax, selectorIdsRetiredMax } from '../../limits.ts';
import { digest128 } from '../../sha256.ts';
import { selectorBit } from './kernel-numbers.ts';

export const idKinds = [
  'endpoint',
  'namespace',
  'class',
  'policy',
  'selector',
  'ruleSet',
  'rule',
] as const;
export type IdKind = (typeof idKinds)[number];

/** Types of the numbers, by kind. A table holds plain numbers; `IdSession` gives them as these. */
interface Ids extends Readonly<Record<IdKind, number>> {
  readonly endpoint: EndpointId;
  readonly namespace: NamespaceId;
  readonly policy: PolicyId;
}
export type IdOf<Name extends IdKind> = Ids[Name];

/** [digest of the content, id, generation of last use]. An id in use has the table's own. */
export type StableIdRow = readonly [digest: string, id: number, lastUsed: number];

export interface Row {
  readonly id: number;
  /** Generation; null: it is in use. */
  readonly lastUsed: number | null;
}

export type Bucket = ReadonlyMap<string, Row>;

/** Ids of one kind. */
export interface Kind {
  /** Rows by digest, in the bucket of the number that the digest begins with. */
  readonly buckets: readonly Bucket[];
  /** Ids that are not those of their digests, and these. */
  readonly strays: ReadonlyMap<number, string>;
  /** Rows out of use. */
  readonly retired: number;
  /** Rows that were out of use and are not remembered any more. */
  readonly forgotten: number;
}

export type Kinds = Readonly<Record<IdKind, Kind>>;

/** 0 means "none" for every kind, 1 is `classNone`. */
export const idMin = 2;
const bucketCount = 256;
const emptyBucket: Bucket = new Map();
export const emptyKind: Kind = {
  buckets: Array.from({ length: bucketCount }, () => emptyBucket),
  strays: new Map(),
  retired: 0,
  forgotten: 0,
};

/** Draft of one kind. A bucket is copied when it is first written to. */
export class KindDraft {
  readonly #kind: IdKind;
  readonly #from: Kind;
  readonly #copies = new Map<number, Map<string, Row>>();
  #strays: Map<number, string> | null = null;
  #retired: number;
  #forgotten: number;
  readonly #salt: string;

  /** `salt`: for the ids of a kind of which some were forgotten; '' for none. */
  constructor(kind: IdKind, from: Kind, salt: string) {
    this.#kind = kind;
    this.#from = from;
    this.#retired = from.retired;
    this.#forgotten = from.forgotten;
    this.#salt = salt;
  }

  get isChanged(): boolean {
    return this.#copies.size > 0;
  }

  get(digest: string): Row | undefined {
    return this.#bucket(bucketOf(numberOf(digest))).get(digest);
  }

  set(digest: string, row: Row): void {
    const bucket = this.#copy(digest);
    const former = bucket.get(digest);
    if (former !== undefined && former.lastUsed !== null) this.#retired--;
    if (row.lastUsed !== null) this.#retired++;
    bucket.set(digest, row);
    if (former === undefined && row.id !== ownId(this.#kind, digest)) {
      this.#strays ??= new Map(this.#from.strays);
      this.#strays.set(row.id, digest);
    }
  }

  isTaken(id: number): boolean {
    if ((this.#strays ?? this.#from.strays).has(id)) return true;
    for (const row of this.#bucket(bucketOf(id)).values()) if (row.id === id) return true;
    return false;
  }

  /**
   * The id that the digest stands for, or, where that is taken, a number that follows from it. Of a kind of which ids were
   * forgotten a number that follows from the salt too: the maps may hold entries of a forgotten id, and who chooses contents
   * must not choose which one of these others get.
   */
  freeId(digest: string): number {
    const isSalted = this.#forgotten > 0 && this.#salt !== '';
    let candidate = isSalted ? digest128(`${this.#salt} ${digest}`) : digest;
    let id = ownId(this.#kind, candidate);
    while (id === null || this.isTaken(id)) {
      candidate = digest128(candidate);
      id = ownId(this.#kind, candidate);
    }
    return id;
  }

  /**
   * Forgets those longest out of use when they are over the limit, and an eighth of it more, so that not every generation
   * has to look for them; never one that is in use.
   */
  retire(): void {
    const max = this.#kind === 'selector' ? selectorIdsRetiredMax : idsRetiredMax;
    if (this.#retired <= max) return;
    const retired: (readonly [string, number])[] = [];
    for (const [digest, { lastUsed }] of rowsOf(this.#view())) {
      if (lastUsed !== null) retired.push([digest, lastUsed]);
    }
    retired.sort(
      ([leftDigest, left], [rightDigest, right]) =>
        left - right || (leftDigest < rightDigest ? -1 : 1),
    );
    const surplus = retired.slice(0, retired.length - (max - (max >> 3)));
    for (const [digest] of surplus) this.#delete(digest);
    this.#forgotten += surplus.length;
  }

  end(): Kind {
    return this.isChanged ? this.#view() : this.#from;
  }

  #view(): Kind {
    const buckets = [...this.#from.buckets];
    for (const [index, bucket] of this.#copies) buckets[index] = bucket;
    return {
      ...{ buckets, strays: this.#strays ?? this.#from.strays },
      ...{ retired: this.#retired, forgotten: this.#forgotten },
    };
  }

  #delete(digest: string): void {
    const bucket = this.#copy(digest);
    const row = bucket.get(digest);
    if (row === undefined) return;
    bucket.delete(digest);
    if (row.lastUsed !== null) this.#retired--;
    if (row.id === ownId(this.#kind, digest)) return;
    this.#strays ??= new Map(this.#from.strays);
    this.#strays.delete(row.id);
  }

  #bucket(index: number): Bucket {
    return this.#copies.get(index) ?? (this.#from.buckets[index] as Bucket);
  }

  #copy(digest: string): Map<string, Row> {
    const index = bucketOf(numberOf(digest));
    let copy = this.#copies.get(index);
    if (copy === undefined) {
      this.#copies.set(index, (copy = new Map(this.#from.buckets[index] as Bucket)));
    }
    return copy;
  }
}

export function rowOf({ buckets }: Kind, digest: string): Row | undefined {
  return (buckets[bucketOf(numberOf(digest))] as Bucket).get(digest);
}

export function* rowsOf({ buckets }: Kind): Generator<[string, Row], void, undefined> {
  for (const bucket of buckets) yield* bucket;
}

function numberOf(digest: string): number {
  return Number.parseInt(digest.slice(0, 8), 16) & 0x7fffffff;
}

function bucketOf(number: number): number {
  return number & (bucketCount - 1);
}

/** The id that a digest stands for when nothing else has it; null for the reserved numbers. */
function ownId(kind: IdKind, digest: string): number | null {
  const number = numberOf(digest);
  if (number < idMin) return null;
  return kind === 'selector' ? (number | selectorBit) >>> 0 : number;
}

export function forEachKind<T>(make: (kind: IdKind) => T): Record<IdKind, T> {
  return {
    endpoint: make('endpoint'),
    namespace: make('namespace'),
    class: make('class'),
    policy: make('policy'),
    selector: make('selector'),
    ruleSet: make('ruleSet'),
    rule: make('rule'),
  };
}
