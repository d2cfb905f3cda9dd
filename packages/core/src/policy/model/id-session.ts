// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Stable ids through compilations. An owner of an id takes it once and releases it once; while no id is
 * taken or released, the former table is the present one.
 */

import { assert } from '../../assert.ts';
import { forEachKind, type IdKind, type IdOf, idKinds } from './id-rows.ts';
import type { IdChange, StableIds } from './stable-ids.ts';

/** Ids of one kind in use. */
interface Uses {
  /** How many use a digest. */
  readonly counts: Map<string, number>;
  /** Digests that came into use or went out of it since ids were last given. */
  readonly moved: Set<string>;
}

export class IdSession {
  /** The table that the last compilation ended with. */
  #last: StableIds | null = null;
  #previous: StableIds | null = null;
  #change: IdChange | null = null;
  readonly #uses: Readonly<Record<IdKind, Uses>> = forEachKind(() => ({
    counts: new Map(),
    moved: new Set(),
  }));

  /** `previous`: the table that this compilation goes on from. */
  begin(previous: StableIds): void {
    this.#previous = previous;
    this.#change = null;
    if (this.isContinued) return;
    // Another table may have other ids for what is in use.
    for (const kind of idKinds) {
      const { counts, moved } = this.#uses[kind];
      for (const digest of counts.keys()) moved.add(digest);
      for (const digest of previous.inUse(kind)) moved.add(digest);
    }
  }

  reset(): void {
    this.#last = null;
    for (const { counts, moved } of Object.values(this.#uses)) {
      counts.clear();
      moved.clear();
    }
  }

  /** False: ids that were given before may not hold, all are to be asked for again. */
  get isContinued(): boolean {
    return this.#previous === this.#last;
  }

  /** Each call is undone by one of `release`. */
  use(kind: IdKind, digest: string): void {
    const { counts, moved } = this.#uses[kind];
    const count = counts.get(digest) ?? 0;
    counts.set(digest, count + 1);
    if (count === 0) moved.add(digest);
  }

  release(kind: IdKind, digest: string): void {
    const { counts, moved } = this.#uses[kind];
    const count = counts.get(digest) ?? 0;
    assert(count > 0, 'what is released was in use');
    if (count > 1) counts.set(digest, count - 1);
    else {
      counts.delete(digest);
      moved.add(digest);
    }
  }

  /** Gives ids to all of a kind that is in use: once a compilation, so that they depend on no order. */
  settle(kind: IdKind): void {
    const { counts, moved } = this.#uses[kind];
    if (moved.size === 0) return;
    const used: string[] = [];
    const dropped: string[] = [];
    for (const digest of moved) (counts.has(digest) ? used : dropped).push(digest);
    moved.clear();
    this.#change ??= (this.#previous as StableIds).change();
    this.#change.use(kind, used);
    this.#change.drop(kind, dropped);
  }

  /** Id of a digest in use, once the ids are settled. */
  idOf<Kind extends IdKind>(kind: Kind, digest: string): IdOf<Kind> {
    const id = (this.#change ?? this.#previous)?.idOf(kind, digest);
    assert(id !== undefined, 'what has an id is in use');
    return id as IdOf<Kind>;
  }

  /** The table after this compilation. */
  end(): StableIds {
    for (const kind of idKinds) this.settle(kind);
    this.#last = this.#change?.end() ?? (this.#previous as StableIds);
    return this.#last;
  }
}
