// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endpointSlotsMax, inFlightPerEndpointMax } from '../limits.ts';
import { EndpointLimits } from './endpoint-limits.ts';

function takeAll(limits: EndpointLimits, slot: number, nowMs: number): number {
  let taken = 0;
  while (limits.takeToken(slot, nowMs)) taken += 1;
  return taken;
}

test('a bucket holds one second of the rate and refills by time', () => {
  const limits = new EndpointLimits(100);
  const slot = limits.slotOf(7, 1000);
  assert.equal(limits.slotOf(7, 2000), slot, 'one slot per endpoint');
  assert.equal(takeAll(limits, slot, 1000), 100);
  assert.equal(takeAll(limits, slot, 1009), 0);
  assert.equal(takeAll(limits, slot, 1010), 1, 'fractions add up');
  assert.equal(takeAll(limits, slot, 1510), 50);
  assert.equal(takeAll(limits, slot, 99_000), 100, 'never more than one second');
  assert.equal(takeAll(limits, slot, 1000), 0, 'a clock that goes back gives nothing');
});

test('buckets are apart', () => {
  const limits = new EndpointLimits(5);
  const [first, second] = [limits.slotOf(1, 0), limits.slotOf(2, 0)];
  assert.notEqual(first, second);
  assert.equal(takeAll(limits, first, 0), 5);
  assert.equal(takeAll(limits, second, 0), 5);
  assert.deepEqual([limits.endpointId[first], limits.endpointId[second]], [1, 2]);
});

test('one endpoint has a sixteenth of the places in flight', () => {
  const limits = new EndpointLimits(5);
  const slot = limits.slotOf(1, 0);
  limits.inFlight[slot] = inFlightPerEndpointMax - 1;
  assert.ok(limits.hasRoom(slot));
  limits.inFlight[slot] = inFlightPerEndpointMax;
  assert.ok(!limits.hasRoom(slot));
});

test('slots of idle endpoints are given to others, those of busy ones are not', () => {
  const limits = new EndpointLimits(5);
  for (let id = 1; id <= endpointSlotsMax; id++) assert.ok(limits.slotOf(id, 0) >= 0);
  const [asking, connected] = [limits.slotOf(1, 0), limits.slotOf(2, 0)];
  limits.inFlight[asking] = 1;
  limits.connections[connected] = 1;
  assert.equal(limits.slotOf(-1 >>> 0, 500), -1, 'nobody is idle for a second yet');
  assert.equal(limits.generation, 1, 'who remembers slots must look again');
  const slot = limits.slotOf(-1 >>> 0, 2000);
  assert.ok(slot >= 0 && slot !== asking && slot !== connected);
  assert.equal(limits.slotOf(1, 2000), asking);
  assert.equal(limits.slotOf(2, 2000), connected);
  assert.equal(limits.endpointId[slot], -1 >>> 0);
});
