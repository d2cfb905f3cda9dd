// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A store that is small enough to make hundreds of in one test. */

import { collectMappings, compareMappings, type FqdnMapping } from '@tandem/core/fqdn/merge';
import { NodeStore } from '../src/store/node-store.ts';

export const smallCache = {
  key: { low: 1, high: 2 },
  entriesMax: 512,
  namesMax: 256,
  nameBlocksMax: 512,
  namespacesMax: 16,
  entriesPerNamespaceMax: 512,
  addressesPerNameMax: 64,
} as const;

export function smallStore(eventsMax = 256, bytesMax: number = 64 << 10): NodeStore {
  return new NodeStore({ cache: smallCache, events: { eventsMax, bytesMax } });
}

/** The mappings of a store that live after `now`, in one order. */
export function mappingsOf(store: NodeStore, now: number): FqdnMapping[] {
  const mappings: FqdnMapping[] = [];
  collectMappings(store.cache, now, 1, Infinity, mappings);
  return mappings.sort(compareMappings);
}
