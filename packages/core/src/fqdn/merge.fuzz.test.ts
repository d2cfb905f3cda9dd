// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { nameFromText } from '../dns/name.ts';
import { FqdnCache } from './cache.ts';
import {
  collectMappings,
  compareMappings,
  type FqdnMapping,
  joinInto,
  joinMappings,
} from './merge.ts';

const seed = 20251121;
const small = {
  entriesMax: 100,
  namesMax: 50,
  nameBlocksMax: 50,
  namespacesMax: 4,
  entriesPerNamespaceMax: 100,
  addressesPerNameMax: 100,
};

const mappings = fc.array(
  fc.record(
    {
      name: fc.constantFrom('a.', 'b.', 'c.test.').map((text) => nameFromText(text) as Uint8Array),
      address: fc.nat(2).map((last) => new Uint8Array(16).fill(last, 15)),
      expires: fc.nat(5),
      namespaceId: fc.integer({ min: 1, max: 2 }),
      scope: fc.nat(1),
    },
    { noNullPrototype: true },
  ),
  { maxLength: 25 },
);

function join(a: readonly FqdnMapping[], b: readonly FqdnMapping[]): FqdnMapping[] {
  return joinMappings(a, b);
}

test('the join is commutative, associative and idempotent', () => {
  const check = (a: FqdnMapping[], b: FqdnMapping[], c: FqdnMapping[]): void => {
    assert.deepEqual(join(a, b), join(b, a));
    assert.deepEqual(join(join(a, b), c), join(a, join(b, c)));
    const once = join(a, b);
    assert.deepEqual(join(once, once), once);
    assert.deepEqual(join(once, a), once);
    assert.deepEqual(join(a, []), join(a, a));
    for (let i = 1; i < once.length; i++) {
      assert.ok(compareMappings(once[i - 1] as FqdnMapping, once[i] as FqdnMapping) < 0);
    }
  };
  fc.assert(fc.property(mappings, mappings, mappings, check), { seed, numRuns: 1000 });
});

test('two caches that exchange all they have are equal, in any order and again', () => {
  const listed = (cache: FqdnCache): FqdnMapping[] => {
    const out: FqdnMapping[] = [];
    for (let from = 1; from !== 0; ) from = collectMappings(cache, 0, from, 3, out);
    return joinMappings(out, []);
  };
  const check = (a: FqdnMapping[], b: FqdnMapping[]): void => {
    const first = new FqdnCache({ ...small, key: { low: 1, high: 2 } });
    const second = new FqdnCache({ ...small, key: { low: 3, high: 4 } });
    for (const mapping of a) joinInto(first, mapping);
    for (const mapping of b) joinInto(second, mapping);
    const [fromFirst, fromSecond] = [listed(first), listed(second)];
    for (const mapping of fromSecond.toReversed()) joinInto(first, mapping);
    for (const mapping of [...fromFirst, ...fromFirst]) joinInto(second, mapping);
    assert.deepEqual(listed(first), listed(second));
    const live = joinMappings(a, b).filter((mapping) => mapping.expires > 0);
    assert.deepEqual(listed(first), live);
  };
  fc.assert(fc.property(mappings, mappings, check), { seed, numRuns: 300 });
});
