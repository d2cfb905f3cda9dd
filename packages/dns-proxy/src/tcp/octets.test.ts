// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { tcpOctetsGuaranteed, tcpOctetsMax, tcpOctetsPerEndpointMax } from '../limits.ts';
import { TcpOctets } from './octets.ts';

const largest = 65_537;
const owners = 512;

test('an endpoint holds so many octets at most, and gets room again for what it gives back', () => {
  const octets = new TcpOctets(owners);
  assert.ok(octets.take(1, tcpOctetsPerEndpointMax));
  assert.ok(!octets.take(1, 1));
  assert.ok(octets.take(2, 1), 'another endpoint has its own');
  octets.giveBack(1, 10);
  assert.ok(octets.take(1, 10));
  assert.deepEqual(
    [octets.of(1), octets.total],
    [tcpOctetsPerEndpointMax, tcpOctetsPerEndpointMax + 1],
  );
});

test('however much others hold, an endpoint has room for one message of the largest size', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: largest }), { minLength: 1 }), (sizes) => {
      const octets = new TcpOctets(owners);
      for (let endpoint = 1; endpoint < owners; endpoint++) {
        let tries = 0;
        while (octets.take(endpoint, sizes[tries % sizes.length]!)) tries += 1;
      }
      assert.ok(octets.total <= tcpOctetsMax + owners * tcpOctetsGuaranteed);
      assert.ok(octets.take(0, largest));
    }),
    { numRuns: 50, seed: 20261128 },
  );
});
