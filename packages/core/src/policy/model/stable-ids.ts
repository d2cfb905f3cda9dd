// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Numbers for contents. An id is the first 31 bits of its content's digest, so that it is the same
 * after a restart, even one that lost this table, and in whatever order objects arrived. The table
 * decides the rare case of two contents with equal 31 bits (an attacker can make one): the later one
 * gets another number, and keeps it. It also remembers ids that are no longer in use, so that a
 * number does not soon mean something else: maps may still hold entries of the old meaning. It forgets the oldest of them over a
 * bound. From then on new contents of that kind get ids by a secret salt, so that no content can be made for a forgotten id.
 *
 * A table is a value: the next one shares equal buckets with it, so that a change costs as much as it changes,
 * and a compilation that was not applied leaves no trace.
 */

import { err, ok, type Result } from '../../result.ts';
import {
  type Bucket,
  emptyKind,
  forEachKind,
  type IdKind,
  idKinds,
  idMin,
  type Kind,
  KindDraft,
  type Kinds,
  rowOf,
  rowsOf,
  type StableIdRow,
} from './id-rows.ts';
import { selectorBit } from './kernel-numbers.ts';

/** The table as plain data, for JSON. */
export interface StableIdsData {
  readonly version: 1;
  readonly generation: number;
  readonly kinds: Readonly<Record<IdKind, readonly StableIdRow[]>>;
  /** Absent: an earlier version wrote it. */
  readonly forgotten?: Readonly<Record<IdKind, number>>;
}

export class StableIds {
  static readonly #none: StableIds = new StableIds(
    0,
    forEachKind(() => emptyKind),
    '',
  );
  readonly #generation: number;
  readonly #kinds: Kinds;
  readonly #salt: string;

  private constructor(generation: number, kinds: Kinds, salt: string) {
    this.#generation = generation;
    this.#kinds = kinds;
    this.#salt = salt;
  }

  /** `salt`: random, and another one in each process; '' for a table that needs no secret. */
  static empty(salt = ''): StableIds {
    if (salt === '') return StableIds.#none;
    return new StableIds(StableIds.#none.#generation, StableIds.#none.#kinds, salt);
  }

  /** Retired ids that were forgotten because the table is bounded; each could be given out again. */
  get forgotten(): number {
    return idKinds.reduce((sum, kind) => sum + this.#kinds[kind].forgotten, 0);
  }

  /** Begins the next generation. */
  change(): IdChange {
    const generation = this.#generation + 1;
    const drafts = forEachKind((kind) => new KindDraft(kind, this.#kinds[kind], this.#salt));
    return new IdChange(this, drafts, generation, (kinds) => {
      return new StableIds(generation, kinds, this.#salt);
    });
  }

  idOf(kind: IdKind, digest: string): number | undefined {
    return rowOf(this.#kinds[kind], digest)?.id;
  }

  /** Digests that are in use, by the table. */
  *inUse(kind: IdKind): Generator<string, void, undefined> {
    for (const [digest, { lastUsed }] of rowsOf(this.#kinds[kind])) {
      if (lastUsed === null) yield digest;
    }
  }

  /** The rows of this table that a former one does not have. */
  *newSince(former: StableIds): Generator<readonly [IdKind, StableIdRow], void, undefined> {
    for (const kind of idKinds) {
      const { buckets } = this.#kinds[kind];
      for (const [index, bucket] of buckets.entries()) {
        const before = former.#kinds[kind].buckets[index] as Bucket;
        if (bucket === before) continue;
        for (const [digest, { id, lastUsed }] of bucket) {
          if (before.get(digest)?.id === id) continue;
          yield [kind, [digest, id, lastUsed ?? this.#generation]];
        }
      }
    }
  }

  encode(): StableIdsData {
    const kinds = forEachKind((kind) =>
      Array.from(
        rowsOf(this.#kinds[kind]),
        ([digest, { id, lastUsed }]): StableIdRow => [digest, id, lastUsed ?? this.#generation],
      ).sort(([left], [right]) => (left < right ? -1 : 1)),
    );
    const forgotten = forEachKind((kind) => this.#kinds[kind].forgotten);
    return { version: 1, generation: this.#generation, kinds, forgotten };
  }

  /**
   * Reads what `encode` gave, after a round trip through JSON. Refuses anything else. Nothing of it is in use. `salt`: as of
   * `empty`; what has an id keeps it whatever the salt was.
   */
  static decode(data: unknown, salt = ''): Result<StableIds, string> {
    if (!isRecord(data) || data['version'] !== 1) return err('not version 1 of the id table');
    const { generation, kinds, forgotten = {} } = data;
    if (!isCount(generation)) return err('generation is not a count');
    if (!isRecord(kinds)) return err('kinds is not an object');
    if (!isRecord(forgotten)) return err('forgotten is not an object');
    const read: Partial<Record<IdKind, Kind>> = {};
    for (const kind of idKinds) {
      const rows: unknown = kinds[kind];
      if (!Array.isArray(rows)) return err(`kinds.${kind} is not a list`);
      const taken = new Set<number>();
      const { [kind]: count = 0 } = forgotten;
      if (!isCount(count)) return err(`forgotten.${kind} is not a count`);
      const draft = new KindDraft(kind, { ...emptyKind, forgotten: count }, '');
      for (const row of rows as readonly unknown[]) {
        if (!isRow(kind, row)) return err(`kinds.${kind} has a row that is none`);
        const [digest, id, lastUsed] = row;
        if (taken.has(id) || draft.get(digest) !== undefined) {
          return err(`kinds.${kind} repeats ${id}`);
        }
        if (lastUsed > generation) return err(`kinds.${kind} is newer than its table`);
        taken.add(id);
        draft.set(digest, { id, lastUsed });
      }
      read[kind] = draft.end();
    }
    return ok(new StableIds(generation, read as Kinds, salt));
  }

  /**
   * With rows that were added to it later, as `newSince` gave them, after a round trip through JSON. What is none, and what
   * contradicts the table, is left out.
   */
  withRows(rows: Iterable<readonly [unknown, unknown]>): StableIds {
    const drafts = forEachKind((kind) => new KindDraft(kind, this.#kinds[kind], ''));
    let generation = this.#generation;
    for (const [name, row] of rows) {
      const kind = idKinds.find((each) => each === name);
      if (kind === undefined || !isRow(kind, row)) continue;
      const [digest, id, lastUsed] = row;
      const draft = drafts[kind];
      if (draft.get(digest) !== undefined || draft.isTaken(id)) continue;
      draft.set(digest, { id, lastUsed });
      generation = Math.max(generation, lastUsed);
    }
    const kinds = forEachKind((kind) => drafts[kind].end());
    return new StableIds(generation, kinds, this.#salt);
  }
}

/** A generation of the table in the making. */
export class IdChange {
  readonly #from: StableIds;
  readonly #drafts: Record<IdKind, KindDraft>;
  readonly #generation: number;
  readonly #make: (kinds: Kinds) => StableIds;

  constructor(
    from: StableIds,
    drafts: Record<IdKind, KindDraft>,
    generation: number,
    make: (kinds: Kinds) => StableIds,
  ) {
    this.#from = from;
    this.#generation = generation;
    this.#make = make;
    this.#drafts = drafts;
  }

  /** Puts contents into use. Those that are new get ids that do not depend on the order in which they stand here. */
  use(kind: IdKind, digests: Iterable<string>): void {
    const draft = this.#drafts[kind];
    const news: string[] = [];
    for (const digest of digests) {
      const row = draft.get(digest);
      if (row === undefined) news.push(digest);
      else if (row.lastUsed !== null) draft.set(digest, { id: row.id, lastUsed: null });
    }
    for (const digest of news.sort()) {
      if (draft.get(digest) === undefined)
        draft.set(digest, { id: draft.freeId(digest), lastUsed: null });
    }
  }

  /** Takes contents out of use: their ids are remembered. */
  drop(kind: IdKind, digests: Iterable<string>): void {
    const draft = this.#drafts[kind];
    for (const digest of digests) {
      const row = draft.get(digest);
      if (row?.lastUsed !== null) continue;
      draft.set(digest, { id: row.id, lastUsed: this.#generation - 1 });
    }
  }

  idOf(kind: IdKind, digest: string): number | undefined {
    return this.#drafts[kind].get(digest)?.id;
  }

  /** The table of this generation; that of before when nothing came into use and nothing went out of it. */
  end(): StableIds {
    const drafts = Object.values(this.#drafts);
    if (!drafts.some(({ isChanged }) => isChanged)) return this.#from;
    for (const draft of drafts) draft.retire();
    return this.#make(forEachKind((kind) => this.#drafts[kind].end()));
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function isRow(kind: IdKind, row: unknown): row is StableIdRow {
  if (!Array.isArray(row) || row.length !== 3) return false;
  const [digest, id, lastUsed] = row as readonly unknown[];
  if (typeof digest !== 'string' || !/^[0-9a-f]{32}$/.test(digest)) return false;
  if (!isCount(id) || !isCount(lastUsed)) return false;
  const number = kind === 'selector' ? id - selectorBit : id;
  return number >= idMin && number <= 0x7fffffff;
}
