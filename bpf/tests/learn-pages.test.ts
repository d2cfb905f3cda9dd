// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** learn: the pages of one address, as many as its pairs need (ADR 11). Moves beside a reader: fqdn-moves.test.ts. */

import assert from 'node:assert/strict';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { Fixture } from './fixture.ts';
import { type LearnRequest, learn } from './learning.ts';
import { assertWhole, counted as slotsCounted, slotsOf, usePage } from './stored.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => fixture.reset());
afterEach(() => assertWhole(fixture));

const address = '203.0.113.10';
const s1 = 0x80000001;

function add(selector: number, expires: number, more: Partial<LearnRequest> = {}): LearnRequest {
  return { op: 'ADD', address, selector, expires, ...more };
}

function one(request: LearnRequest): string {
  return learn(fixture, [request])[0] ?? '';
}

describe('pages', () => {
  const fill = (count: number): void => {
    for (let i = 0; i < count; i++) assert.equal(one(add(s1 + i, 1000, { namespaceId: i })), 'OK');
  };

  test('64 selectors of one address on four pages, no 65th', () => {
    fill(64);
    assert.deepEqual(
      [...new Set(slotsOf(fixture, address).map((slot) => slot.page))],
      [0, 1, 2, 3],
    );
    const { result, counted } = fixture.counting(() =>
      one(add(s1 + 64, 1000, { namespaceId: 77 })),
    );
    assert.equal(result, 'REFUSED_SELECTORS', 'each of 64 namespaces has one');
    assert.deepEqual(counted, { LEARN_REFUSED: 1 });
    assert.equal(slotsCounted(fixture)[77], undefined, 'nothing is left counted');
    assert.equal(slotsCounted(fixture)[s1 + 64], undefined);
    assert.equal(one(add(s1 + 63, 2000, { namespaceId: 63 })), 'OK', 'what is there extends');
  });

  test('the last pair moves into a freed slot, as it is', () => {
    fill(17);
    const last = slotsOf(fixture, address).at(-1);
    one({ op: 'REMOVE', address, selector: s1 + 3 });
    assert.deepEqual(slotsOf(fixture, address)[3], { ...last, page: 0 });
  });

  test('pages go as pairs do, whichever goes first', () => {
    const orders = [(i: number) => i, (i: number) => 39 - i, (i: number) => (i * 7) % 40];
    for (const order of orders) {
      fill(40);
      for (let i = 0; i < 40; i++) {
        one({ op: 'REMOVE', address, selector: s1 + order(i) });
        assertWhole(fixture);
        assert.equal(slotsOf(fixture, address).length, 39 - i);
      }
      assert.equal([...fixture.map('fqdn').entries()].length, 0);
    }
  });

  test('a pair that moves takes the time of its use along', () => {
    for (let i = 0; i < 17; i++) one(add(s1 + i, 100));
    usePage(fixture, address, 1);
    one({ op: 'REMOVE', address, selector: s1 });
    assert.equal(slotsOf(fixture, address)[0]?.selector, s1 + 16);
    assert.equal(one({ op: 'EXPIRE', address, expires: 400 }), 'ABSENT');
    assert.equal(slotsOf(fixture, address).length, 16);
    one({ op: 'EXPIRE', address, expires: 501 });
  });
});
