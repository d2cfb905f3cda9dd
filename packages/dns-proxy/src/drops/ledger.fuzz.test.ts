// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { DropLedger, ringRecordBytes } from './ledger.ts';

const seed = 20_261_122;
const window = 64;
const position = (event: number): number => (event + 1) * ringRecordBytes;

test('each event once, in any order within the window; missing from the start, or what we know of', () => {
  const step = fc.record({ isKnowledge: fc.boolean(), ahead: fc.integer({ min: -100, max: 100 }) });
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1000 }), fc.array(step), (start, steps) => {
      const ledger = new DropLedger(window);
      const seen = new Set<number>();
      let base = start;
      let high = start;
      ledger.begin(position(start - 1), 1);
      for (const { isKnowledge, ahead } of steps) {
        const event = Math.max(0, high + ahead);
        const isInWindow = event >= high - window;
        if (isKnowledge) ledger.knowOf(position(event));
        else assert.equal(ledger.take(position(event)), isInWindow && !seen.has(event));
        if (!isInWindow) continue;
        if (!isKnowledge) seen.add(event);
        if (isKnowledge) base = Math.min(base, event);
        high = Math.max(high, event + 1);
      }
      const counted = [...seen].filter((event) => event >= base).length;
      assert.equal(ledger.seen, seen.size);
      assert.equal(ledger.missing, high - base - counted);
    }),
    { seed, numRuns: 2000 },
  );
});

test('what comes late is not reported, what does not come is, once', () => {
  const ledger = new DropLedger(window);
  ledger.take(position(10));
  assert.equal(ledger.takeSettled(0), 0);
  ledger.take(position(14));
  assert.equal(ledger.takeSettled(2000), 0, 'it may come');
  ledger.take(position(12));
  assert.equal(ledger.takeSettled(3000), 0, 'it was missing for less than a while');
  assert.equal(ledger.takeSettled(6000), 2);
  assert.equal(ledger.takeSettled(9000), 0, 'told already');
  ledger.take(position(11));
  assert.equal(ledger.missing, 1);
});

test('what was made in our life and never told is missing', () => {
  const ledger = new DropLedger(window);
  let end = position(99);
  ledger.lastPosition = () => end;
  ledger.begin(end, 1);
  assert.equal(ledger.takeSettled(0), 0);
  end = position(104);
  ledger.take(position(101));
  for (const [atMs, count] of [
    [3000, 0],
    [6000, 1],
    [9000, 3],
    [12_000, 0],
  ] as const) {
    assert.equal(ledger.takeSettled(atMs), count, `at ${atMs}`);
  }
  ledger.take(position(90));
  ledger.take(position(96));
  assert.equal(ledger.missing, 4, 'of older ones those that come are enough');
  ledger.knowOf(position(95));
  assert.equal(ledger.missing, 8, 'but for those that the other refused to tell');
  ledger.take(position(97));
  assert.equal(ledger.missing, 7);
});

test('nothing ended before the first record', () => {
  const ledger = new DropLedger(window);
  ledger.take(position(3));
  for (const before of [0, 1, ringRecordBytes - 1, -ringRecordBytes, Number.NaN]) {
    ledger.knowOf(before);
    assert.equal(ledger.take(before), false, `${before}`);
  }
  assert.deepEqual([ledger.impossible, ledger.missing, ledger.seen], [10, 0, 1]);
  ledger.knowOf(position(0));
  assert.equal(ledger.missing, 3);
});

test('a position beyond the integers of a double is none, also where the end of the ring is unknown', () => {
  const ledger = new DropLedger(window);
  for (const beyond of [2 ** 63, Number.MAX_SAFE_INTEGER + 1, Infinity]) {
    ledger.knowOf(beyond);
    assert.equal(ledger.take(beyond), false);
  }
  assert.deepEqual([ledger.impossible, ledger.missing], [6, 0]);
});

test('another ring begins anew', () => {
  const ledger = new DropLedger(window);
  ledger.begin(position(-1), 1);
  ledger.take(position(0));
  ledger.take(position(9));
  assert.equal(ledger.missing, 8);
  ledger.begin(position(4), 2);
  assert.equal(ledger.missing, 0);
  assert.equal(ledger.take(position(0)), true, 'of the other ring');
  ledger.take(position(6));
  assert.deepEqual([ledger.seen, ledger.missing], [4, 1]);
});

test('an event behind the end of the ring is refused, and blinds nobody', () => {
  const ledger = new DropLedger(window);
  ledger.lastPosition = () => position(20);
  assert.equal(ledger.take(position(20)), true);
  assert.equal(ledger.take(position(10_000)), false);
  ledger.knowOf(position(10_000));
  assert.equal(ledger.take(position(19)), true);
  assert.deepEqual([ledger.impossible, ledger.missing], [2, 0]);
});
