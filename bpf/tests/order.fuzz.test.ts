// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** learn and share against the model: the same pairs in the same order, the same victims, after any requests. */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { addressText, mappedAddressBytes } from '@tandem/testing/address';
import { OrderModel } from '@tandem/testing/order-model';
import * as fc from 'fast-check';
import { Fixture } from './fixture.ts';
import { type LearnRequest, learn } from './learning.ts';
import { OrderState, setShare } from './order-state.ts';
import { assertWhole } from './stored.ts';

const places = 24;
const limit = 14;
const fixture = new Fixture({ fqdn: 64 }, true, { pairs: places, quota_namespace: limit });
after(() => fixture[Symbol.dispose]());

const s1 = 0x80000001;
const expires = 1000;
const addressOf = (n: number): string => `198.51.100.${n}`;

type Step =
  | {
      readonly do: 'add';
      readonly namespaceId: number;
      readonly address: number;
      readonly selector: number;
    }
  | { readonly do: 'offer' | 'remove'; readonly address: number; readonly selector: number }
  | {
      readonly do: 'share';
      readonly namespaceId: number;
      readonly share: number;
      readonly limit: number;
    };

const namespaceId = fc.integer({ min: 1, max: 5 });
const address = fc.integer({ min: 0, max: 11 });
const selector = fc.integer({ min: s1, max: s1 + 2 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({ do: fc.constant('add' as const), namespaceId, address, selector }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('offer' as const), address, selector }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remove' as const), address, selector }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('share' as const),
      namespaceId,
      share: fc.integer({ min: 0, max: 10 }),
      limit: fc.constantFrom(0, 1, 5, limit, 100),
    }),
  },
);

function runStep(one: Step, model: OrderModel): void {
  if (one.do === 'share') {
    model.setShare(one.namespaceId, one.share, one.limit);
    assert.equal(setShare(fixture, one.namespaceId, one.share, one.limit), 0);
    return;
  }
  const request: LearnRequest = {
    op: one.do === 'remove' ? 'REMOVE' : 'ADD',
    address: addressOf(one.address),
    selector: one.selector,
    ...(one.do === 'remove' ? {} : { expires }),
    ...(one.do === 'add' ? { namespaceId: one.namespaceId } : { isOffered: one.do === 'offer' }),
  };
  const [result] = learn(fixture, [request]);
  const pair = {
    address: addressText(mappedAddressBytes(addressOf(one.address))),
    selector: one.selector,
  };
  if (one.do === 'remove') {
    model.remove(pair);
    return;
  }
  const expected = one.do === 'add' ? model.add(one.namespaceId, pair) : model.offer(pair);
  const names = { known: 'UNCHANGED', added: 'OK', refused: 'REFUSED_NAMESPACE' } as const;
  assert.equal(result, names[expected]);
}

function compare(model: OrderModel): void {
  const state = new OrderState(fixture);
  const lists: Record<number, string[]> = {};
  for (const space of state.spaces) {
    if (space.places.length > 0) lists[space.namespaceId] = state.namesOf(space.namespaceId);
  }
  assert.deepEqual(lists, model.lists());
  assert.deepEqual(
    state.over.map((number) => state.spaces[number]?.namespaceId),
    model.over(),
  );
  assertWhole(fixture);
}

test('the kernel keeps the same order as the model, and gives up the same pairs', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 120 }), (steps) => {
      fixture.reset();
      const model = new OrderModel(places, limit);
      for (const one of steps) runStep(one, model);
      compare(model);
    }),
    { numRuns: 150 },
  );
});
