// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The join of two processes' FQDN caches: all mappings of both, each with the later expiry. It is
 * commutative, associative and idempotent, so batches may arrive in any order, twice, or late, and
 * both sides end with the same mappings.
 */

import { type FqdnCache } from './cache.ts';
import { FqdnRecord, type FqdnStatus } from './mapping.ts';

/** A mapping as it travels between processes. */
export interface FqdnMapping {
  /** Wire form, lower-case, root included. */
  readonly name: Uint8Array;
  /** 16 octets. */
  readonly address: Uint8Array;
  /** Boottime seconds: both processes run on one kernel. */
  readonly expires: number;
  readonly namespaceId: number;
  readonly scope: number;
}

/** Orders mappings by what identifies them; 0 when only their expiry can differ. */
export function compareMappings(a: FqdnMapping, b: FqdnMapping): number {
  return (
    compareOctets(a.name, b.name) ||
    compareOctets(a.address, b.address) ||
    a.namespaceId - b.namespaceId ||
    a.scope - b.scope
  );
}

/** The join of two lists in any order, sorted by `compareMappings`, each mapping once. */
export function joinMappings(a: readonly FqdnMapping[], b: readonly FqdnMapping[]): FqdnMapping[] {
  const joined: FqdnMapping[] = [];
  for (const mapping of [...a, ...b].sort(compareMappings)) {
    const last = joined.at(-1);
    if (last === undefined || compareMappings(last, mapping) !== 0) joined.push(mapping);
    else if (mapping.expires > last.expires) joined[joined.length - 1] = mapping;
  }
  return joined;
}

/** Joins one mapping of the other process into `cache`; its limits hold here too. */
export function joinInto(cache: FqdnCache, mapping: FqdnMapping): FqdnStatus {
  const { name, address, expires, namespaceId, scope } = mapping;
  return cache.learn(name, name.length, address, 0, expires, namespaceId, scope);
}

/**
 * Copies at most `limit` mappings of `cache` that live after `now`, from place `from` on (begin with 1),
 * into `out`. The place where the next call goes on, 0 at the end.
 */
export function collectMappings(
  cache: FqdnCache,
  now: number,
  from: number,
  limit: number,
  out: FqdnMapping[],
): number {
  const record = new FqdnRecord();
  let entry = cache.nextEntry(from);
  for (let count = 0; entry !== 0 && count < limit; entry = cache.nextEntry(entry + 1)) {
    cache.read(entry, record);
    if (record.expires <= now) continue;
    out.push({
      name: record.name.slice(0, record.nameLength),
      address: record.address.slice(),
      expires: record.expires,
      namespaceId: record.namespaceId,
      scope: record.scope,
    });
    count++;
  }
  return entry;
}

function compareOctets(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
