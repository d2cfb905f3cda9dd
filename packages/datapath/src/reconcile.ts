// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Brings a map to its desired content with the fewest writes: what is equal is left alone. Adding and
 * pruning are separate, because their order against other maps is what keeps a change of policy safe.
 */

import type { BpfMap } from '@tandem/bpf-loader-node/map';
import type { Entry } from './encode.ts';

export interface ReconcileResult {
  readonly written: number;
  readonly removed: number;
}

const keyText = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('latin1');

/** Whether the map holds anything else than `desired`. */
export function differs(map: BpfMap, desired: Iterable<Entry>): boolean {
  const wanted = new Map<string, Uint8Array>();
  for (const { key, value } of desired) wanted.set(keyText(key), value);
  let found = 0;
  for (const [key, value] of map.entries()) {
    const other = wanted.get(keyText(key));
    if (other === undefined || Buffer.compare(other, value) !== 0) return true;
    found += 1;
  }
  return found !== wanted.size;
}

/** Adds and changes entries; removes nothing. Later entries of one key win. */
export function addEntries(map: BpfMap, desired: Iterable<Entry>): ReconcileResult {
  const actual = new Map<string, Uint8Array>();
  for (const [key, value] of map.entries()) actual.set(keyText(key), value);
  const changed: Entry[] = [];
  for (const entry of desired) {
    const present = actual.get(keyText(entry.key));
    if (present !== undefined && Buffer.compare(present, entry.value) === 0) continue;
    changed.push(entry);
  }
  write(map, changed);
  return { written: changed.length, removed: 0 };
}

/** Removes entries that are not desired; adds nothing. */
export function pruneEntries(map: BpfMap, desired: Iterable<Entry>): ReconcileResult {
  const wanted = new Set<string>();
  for (const entry of desired) wanted.add(keyText(entry.key));
  let removed = 0;
  for (const [key] of [...map.entries()]) {
    if (wanted.has(keyText(key))) continue;
    if (map.delete(key)) removed += 1;
  }
  return { written: 0, removed };
}

function write(map: BpfMap, entries: readonly Entry[]): void {
  if (entries.length === 0) return;
  const keys = new Uint8Array(entries.length * map.keySize);
  const values = new Uint8Array(entries.length * map.valueBytes);
  entries.forEach((entry, i) => {
    keys.set(entry.key, i * map.keySize);
    values.set(entry.value, i * map.valueBytes);
  });
  map.updateBatch(keys, values, entries.length);
}
