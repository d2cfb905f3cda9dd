// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { tcpOctetsGuaranteed, tcpOctetsMax, tcpOctetsPerEndpointMax } from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { TcpOctets } from './octets.ts';

const largest = 65_537;
const owners = 512;
const [none, first, second] = [0, 1, 2] as EndpointSlot[] as [
  EndpointSlot,
  EndpointSlot,
  EndpointSlot,
];

test('an endpoint holds so many octets at most, and gets room again for what it gives back', () => {
  const octets = new TcpOctets(owners);
  assert.ok(octets.take(first, tcpOctetsPerEndpointMax));
  assert.ok(!octets.take(first, 1));
  assert.ok(octets.take(second, 1), 'another endpoint has its own');
  octets.giveBack(first, 10);
  assert.ok(octets.take(first, 10));
  assert.deepEqual(
    [octets.of(first), octets.total],
    [tcpOctetsPerEndpointMax, tcpOctetsPerEndpointMax + 1],
  );
});

test('however much others hold, an endpoint has room for one message of the largest size', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: largest }), { minLength: 1 }), (sizes) => {
      const octets = new TcpOctets(owners);
      for (let endpoint = 1; endpoint < owners; endpoint++) {
        let tries = 0;
        while (octets.take(endpoint as EndpointSlot, sizes[tries % sizes.length]!)) tries += 1;
      }
      assert.ok(octets.total <= tcpOctetsMax + owners * tcpOctetsGuaranteed);
      assert.ok(octets.take(none, largest));
    }),
    { numRuns: 50, seed: 20261128 },
  );
});
