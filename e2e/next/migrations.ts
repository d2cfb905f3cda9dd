// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The table of migrations of the version after this one, as its author would write it. `next-version.ts`
 * puts it into the other build in place of packages/datapath/src/migrations.ts.
 */

import {
  endpointBytes,
  nextEndpointBytes,
  policyBytes,
  priorityBytes,
  stampBytes,
  version,
} from './current-layout.ts';

interface Entry {
  readonly key: Uint8Array;
  readonly value: Uint8Array;
}

function widened({ key, value }: Entry, before: number, size: number): Entry {
  const wide = new Uint8Array(size);
  wide.set(value, before);
  return { key, value: wide };
}

function narrowed({ key, value }: Entry, before: number, size: number): Entry {
  return { key, value: value.slice(before, before + size) };
}

const same = (entry: Entry): Entry => entry;

export const migrations: readonly object[] = [
  {
    from: version,
    to: version + 1,
    maps: {
      endpoints: (entry: Entry): Entry => widened(entry, stampBytes, nextEndpointBytes),
      policy: (entry: Entry): Entry => widened(entry, priorityBytes, priorityBytes + policyBytes),
      counters: same,
    },
  },
  {
    from: version + 1,
    to: version,
    maps: {
      endpoints: (entry: Entry): Entry => narrowed(entry, stampBytes, endpointBytes),
      policy: (entry: Entry): Entry => narrowed(entry, priorityBytes, policyBytes),
      counters: same,
    },
  },
];

export function migrationBetween(from: number, to: number): object | null {
  const isIt = (each: object): boolean =>
    'from' in each && 'to' in each && each.from === from && each.to === to;
  return migrations.find(isIt) ?? null;
}
