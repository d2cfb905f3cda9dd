// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Nanoseconds of learning: a known mapping, and one that evicts another. */

import { nameFromText } from '../dns/name.ts';
import { measure } from '../measure.bench.ts';
import { FqdnCache } from './cache.ts';

const key = { low: 1, high: 2 };
const name = nameFromText('host-00000.example.com') ?? new Uint8Array(1);
const address = new Uint8Array(16).fill(1, 12);

/** Learns the mappings of `names` names with four addresses each, in turn. */
function learnRun(cache: FqdnCache, names: number): (count: number) => number {
  let at = 0;
  return (count) => {
    let sum = 0;
    for (let i = 0; i < count; i++, at++) {
      const index = (at >>> 2) % names;
      for (let digit = 10, rest = index; digit > 5; digit--) {
        name[digit] = 48 + (rest % 10);
        rest = Math.trunc(rest / 10);
      }
      address[15] = at & 3;
      sum += cache.learn(name, name.length, address, 0, at, 1, 0);
    }
    return sum;
  };
}

const small = new FqdnCache({ key });
const large = new FqdnCache({ key, entriesPerNamespaceMax: 131_072 });
const churn = new FqdnCache({ key });
measure('FqdnCache.learn, a name of 24 octets', [
  { name: 'extend one of 400', run: learnRun(small, 100) },
  { name: 'extend one of 120,000', run: learnRun(large, 30_000) },
  { name: 'add one, evict one (8,192 of the namespace)', run: learnRun(churn, 99_999) },
]);
