// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  countedWords,
  craftedWords,
  randomWords,
  readsPerLookup,
} from '../../test/crafted-keys.ts';
import { flowTableEntries } from '../limits.ts';
import { FlowTable } from './flow-table.ts';

const seed = 20251121;

test('finds what was inserted, and nothing else', () => {
  // Few distinct words, so that tuples differ in one place only.
  const word = fc.constantFrom(0, 1, 0xffff0000, 0x01010101);
  const tuple = fc.tuple(fc.array(word, { minLength: 8, maxLength: 8 }), fc.constantFrom(6, 17));
  fc.assert(
    fc.property(fc.array(tuple, { maxLength: 60 }), fc.integer(), (tuples, tableSeed) => {
      const table = new FlowTable(tableSeed);
      const model = new Map<string, number>();
      tuples.forEach(([words, protocol], i) => {
        const memory = Uint32Array.from([99, ...words]);
        const known = table.find(memory, 1, 5, protocol);
        const key = JSON.stringify([words, protocol]);
        assert.equal(known >= 0, model.has(key));
        if (known >= 0) {
          assert.equal(table.ruleSet[known], model.get(key));
          return;
        }
        table.ruleSet[table.insert(memory, 1, 5, protocol)] = i;
        model.set(key, i);
      });
      assert.equal(table.size, model.size);
      table.clear();
      for (const [words, protocol] of tuples) {
        assert.equal(table.find(Uint32Array.from(words), 0, 4, protocol), -1);
      }
    }),
    { seed, numRuns: 50 },
  );
});

test('is emptied when it is three quarters full, and never fuller', () => {
  const table = new FlowTable(7);
  const words = new Uint32Array(8);
  const most = (flowTableEntries / 4) * 3;
  for (let i = 0; i < most; i++) {
    words[3] = i;
    table.insert(words, 0, 4, 17);
  }
  assert.equal(table.size, most);
  words[3] = 0;
  assert.ok(table.find(words, 0, 4, 17) >= 0);
  words[3] = most;
  table.insert(words, 0, 4, 17);
  assert.equal(table.size, 1);
  words[3] = 0;
  assert.equal(table.find(words, 0, 4, 17), -1);
});

test('finds addresses that a pod chose as fast as any others, whatever the seed', () => {
  const most = (flowTableEntries / 4) * 3;
  const reads = (tableSeed: number, keys: readonly Uint32Array[]): number => {
    const table = new FlowTable(tableSeed);
    for (const key of keys) table.insert(key, 0, 4, 17);
    const some = keys.filter((_, i) => i % 7 === 0);
    return readsPerLookup(some, (words) => table.find(words, 0, 4, 17));
  };
  for (const tableSeed of [0, 1, -1, 0x5eed, 0x7fffffff]) {
    const random = reads(tableSeed, randomWords(most, 8));
    // The hash takes words of client and server in turns.
    const crafted = reads(tableSeed, craftedWords(most, 8, [0, 4, 2, 6], [13, 13]));
    const counted = reads(tableSeed, countedWords(most, 8, 7));
    assert.ok(
      crafted < 2 * random,
      `seed ${tableSeed}: crafted ${crafted}, random ${random} reads`,
    );
    assert.ok(
      counted < 2 * random,
      `seed ${tableSeed}: counted ${counted}, random ${random} reads`,
    );
  }
});
