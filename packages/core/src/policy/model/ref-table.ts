// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { assert } from '../../assert.ts';

/** Values by key, each kept while it has users. All users of one key mean the same value. */
export class RefTable<Key, Value> {
  readonly #entries = new Map<Key, { readonly value: Value; users: number }>();
  #isMoved = false;

  has(key: Key): boolean {
    return this.#entries.has(key);
  }

  /** Returns whether it came. */
  use(key: Key, value: Value): boolean {
    const entry = this.#entries.get(key);
    if (entry !== undefined) {
      entry.users++;
      return false;
    }
    this.#entries.set(key, { value, users: 1 });
    this.#isMoved = true;
    return true;
  }

  /** Undoes one `use`; returns what went with it. */
  release(key: Key): Value | null {
    const entry = this.#entries.get(key);
    assert(entry !== undefined, 'what is released was in use');
    entry.users--;
    if (entry.users > 0) return null;
    this.#entries.delete(key);
    this.#isMoved = true;
    return entry.value;
  }

  /** Whether anything came or went since the last call. */
  takeMoved(): boolean {
    const isMoved = this.#isMoved;
    this.#isMoved = false;
    return isMoved;
  }

  *entries(): Generator<readonly [Key, Value], void, undefined> {
    for (const [key, { value }] of this.#entries) yield [key, value];
  }

  *values(): Generator<Value, void, undefined> {
    for (const { value } of this.#entries.values()) yield value;
  }
}
