// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { IntSets } from './int-sets.ts';

const seeds = [0, 1, -1, 0x5eed, 0x7fffffff];

describe('IntSets', () => {
  it('gives equal sets one id, in the order of their first appearance, whatever the seed', () => {
    const sets = [[], [0], [1], [0, 1], [], [5, 70_000], [1], [70_000], [0, 1, 2], [5, 70_000]];
    for (const seed of seeds) {
      const interned = new IntSets(seed);
      const ids = sets.map((set) => interned.intern(Int32Array.from(set), set.length));
      assert.deepEqual(ids, [0, 1, 2, 3, 0, 4, 2, 5, 6, 4]);
      assert.equal(interned.memberCount, 10);
    }
  });

  it('keeps sets apart while it grows', () => {
    const interned = new IntSets(7);
    const ids = new Set<number>();
    for (let round = 0; round < 2; round++) {
      for (let n = 0; n < 20_000; n++) ids.add(interned.intern(Int32Array.of(n >> 7, 1000 + n), 2));
    }
    assert.equal(ids.size, 20_000);
    assert.equal(interned.count, 20_000);
  });

  it('finds sets that an author of patterns chose as fast as any others, whatever the seed', () => {
    for (const seed of seeds) {
      const random = readsPerIntern(seed, ordinarySets);
      const crafted = readsPerIntern(seed, craftedSets);
      assert.ok(crafted < 2 * random, `seed ${seed}: crafted ${crafted}, random ${random} reads`);
    }
  });
});

/** The sets of a state behind a star: the star's node, and one of the nodes that follow it, which are counted. */
const setCount = 16_384;
const starCount = 64;
const firstNode = 1000;
const ordinarySets = Array.from({ length: setCount }, (_, i) =>
  Int32Array.of(i % starCount, firstNode + i),
);
/** The author chooses behind which star each node comes: where the hash without a key gives the lowest place. */
const craftedSets = ordinarySets.map((set) => {
  const node = set[1] as number;
  const placeOf = (star: number): number => unkeyed([star, node]) & (2 * setCount - 1);
  const stars = Array.from({ length: starCount }, (_, star) => star);
  return Int32Array.of(
    stars.reduce((a, b) => (placeOf(b) < placeOf(a) ? b : a)),
    node,
  );
});

/** The former hash, without a key: the finaliser of MurmurHash3 after each member. */
function unkeyed(set: readonly number[]): number {
  let hash = set.length;
  for (const member of set) {
    hash ^= member;
    hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return hash;
}

/** Members read to find a set again, on average: two by the hash, and one at least for each set that is compared. */
function readsPerIntern(seed: number, sets: readonly Int32Array[]): number {
  const interned = new IntSets(seed);
  for (const set of sets) interned.intern(set, set.length);
  assert.equal(interned.count, sets.length);
  const some = sets.filter((_, i) => i % 19 === 0);
  let reads = 0;
  for (const set of some) {
    const counted = new Proxy(set, {
      get(target, property) {
        reads += 1;
        return Reflect.get(target, property, target) as unknown;
      },
    });
    interned.intern(counted, set.length);
  }
  return reads / some.length;
}
