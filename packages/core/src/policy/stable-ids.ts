// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Numbers for contents. An id is the first 31 bits of its content's digest, so that it is the same
 * after a restart, even one that lost this table, and in whatever order objects arrived. The table
 * decides the rare case of two contents with equal 31 bits (an attacker can make one): the later one
 * gets another number, and keeps it. It also remembers ids that are no longer in use, so that a
 * number does not soon mean something else: maps may still hold entries of the old meaning.
 */
import { idsRetiredMax, selectorIdsRetiredMax } from '../limits.ts';
import { err, ok, type Result } from '../result.ts';
import { digest128 } from '../sha256.ts';
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

/** [digest of the content, id, generation of last use] */
export type StableIdRow = readonly [digest: string, id: number, lastUsed: number];

/** The table as plain data, for JSON. */
export interface StableIdsData {
  readonly version: 1;
  readonly generation: number;
  readonly kinds: Readonly<Record<IdKind, readonly StableIdRow[]>>;
}

interface Assigned {
  readonly id: number;
  lastUsed: number;
}

/** 0 means "none" for every kind, 1 is `classNone`. */
const idMin = 2;

export class StableIds {
  #generation: number;
  readonly #assigned: Record<IdKind, Map<string, Assigned>>;
  readonly #taken: Record<IdKind, Set<number>>;
  /** Retired ids that were forgotten because the table is bounded; each could be given out again. */
  forgotten = 0;

  private constructor(generation: number, assigned: Record<IdKind, Map<string, Assigned>>) {
    this.#generation = generation;
    this.#assigned = assigned;
    this.#taken = forEachKind((kind) => new Set([...assigned[kind].values()].map(({ id }) => id)));
  }

  static empty(): StableIds {
    return new StableIds(
      0,
      forEachKind(() => new Map()),
    );
  }

  /** Compilation works on a copy: a result that is not applied leaves no trace. */
  clone(): StableIds {
    const copy = forEachKind(
      (kind) => new Map([...this.#assigned[kind]].map(([digest, row]) => [digest, { ...row }])),
    );
    const clone = new StableIds(this.#generation, copy);
    clone.forgotten = this.forgotten;
    return clone;
  }

  /** Starts a generation: what is not asked for until `retire` counts as out of use. */
  begin(): void {
    this.#generation++;
  }

  /** The id of one content. Prefer `assign` where several new contents can meet in one generation. */
  id(kind: IdKind, content: string): number {
    return this.#idOfDigest(kind, digest128(content));
  }

  /** Ids of many contents; the result does not depend on their order. */
  assign(
    kind: IdKind,
    contents: Iterable<string>,
    digestOf: (content: string) => string = digest128,
  ): Map<string, number> {
    const digests = [...contents].map((content) => [content, digestOf(content)] as const);
    const byDigest = this.assignDigests(
      kind,
      digests.map(([, digest]) => digest),
    );
    return new Map(digests.map(([content, digest]) => [content, byDigest.get(digest) as number]));
  }

  /** As `assign`, of contents whose digests are known. */
  assignDigests(kind: IdKind, digests: readonly string[]): Map<string, number> {
    const ids = new Map<string, number>();
    const news: string[] = [];
    for (const digest of digests) {
      if (this.#assigned[kind].has(digest)) ids.set(digest, this.#idOfDigest(kind, digest));
      else news.push(digest);
    }
    for (const digest of news.sort()) ids.set(digest, this.#idOfDigest(kind, digest));
    return ids;
  }

  /** Forgets the ids longest out of use beyond the limits, never one of this generation. */
  retire(): void {
    for (const kind of idKinds) {
      const retiredMax = kind === 'selector' ? selectorIdsRetiredMax : idsRetiredMax;
      const retired = [...this.#assigned[kind]].filter(
        ([, row]) => row.lastUsed !== this.#generation,
      );
      if (retired.length <= retiredMax) continue;
      retired.sort(
        ([leftDigest, left], [rightDigest, right]) =>
          left.lastUsed - right.lastUsed || (leftDigest < rightDigest ? -1 : 1),
      );
      for (const [digest, { id }] of retired.slice(0, retired.length - retiredMax)) {
        this.#assigned[kind].delete(digest);
        this.#taken[kind].delete(id);
        this.forgotten++;
      }
    }
  }

  encode(): StableIdsData {
    const kinds = forEachKind((kind) =>
      [...this.#assigned[kind]]
        .map(([digest, { id, lastUsed }]): StableIdRow => [digest, id, lastUsed])
        .sort(([left], [right]) => (left < right ? -1 : 1)),
    );
    return { version: 1, generation: this.#generation, kinds };
  }

  /** Reads what `encode` gave, after a round trip through JSON. Refuses anything else. */
  static decode(data: unknown): Result<StableIds, string> {
    if (!isRecord(data) || data['version'] !== 1) return err('not version 1 of the id table');
    const { generation, kinds } = data;
    if (!isCount(generation)) return err('generation is not a count');
    if (!isRecord(kinds)) return err('kinds is not an object');
    const assigned = forEachKind(() => new Map<string, Assigned>());
    for (const kind of idKinds) {
      const rows: unknown = kinds[kind];
      if (!Array.isArray(rows)) return err(`kinds.${kind} is not a list`);
      const taken = new Set<number>();
      for (const row of rows as readonly unknown[]) {
        if (!isRow(kind, row)) return err(`kinds.${kind} has a row that is none`);
        const [digest, id, lastUsed] = row;
        if (taken.has(id) || assigned[kind].has(digest)) return err(`kinds.${kind} repeats ${id}`);
        if (lastUsed > generation) return err(`kinds.${kind} is newer than its table`);
        taken.add(id);
        assigned[kind].set(digest, { id, lastUsed });
      }
    }
    return ok(new StableIds(generation, assigned));
  }

  #idOfDigest(kind: IdKind, digest: string): number {
    const known = this.#assigned[kind].get(digest);
    if (known !== undefined) {
      known.lastUsed = this.#generation;
      return known.id;
    }
    let candidate = digest;
    let id = idOfText(kind, candidate);
    while (id === null || this.#taken[kind].has(id)) {
      candidate = digest128(candidate);
      id = idOfText(kind, candidate);
    }
    this.#assigned[kind].set(digest, { id, lastUsed: this.#generation });
    this.#taken[kind].add(id);
    return id;
  }
}

/** The id that a digest stands for when nothing else has it; null for the reserved numbers. */
function idOfText(kind: IdKind, digest: string): number | null {
  const number = Number.parseInt(digest.slice(0, 8), 16) & 0x7fffffff;
  if (number < idMin) return null;
  return kind === 'selector' ? (number | selectorBit) >>> 0 : number;
}

function forEachKind<T>(make: (kind: IdKind) => T): Record<IdKind, T> {
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
