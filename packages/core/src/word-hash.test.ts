// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { spread, textHash, wordHashNumbers, wordTerm } from './word-hash.ts';

const seed = 20251121;
const hash = (numbers: Int32Array, words: readonly number[]): number => {
  let sum = numbers[0]!;
  words.forEach((word, i) => {
    sum = wordTerm(numbers, 1 + 2 * i, word, sum);
  });
  return spread(sum);
};

test('the numbers are those of the seed, and differ', () => {
  const numbers = wordHashNumbers(7, 9);
  assert.equal(numbers.length, 19);
  assert.equal(new Set(numbers).size, 19);
  assert.deepEqual(wordHashNumbers(7, 9), numbers);
  assert.notDeepEqual(wordHashNumbers(8, 9), numbers);
});

test('two keys meet in few of many seeds, however they were chosen', () => {
  const word = fc.oneof(
    fc.nat(0xffffffff),
    fc.constantFrom(0, 1, 0x8000, 0x10000, 0x80000000, 0x80010000, 0xffffffff),
  );
  const key = fc.array(word, { minLength: 3, maxLength: 3 });
  const places = 0xffff;
  const check = (first: number[], second: number[]): void => {
    if (first.join() === second.join()) return;
    let met = 0;
    for (let tableSeed = 0; tableSeed < 200; tableSeed++) {
      const numbers = wordHashNumbers(tableSeed, 3);
      if (((hash(numbers, first) ^ hash(numbers, second)) & places) === 0) met++;
    }
    // One in 65,536 each: even two of 200 are very unlikely.
    assert.ok(met < 3, `${first} and ${second}: ${met} of 200 seeds`);
  };
  fc.assert(fc.property(key, key, check), { seed, numRuns: 500 });
  // Keys that differ in one bit, or in the top bits of two words.
  for (const difference of [1, 0x8000, 0x10000, 0x80000000, 0x80010000]) {
    check([1, 2, 3], [(1 ^ difference) >>> 0, 2, 3]);
    check([1, 2, 3], [1, 2, (3 ^ difference) >>> 0]);
    for (const other of [0x80000000, 0x80010000, 0x80040000]) {
      check([1, 2, 3], [(1 ^ difference) >>> 0, (2 ^ other) >>> 0, 3]);
    }
  }
});

test('texts that were chosen to meet in a hash without key are apart', () => {
  const places = 1024;
  const fnv = (text: string): number => {
    let value = 0x811c9dc5;
    for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
    return (value ^ (value >>> 16)) & (places - 1);
  };
  const chosen: string[] = [];
  for (let i = 0; chosen.length < 200; i++) {
    // Prefixes as `prefixKey` writes them.
    const text = String.fromCharCode(
      ...new Uint8Array(12),
      i >> 24,
      (i >> 16) & 255,
      (i >> 8) & 255,
      i & 255,
      128,
    );
    if (fnv(text) === 0) chosen.push(text);
  }
  for (let tableSeed = 0; tableSeed < 50; tableSeed++) {
    const numbers = wordHashNumbers(tableSeed, 9);
    const found = new Set(chosen.map((text) => textHash(numbers, text) & (places - 1)));
    // 200 texts at random have 182 of 1,024 places.
    assert.ok(found.size > 140, `${found.size} places with seed ${tableSeed}`);
  }
});
