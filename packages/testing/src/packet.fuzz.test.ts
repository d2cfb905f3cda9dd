// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { addressText } from './address.ts';
import { buildPacket } from './packet.ts';
import { parsePacket } from './packet-parse.ts';
import type { ExtensionSpec, IpSpec, PacketSpec, TcpFlag } from './packet-spec.ts';

const seed = 20261121;
const runs = { seed, numRuns: 300 };

const port = fc.integer({ min: 0, max: 0xffff });
const bytes = (max: number): fc.Arbitrary<Uint8Array> =>
  fc.uint8Array({ minLength: 0, maxLength: max });
const address = (length: number): fc.Arbitrary<string> =>
  fc.uint8Array({ minLength: length, maxLength: length }).map(addressText);
const ipv4: fc.Arbitrary<IpSpec> = fc.record({
  source: address(4),
  destination: address(4),
  ttl: fc.integer({ min: 0, max: 255 }),
  options: bytes(40),
});
const extension: fc.Arbitrary<ExtensionSpec> = fc.oneof(
  fc.record({
    kind: fc.constantFrom('hop-by-hop' as const, 'destination' as const),
    options: bytes(30),
  }),
  fc.record({ kind: fc.constant('routing' as const), data: bytes(20) }),
);
const ipv6: fc.Arbitrary<IpSpec> = fc.record({
  source: address(16),
  destination: address(16),
  extensions: fc.array(extension, { maxLength: 4 }),
});
const flags = fc.subarray(['fin', 'syn', 'rst', 'psh', 'ack', 'urg', 'ece', 'cwr'] as TcpFlag[]);
const transport: fc.Arbitrary<Partial<PacketSpec>> = fc.oneof(
  fc.record({ udp: fc.record({ sourcePort: port, destinationPort: port }) }),
  fc.record({
    tcp: fc.record({ sourcePort: port, destinationPort: port, flags, options: bytes(40) }),
  }),
  fc.record({ icmp: fc.record({ type: fc.constantFrom(8, 128, 129), code: fc.constant(0) }) }),
);

test(`what is built is read back, seed ${seed}`, () => {
  fc.assert(
    fc.property(fc.oneof(ipv4, ipv6), transport, bytes(200), (ip, upper, payload) => {
      const packet = parsePacket(buildPacket({ ip, ...upper, payload }));
      assert.deepEqual(packet.problems, []);
      assert.deepEqual(packet.payload, payload);
      assert.equal(packet.ip?.source, ip.source);
      assert.equal(packet.ip?.destination, ip.destination);
      assert.equal(packet.udp?.destinationPort, upper.udp?.destinationPort);
      assert.deepEqual(packet.tcp?.flags, upper.tcp?.flags);
    }),
    runs,
  );
});

test(`one flipped bit of an IPv4 UDP packet is noticed, seed ${seed}`, () => {
  const packet = buildPacket({
    ip: { source: '10.0.0.1', destination: '10.0.0.2' },
    udp: { sourcePort: 1, destinationPort: 2 },
    payload: 'covered by the checksum',
  });
  fc.assert(
    fc.property(fc.integer({ min: 14 * 8, max: packet.length * 8 - 1 }), (bit) => {
      const broken = packet.slice();
      broken[bit >> 3] = (broken[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      // The only change that no receiver can notice is none; a checksum of zero is not made by one flip.
      assert.notDeepEqual(parsePacket(broken).problems, []);
    }),
    runs,
  );
});

test(`any bytes are read without an exception, seed ${seed}`, () => {
  fc.assert(
    fc.property(bytes(120), fc.constantFrom('ethernet' as const, 'ip' as const), (frame, link) => {
      assert.ok(parsePacket(frame, link).payload.length <= frame.length);
    }),
    { ...runs, numRuns: 2000 },
  );
});
