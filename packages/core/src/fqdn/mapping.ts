// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Input and output of the FQDN cache: its limits, one mapping, the result of a call, counts. */

import type { HashKey } from '../dns/name-hash.ts';
import { nameBytesMax } from '../limits.ts';

/** A new mapping. */
export const fqdnAdded = 0;
/** The mapping was known and expires later now. */
export const fqdnExtended = 1;
/** The mapping was known and does not expire before. */
export const fqdnUnchanged = 2;
/** No room: the namespace has nothing of its own to evict, and no other has more than it would have. */
export const fqdnRefused = 3;

export type FqdnStatus =
  | typeof fqdnAdded
  | typeof fqdnExtended
  | typeof fqdnUnchanged
  | typeof fqdnRefused;

/** Boottime seconds until which the address at `at` is in use by connections; 0: it is not. */
export type UsedUntil = (addresses: Uint8Array, at: number) => number;

/** Limits default to those of limits.ts. */
export interface FqdnCacheOptions {
  /** Random for each process: pods choose the names. */
  readonly key: HashKey;
  readonly entriesMax?: number;
  readonly namesMax?: number;
  readonly nameBlocksMax?: number;
  readonly namespacesMax?: number;
  readonly entriesPerNamespaceMax?: number;
  readonly addressesPerNameMax?: number;
}

/** One mapping, filled by `FqdnCache.read`. */
export class FqdnRecord {
  /** Wire form, lower-case, root included: the first `nameLength` octets. */
  readonly name: Uint8Array = new Uint8Array(nameBytesMax + 1);
  nameLength = 0;
  readonly address: Uint8Array = new Uint8Array(16);
  /** Boottime seconds. */
  expires = 0;
  namespaceId = 0;
  scope = 0;
}

/** Counts since construction. */
export class FqdnCounters {
  added = 0;
  extended = 0;
  unchanged = 0;
  expired = 0;
  /** Oldest address of a name that had the most it may have. */
  evictedByName = 0;
  /** Oldest of a namespace that had the most it may have. */
  evictedByNamespace = 0;
  /** Oldest of the namespace that asked, because the whole cache is full. */
  evictedByFull = 0;
  /** Oldest of the namespace that has most, because the whole cache is full and the one that asked has less. */
  evictedByShare = 0;
  refusedFull = 0;
  refusedNamespaces = 0;
}
