// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { AssertionError, assert as assertBug, unreachable } from './assert.ts';
import { err, ok } from './result.ts';
import { Ring } from './ring.ts';

test('a ring equals a bounded list', () => {
  const step = fc.oneof(
    fc.nat(9).map((item) => ({ push: item })),
    fc.nat(3).map((count) => ({ take: count })),
  );
  const check = (capacity: number, steps: readonly { push?: number; take?: number }[]): void => {
    const ring = new Ring<number>({ capacity });
    const model: number[] = [];
    let dropped = 0;
    for (const { push, take } of steps) {
      if (push !== undefined) {
        const isFull = model.length === capacity;
        assert.equal(ring.push(push), !isFull);
        if (isFull) dropped++;
        if (isFull) model.shift();
        model.push(push);
      } else if (take === 1) assert.equal(ring.shift(), model.shift());
      else assert.equal(ring.discard(take ?? 0), model.splice(0, take).length);
      assert.deepEqual([ring.size, ring.dropped], [model.length, dropped]);
      for (let i = -1; i <= capacity; i++) assert.equal(ring.peek(i), model[i]);
    }
  };
  const steps = fc.array(step, { maxLength: 60 });
  fc.assert(fc.property(fc.integer({ min: 1, max: 5 }), steps, check), {
    seed: 20251121,
  });
});

test('a ring without capacity is a bug', () => {
  for (const capacity of [0, -1, 1.5, Number.NaN])
    assert.throws(() => new Ring({ capacity }), AssertionError);
  assert.equal(new Ring({ capacity: 1 }).peek(), undefined);
});

test('assertions and results', () => {
  assertBug(true, 'holds');
  assert.throws(() => assertBug(false, 'must hold'), {
    name: 'AssertionError',
    code: 'TANDEM_BUG',
    message: 'must hold',
  });
  assert.throws(() => unreachable('x' as never), AssertionError);
  assert.deepEqual(ok(1), { ok: true, value: 1 });
  assert.deepEqual(err('e'), { ok: false, error: 'e' });
});
