// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyId } from '@tandem/core/ids';
import * as fc from 'fast-check';
import { endpointFreeShare, inFlightGuaranteed, policyFreeShare } from '../limits.ts';
import type { EndpointSlot, PolicySlot } from './owner-slots.ts';
import { QueryLimits, roomEndpoint, roomFree, roomNode, roomPolicy } from './query-limits.ts';

const owners = 8;

function takeAll(limits: QueryLimits, slot: EndpointSlot, nowMs: number): number {
  let taken = 0;
  while (limits.takeToken(slot, nowMs)) taken += 1;
  return taken;
}

/** Begins queries until a bound refuses: how many, and which. */
function fill(limits: QueryLimits, endpoint: EndpointSlot, policy: PolicySlot): [number, number] {
  let begun = 0;
  let room = limits.room(endpoint, policy);
  for (; room === roomFree; room = limits.room(endpoint, policy)) {
    limits.begin(endpoint, policy);
    begun += 1;
  }
  return [begun, room];
}

test('a bucket holds one second of the rate and refills by time', () => {
  const limits = new QueryLimits(100);
  const slot = limits.endpointSlot(7, 1000);
  assert.equal(limits.endpointSlot(7, 2000), slot, 'one slot per endpoint');
  assert.equal(takeAll(limits, slot, 1000), 100);
  assert.equal(takeAll(limits, slot, 1009), 0);
  assert.equal(takeAll(limits, slot, 1010), 1, 'fractions add up');
  assert.equal(takeAll(limits, slot, 1510), 50);
  assert.equal(takeAll(limits, slot, 99_000), 100, 'never more than one second');
  assert.equal(takeAll(limits, slot, 1000), 0, 'a clock that goes back gives nothing');
});

test('whether there is a token can be asked without taking one', () => {
  const limits = new QueryLimits(100);
  const slot = limits.endpointSlot(7, 0);
  assert.ok(limits.hasToken(slot, 0));
  assert.equal(takeAll(limits, slot, 0), 100);
  assert.ok(!limits.hasToken(slot, 0));
  assert.ok(limits.hasToken(slot, 10));
});

test('buckets are apart', () => {
  const limits = new QueryLimits(5);
  const [first, second] = [limits.endpointSlot(1, 0), limits.endpointSlot(2, 0)];
  assert.notEqual(first, second);
  assert.equal(takeAll(limits, first, 0), 5);
  assert.equal(takeAll(limits, second, 0), 5);
});

test('an endpoint alone has a fifth of the places, and its policy a third', () => {
  const limits = new QueryLimits(5, owners, 3200);
  const policy = limits.policySlot(9 as PolicyId, 0);
  assert.deepEqual(fill(limits, limits.endpointSlot(1, 0), policy), [560, roomEndpoint]);
  assert.deepEqual(fill(limits, limits.endpointSlot(2, 0), policy), [374, roomPolicy]);
  assert.deepEqual(fill(limits, limits.endpointSlot(3, 0), policy), [4, roomPolicy]);
  const [others] = fill(limits, limits.endpointSlot(4, 0), limits.policySlot(8 as PolicyId, 0));
  assert.equal(others, 373, 'another policy has its own share of what is free');
});

test('however many endpoints take what they can get, one more gets a place', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 255 }), (busy) => {
      const limits = new QueryLimits(5, 512);
      for (let round = 0; round < 3; round++) {
        for (let id = 1; id <= busy; id++) {
          fill(limits, limits.endpointSlot(id, 0), limits.policySlot(id as PolicyId, 0));
        }
      }
      const late = limits.endpointSlot(1000, 0);
      const [places] = fill(limits, late, limits.policySlot(1000 as PolicyId, 0));
      assert.ok(places >= inFlightGuaranteed);
    }),
    { numRuns: 100, seed: 20261128 },
  );
});

test('what ends gives its places back', () => {
  const limits = new QueryLimits(5, owners, 40);
  const endpoint = limits.endpointSlot(1, 0);
  const policy = limits.policySlot(1 as PolicyId, 0);
  const [begun] = fill(limits, endpoint, policy);
  assert.equal(begun, 35 / (1 + endpointFreeShare));
  for (let i = 0; i < begun; i++) limits.end(endpoint, policy);
  assert.equal(limits.inFlight, 0);
  assert.deepEqual(fill(limits, endpoint, policy), [begun, roomEndpoint]);
  assert.ok(policyFreeShare < endpointFreeShare);
});

test('a full node refuses everybody', () => {
  const limits = new QueryLimits(5, owners, 0);
  assert.equal(
    limits.room(limits.endpointSlot(1, 0), limits.policySlot(1 as PolicyId, 0)),
    roomNode,
  );
});

test('slots of idle endpoints are given to others, those of busy ones are not', () => {
  const limits = new QueryLimits(5, owners);
  for (let id = 1; id <= owners; id++) assert.ok(limits.endpointSlot(id, 0) >= 0);
  const [asking, connected] = [limits.endpointSlot(1, 0), limits.endpointSlot(2, 0)];
  const policy = limits.policySlot(1 as PolicyId, 0);
  limits.begin(asking, policy);
  limits.endpoints.hold(connected);
  takeAll(limits, limits.endpointSlot(3, 0), 0);
  assert.equal(limits.endpointSlot(99, 500), -1, 'no endpoint is idle for a second yet');
  assert.equal(limits.generation, 1, 'remembered slots must be looked up again');
  const slot = limits.endpointSlot(99, 2000);
  assert.ok(slot >= 0 && slot !== asking && slot !== connected);
  assert.equal(limits.endpointSlot(1, 2000), asking);
  assert.equal(limits.endpointSlot(2, 2000), connected);
  assert.equal(limits.endpoints.ownerId[slot], 99);
  assert.equal(takeAll(limits, slot, 2000), 5, 'a new owner has a full bucket');
});

test('the compiler tells slots of endpoints and of policies apart', () => {
  const limits = new QueryLimits(10, owners, 100);
  const [endpoint, policy] = [limits.endpointSlot(1, 0), limits.policySlot(1 as PolicyId, 0)];
  // @ts-expect-error: they have changed places
  assert.equal(limits.room(policy, endpoint), roomFree);
});
