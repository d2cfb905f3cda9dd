// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import {
  countedWords,
  craftedWords,
  randomWords,
  readsPerLookup,
} from '../../test/crafted-keys.ts';
import { knownPairsMax } from '../limits.ts';
import { KnownPairs, pairExtended, pairKnown, pairNew } from './known-pairs.ts';

const addressOf = (i: number): Uint32Array => Uint32Array.of(0, 0, 0xffff0000, i);
const entriesMax = (knownPairsMax / 4) * 3;

describe('KnownPairs', () => {
  it('knows a pair by address, selector and namespace', () => {
    const pairs = new KnownPairs(7, 0);
    assert.equal(pairs.extend(addressOf(1), 0, 5, 3, 100), pairNew);
    assert.equal(pairs.extend(addressOf(1), 0, 5, 3, 100), pairKnown);
    assert.equal(pairs.extend(addressOf(1), 0, 5, 3, 99), pairKnown);
    assert.equal(pairs.extend(addressOf(1), 0, 6, 3, 100), pairNew);
    assert.equal(pairs.extend(addressOf(1), 0, 5, 4, 100), pairNew);
    assert.equal(pairs.extend(addressOf(2), 0, 5, 3, 100), pairNew);
    assert.equal(pairs.extend(addressOf(1), 0, 5, 3, 101), pairExtended);
    assert.equal(pairs.extend(addressOf(1), 0, 5, 3, 101), pairKnown);
  });

  it('lets an expiry fall behind by the slack and no more, however often it moves', () => {
    const pairs = new KnownPairs(7, 3);
    pairs.extend(addressOf(1), 0, 5, 3, 100);
    let written = 100;
    for (let expires = 101; expires < 200; expires++) {
      if (pairs.extend(addressOf(1), 0, 5, 3, expires) !== pairKnown) written = expires;
      assert.ok(expires - written <= 3, `${expires} but ${written} is written`);
    }
  });

  it('writes what was forgotten, also soon after boot', () => {
    const pairs = new KnownPairs(7, 30);
    pairs.extend(addressOf(1), 0, 5, 3, 20);
    pairs.forget(addressOf(1), 0, 5, 3);
    assert.equal(pairs.extend(addressOf(1), 0, 5, 3, 20), pairNew);
    pairs.forget(addressOf(2), 0, 5, 3);
    assert.equal(pairs.extend(addressOf(2), 0, 5, 3, 20), pairNew);
  });

  it('forgets all when it is full, and goes on', () => {
    const pairs = new KnownPairs(7, 0);
    for (let i = 0; i < entriesMax; i++) pairs.extend(addressOf(i), 0, 1, 3, 100);
    for (let i = 0; i < entriesMax; i++) {
      assert.equal(pairs.extend(addressOf(i), 0, 1, 3, 100), pairKnown);
    }
    assert.equal(pairs.extend(addressOf(entriesMax), 0, 1, 3, 100), pairNew);
    assert.equal(pairs.extend(addressOf(entriesMax), 0, 1, 3, 100), pairKnown);
    assert.equal(pairs.extend(addressOf(0), 0, 1, 3, 100), pairNew);
    pairs.clear();
    assert.equal(pairs.extend(addressOf(entriesMax), 0, 1, 3, 100), pairNew);
  });

  it('finds addresses that a zone chose as fast as any others, whatever the seed', () => {
    const reads = (seed: number, keys: readonly Uint32Array[]): number => {
      const pairs = new KnownPairs(seed, 7);
      for (const key of keys) pairs.extend(key, 0, 7, 3, 1000);
      const some = keys.filter((_, i) => i % 19 === 0);
      return readsPerLookup(some, (words) => pairs.extend(words, 0, 7, 3, 1001));
    };
    for (const seed of [0, 1, -1, 0x5eed, 0x7fffffff]) {
      const random = reads(seed, randomWords(entriesMax, 4));
      const crafted = reads(seed, craftedWords(entriesMax, 4, [0, 1, 2, 3], [15, 15]));
      const counted = reads(seed, countedWords(entriesMax, 4, 3));
      assert.ok(crafted < 2 * random, `seed ${seed}: crafted ${crafted}, random ${random} reads`);
      assert.ok(counted < 2 * random, `seed ${seed}: counted ${counted}, random ${random} reads`);
    }
  });
});
