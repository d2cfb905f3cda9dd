// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A map that can say what changed, so that who keeps something by its entries need not look through all of them. It
 * remembers a bounded number of changes; who asks later than that compares everything.
 */

import { changesKeptMax } from './limits.ts';

export class ChangeMap<V> extends Map<string, V> {
  #log: string[] = [];
  /** Version before the first change of the log. */
  #start = 0;

  /** Grows with each change. */
  get version(): number {
    return this.#start + this.#log.length;
  }

  override set(key: string, value: V): this {
    this.#note(key);
    return super.set(key, value);
  }

  override delete(key: string): boolean {
    const wasThere = super.delete(key);
    if (wasThere) this.#note(key);
    return wasThere;
  }

  override clear(): void {
    this.#start = this.version + 1;
    this.#log = [];
    super.clear();
  }

  /** Keys that were set or deleted since that version; null: that is no longer known. */
  changedSince(version: number): ReadonlySet<string> | null {
    if (version < this.#start || version > this.version) return null;
    return new Set(this.#log.slice(version - this.#start));
  }

  #note(key: string): void {
    if (this.#log.length >= changesKeptMax) {
      const dropped = changesKeptMax >> 1;
      this.#log.splice(0, dropped);
      this.#start += dropped;
    }
    this.#log.push(key);
  }
}

/** State of a follower: the map as it saw it last. */
export interface KnownValues<V> {
  readonly size: number;
  get(key: string): V | undefined;
  keys(): Iterable<string>;
  set(key: string, value: V): void;
  delete(key: string): void;
}

/**
 * Follows one map after the other: each call gives the keys whose values are others than at the call before, and what these
 * were. Values are compared by identity, so objects that did not change must be the same.
 */
export class MapFollower<V> {
  #map: ReadonlyMap<string, V> | null = null;
  #version = 0;
  readonly #known: KnownValues<V>;

  /** `known`: where the caller keeps the values anyway, and has those of the last call when the next one comes. */
  constructor(known: KnownValues<V> = new Map<string, V>()) {
    this.#known = known;
  }

  follow(map: ReadonlyMap<string, V>): ReadonlyMap<string, V | undefined> {
    const noted =
      map === this.#map && map instanceof ChangeMap ? map.changedSince(this.#version) : null;
    this.#map = map;
    this.#version = map instanceof ChangeMap ? map.version : 0;
    const former = new Map<string, V | undefined>();
    for (const key of noted ?? this.#compare(map)) {
      const value = map.get(key);
      const known = this.#known.get(key);
      if (value === known) continue;
      former.set(key, known);
      if (value === undefined) this.#known.delete(key);
      else this.#known.set(key, value);
    }
    return former;
  }

  #compare(map: ReadonlyMap<string, V>): ReadonlySet<string> {
    const changed = new Set<string>();
    let kept = 0;
    for (const [key, value] of map) {
      const known = this.#known.get(key);
      if (known !== value) changed.add(key);
      if (known !== undefined) kept++;
    }
    if (kept < this.#known.size) {
      for (const key of this.#known.keys()) if (!map.has(key)) changed.add(key);
    }
    return changed;
  }
}
