// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Brings a map to its desired content with the fewest writes: equal entries are not written. Adding and
 * pruning are separate, because a change of policy is safe only in a certain order of both among all maps.
 *
 * The map is read once. After that the writes of this process give its content, because the agent is the only
 * writer of its maps (it holds the index). `compare` finds changes of others, a slice at a time.
 */

import { BpfError } from '@tandem/bpf-loader-node/errors';
import { BatchCursor, type BpfMap } from '@tandem/bpf-loader-node/map';
import type { Entry } from './encode.ts';
import { KnownEntries, keyBytes, keyText } from './known-entries.ts';

export interface ReconcileResult {
  readonly written: number;
  readonly removed: number;
}

const entriesPerBatch = 1024;
/** Largest number of a pass; the numbers then begin again. An entry that no pass has seen has none of them. */
const passesMax = 255;

export class MirroredMap {
  readonly #map: BpfMap;
  /** Null: the map is to be read. */
  #known: KnownEntries | null = null;
  /** Null: the next slice is the first of a pass through the whole map. */
  #cursor: BatchCursor | null = null;
  #pass = 1;
  /** Entries that this pass has read, some perhaps twice. */
  #read = 0;

  constructor(map: BpfMap) {
    this.#map = map;
  }

  /** Entries of the map. */
  entries(): Iterable<[key: Uint8Array, value: Uint8Array]> {
    return this.#content().entries();
  }

  /** Whether the map holds at most `capacity` entries with those of `desired` beside its own. */
  fits(desired: readonly Entry[], capacity: number): boolean {
    const known = this.#content();
    if (known.size + desired.length <= capacity) return true;
    const added = new Set<string>();
    for (const { key } of desired) {
      const text = keyText(key);
      if (!known.has(text)) added.add(text);
    }
    return known.size + added.size <= capacity;
  }

  /** Whether the map holds anything else than `desired`. */
  differs(desired: Iterable<Entry>): boolean {
    const known = this.#content();
    const wanted = new Map<string, Uint8Array>();
    for (const { key, value } of desired) wanted.set(keyText(key), value);
    if (wanted.size !== known.size) return true;
    for (const [key, value] of wanted) if (!known.holds(key, value)) return true;
    return false;
  }

  /** Adds and changes entries; removes nothing. Later entries of one key win. */
  add(desired: Iterable<Entry>): ReconcileResult {
    const known = this.#content();
    const changed: Entry[] = [];
    for (const entry of desired) {
      if (!known.holds(keyText(entry.key), entry.value)) changed.push(entry);
    }
    this.#write(known, changed);
    return { written: changed.length, removed: 0 };
  }

  /** Removes entries that are not desired; adds nothing. */
  prune(desired: Iterable<Entry>): ReconcileResult {
    const known = this.#content();
    const wanted = new Set<string>();
    for (const { key } of desired) wanted.add(keyText(key));
    let removed = 0;
    const surplus = [...known.keys()].filter((key) => !wanted.has(key));
    for (const key of surplus) {
      if (this.#map.delete(keyBytes(key))) removed += 1;
      known.delete(key);
    }
    return { written: 0, removed };
  }

  /** Removes these entries, whatever values they have. */
  remove(entries: Iterable<Entry>): ReconcileResult {
    const known = this.#content();
    let removed = 0;
    for (const { key } of entries) {
      const text = keyText(key);
      if (!known.has(text)) continue;
      if (this.#map.delete(key)) removed += 1;
      known.delete(text);
    }
    return { written: 0, removed };
  }

  /**
   * Compares at least `count` entries of the map with what was written, in whole batches, for a hash refuses a batch
   * that its next bucket does not fit; the next call goes on from there. True: another process changed them; the content of the map is known again. After the last entry
   * it looks for those that are gone: one that is removed is found in this pass or the next.
   */
  compare(count: number): boolean {
    if (this.#known === null) {
      this.#content();
      return true;
    }
    const known = this.#known;
    const cursor = this.#cursor ?? this.#begin();
    const capacity = Math.min(count, entriesPerBatch, this.#map.maxEntries);
    const keys = new Uint8Array(capacity * this.#map.keySize);
    const values = new Uint8Array(capacity * this.#map.valueBytes);
    let isChanged = false;
    for (let left = count; left > 0 && !cursor.isDone; ) {
      const read = this.#map.lookupBatch(cursor, keys, values, capacity);
      if (this.#note(known, keys, values, read)) isChanged = true;
      left -= read;
      this.#read += read;
    }
    // A walk through a trie begins again where the entry it stands on was removed.
    if (!cursor.isDone && this.#read <= 2 * known.size + entriesPerBatch) return isChanged;
    this.#cursor = null;
    return this.#noteGone(known) || isChanged;
  }

  #begin(): BatchCursor {
    this.#pass = (this.#pass % passesMax) + 1;
    this.#read = 0;
    this.#cursor = new BatchCursor(this.#map.keySize);
    return this.#cursor;
  }

  #note(known: KnownEntries, keys: Uint8Array, values: Uint8Array, count: number): boolean {
    const { keySize, valueBytes } = this.#map;
    let isChanged = false;
    for (let i = 0; i < count; i++) {
      const key = keyText(keys.subarray(i * keySize, (i + 1) * keySize));
      const value = values.subarray(i * valueBytes, (i + 1) * valueBytes);
      if (known.holds(key, value)) known.see(key, this.#pass);
      else {
        known.set(key, value, this.#pass);
        isChanged = true;
      }
    }
    return isChanged;
  }

  #noteGone(known: KnownEntries): boolean {
    let isChanged = false;
    for (const key of known.unseen(this.#pass)) {
      const value = this.#map.lookup(keyBytes(key));
      // Read already before the pass came to it. A trie may answer with what covers the key, which says the same.
      if (value !== null && known.holds(key, value)) continue;
      known.delete(key);
      isChanged = true;
    }
    return isChanged;
  }

  #content(): KnownEntries {
    if (this.#known !== null) return this.#known;
    const known = new KnownEntries(this.#map.valueBytes);
    for (const [key, value] of this.#map.entries()) known.set(keyText(key), value, this.#pass);
    this.#known = known;
    this.#cursor = null;
    return known;
  }

  #write(known: KnownEntries, entries: readonly Entry[]): void {
    if (entries.length === 0) return;
    const { keySize, valueBytes } = this.#map;
    const keys = new Uint8Array(entries.length * keySize);
    const values = new Uint8Array(entries.length * valueBytes);
    entries.forEach((entry, i) => {
      keys.set(entry.key, i * keySize);
      values.set(entry.value, i * valueBytes);
    });
    let written = entries.length;
    try {
      this.#map.updateBatch(keys, values, entries.length);
    } catch (error) {
      const completed = error instanceof BpfError ? error.completed : undefined;
      if (completed === undefined) this.#known = null;
      written = completed ?? 0;
      throw error;
    } finally {
      for (const { key, value } of entries.slice(0, written)) {
        known.set(keyText(key), value, this.#pass);
      }
    }
  }
}
