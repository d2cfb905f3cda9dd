// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** from_pod: DNS steered to the shared socket, and that nothing walks around it. Safety rule 1, T12. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { macBytes } from '@tandem/testing/address';
import { buildFragments } from '@tandem/testing/packet';
import type { ExtensionSpec, PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  dns4,
  dns6,
  foreignMark,
  icmp6,
  linkLocal,
  own4,
  own6,
  routerAlert,
  setUpPods,
  tcp,
  testFrames,
  udp,
} from './from-pod-world.ts';
import { mark, portP } from './kernel-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpPods(fixture));

describe('DNS that policy judges by name', () => {
  for (const [family, own, server] of [
    [4, own4, dns4],
    [6, own6, dns6],
  ] as const) {
    for (const protocol of ['udp', 'tcp'] as const) {
      test(`IPv${family} ${protocol}: port P, the mark, right checksum`, () => {
        const spec = protocol === 'udp' ? udp(own, server, 53) : tcp(own, server, 53);
        const got = fixture.frame('from_pod', spec, { mark: foreignMark });
        assert.equal(got.verdict, 'next');
        assert.deepEqual(got.counted, { REDIRECTED: 1 });
        assert.equal(got.mark, foreignMark | mark);
        assert.deepEqual(got.packet.problems, []);
        const ports = got.packet.udp ?? got.packet.tcp;
        assert.equal(ports?.destinationPort, portP);
        assert.equal(ports?.sourcePort, 4000);
        assert.equal(got.packet.ip?.destination, server, 'addresses stay');
        assert.equal(got.packet.ethernet?.destination, '02:00:00:00:00:02', 'MAC stays');
      });
    }
  }

  for (const [family, own, server] of [
    [4, own4, dns4],
    [6, own6, dns6],
  ] as const) {
    test(`IPv${family}: a reply to a client that asked from port 53 is no query`, () => {
      const reply = { ...udp(own, server, 53), payload: Uint8Array.of(0, 7, 0x85, 0x80) };
      // Also while no member lives: it needs none.
      for (const state of ['LIVE', 'DEAD'] as const) {
        fixture.member(0, state);
        const got = fixture.frame('from_pod', reply, { mark: foreignMark | mark });
        assert.equal(got.verdict, 'next');
        assert.deepEqual(
          [got.counted, got.mark],
          [{}, foreignMark],
          'judge sees a packet like any',
        );
        assert.equal(got.packet.udp?.destinationPort, 53);
      }
    });
  }

  test('what is too short to be a reply is steered', () => {
    for (const payload of [new Uint8Array(0), Uint8Array.of(0, 7)]) {
      const got = fixture.frame('from_pod', { ...udp(own4, dns4, 53), payload });
      assert.deepEqual(got.counted, { REDIRECTED: 1 });
    }
  });

  test('UDP over IPv4 without a checksum stays without', () => {
    const spec = udp(own4, dns4, 53);
    const got = fixture.frame('from_pod', {
      ...spec,
      udp: { sourcePort: 4000, destinationPort: 53, checksum: 0 },
    });
    assert.equal(got.packet.udp?.checksum, 0);
    assert.equal(got.packet.udp?.destinationPort, portP);
  });

  test('a checksum that comes out as 0 is sent as 0xffff', () => {
    // one's complement: with source port s the checksum shifts by exactly s, so some port gives 0
    const at = (sourcePort: number): number =>
      fixture.frame('from_pod', {
        ip: { source: own4, destination: dns4 },
        udp: { sourcePort, destinationPort: 53 },
        payload: 'data',
      }).packet.udp?.checksum ?? 0;
    const sourcePort = (1000 + at(1000)) % 0xffff;
    const got = fixture.frame('from_pod', {
      ip: { source: own4, destination: dns4 },
      udp: { sourcePort, destinationPort: 53 },
      payload: 'data',
    });
    assert.equal(got.packet.udp?.checksum, 0xffff);
    assert.deepEqual(got.packet.problems, []);
  });

  test('a bridge port: the frame goes to the bridge itself', () => {
    fixture.endpoint(own4, {
      id: 1,
      flags: ['DNS', 'BRIDGED'],
      bridgeMac: macBytes('02:00:00:00:00:aa'),
    });
    const got = fixture.frame('from_pod', udp(own4, dns4, 53));
    assert.equal(got.packet.ethernet?.destination, '02:00:00:00:00:aa');
    assert.equal(got.packet.ethernet?.source, '02:00:00:00:00:01');
    assert.deepEqual(got.packet.problems, []);
    const other = fixture.frame('from_pod', udp(own4, dns4, 443));
    assert.equal(
      other.packet.ethernet?.destination,
      '02:00:00:00:00:02',
      'only what is redirected',
    );
  });

  testFrames(fixture, [
    { name: 'another port of the server', frame: udp(own4, dns4, 5353) },
    { name: 'port 53 of another address', frame: udp(own4, '8.8.8.8', 53) },
    {
      name: 'port P of anybody, which is a port like any other',
      frame: udp(own4, '8.8.8.8', portP),
    },
    {
      name: 'another protocol to port 53',
      frame: {
        ip: { source: own4, destination: dns4, protocol: 132 },
        payload: Uint8Array.of(15, 160, 0, 53, 0, 0, 0, 0, 0, 0, 0, 0),
      },
    },
  ]);

  test('only the endpoint with DNS rules, and only its own policy', () => {
    fixture.endpoint(own4, { id: 1, flags: [] });
    assert.equal(fixture.frame('from_pod', udp(own4, dns4, 53)).mark, 0);
    fixture.endpoint(own4, { id: 1, policyId: 2, flags: ['DNS'] });
    assert.equal(fixture.frame('from_pod', udp(own4, dns4, 53)).mark, 0);
  });

  test('an endpoint on hold is not steered', () => {
    fixture.endpoint(own4, { id: 1, flags: ['DNS', 'HOLD'] });
    assert.equal(fixture.frame('from_pod', udp(own4, dns4, 53)).mark, 0);
  });

  test('the wildcard server is everybody, of its protocol', () => {
    fixture.dnsServer('*', 17);
    assert.equal(fixture.frame('from_pod', udp(own4, '8.8.8.8', 53)).mark, mark);
    assert.equal(fixture.frame('from_pod', udp(own6, '2001:db8::8', 53)).mark, mark);
    assert.equal(fixture.frame('from_pod', tcp(own4, '8.8.8.8', 53)).mark, 0);
  });

  test('without a LIVE member nothing is steered and nothing passes', () => {
    for (const state of ['NONE', 'DRAIN', 'DEAD'] as const) {
      fixture.member(0, state);
      const got = fixture.frame('from_pod', udp(own4, dns4, 53));
      assert.equal(got.verdict, 'drop', state);
      assert.deepEqual(got.counted, { DROP_NO_MEMBER: 1 });
    }
    fixture.member(3, 'LIVE', { ageMs: 60_000 });
    assert.equal(fixture.frame('from_pod', udp(own4, dns4, 53)).verdict, 'next', 'stale is LIVE');
  });
});

describe('steering cannot be walked around (rule 1, T12)', () => {
  const options = Uint8Array.of(1, 1, 1, 1);
  const dnsWith = (extensions: ExtensionSpec[]): PacketSpec => ({
    ...udp(own6, dns6, 53),
    ip: { source: own6, destination: dns6, extensions },
  });
  const big = { ...udp(own4, dns4, 53), payload: 'q'.repeat(64) };
  const big6 = { ...udp(own6, dns6, 53), payload: 'q'.repeat(64) };
  const [head4, tail4] = buildFragments(big, 32);
  const [head6, tail6] = buildFragments(big6, 32);
  assert.ok(
    head4 !== undefined && tail4 !== undefined && head6 !== undefined && tail6 !== undefined,
  );
  const tinyHead = buildFragments(big, 8)[0] ?? head4;
  testFrames(fixture, [
    {
      name: 'IPv4 options',
      frame: { ...udp(own4, dns4, 53), ip: { source: own4, destination: dns4, options } },
      drop: 'DROP_OPTIONS',
    },
    {
      name: 'IPv4 options on TCP',
      frame: { ...tcp(own4, dns4, 53), ip: { source: own4, destination: dns4, options } },
      drop: 'DROP_OPTIONS',
    },
    { name: 'hop-by-hop header', frame: dnsWith([routerAlert]), drop: 'DROP_OPTIONS' },
    {
      name: 'destination options',
      frame: dnsWith([{ kind: 'destination' }]),
      drop: 'DROP_OPTIONS',
    },
    { name: 'routing header', frame: dnsWith([{ kind: 'routing' }]), drop: 'DROP_OPTIONS' },
    {
      name: 'atomic fragment',
      frame: dnsWith([{ kind: 'fragment', offset: 0, more: false }]),
      drop: 'DROP_OPTIONS',
    },
    { name: 'first fragment, IPv4', frame: head4, drop: 'DROP_FRAGMENT' },
    { name: 'later fragment, IPv4', frame: tail4, drop: 'DROP_FRAGMENT' },
    { name: 'first fragment, IPv6', frame: head6, drop: 'DROP_FRAGMENT' },
    { name: 'later fragment, IPv6', frame: tail6, drop: 'DROP_FRAGMENT' },
    { name: 'first fragment of 8 bytes', frame: tinyHead, drop: 'DROP_FRAGMENT' },
    {
      name: 'header in two: the port is not in the first fragment',
      frame: tinyTcpHead(),
      drop: 'DROP_PARSE',
    },
    {
      name: 'fragments toward anybody else',
      frame: buildFragments(udp(own4, '8.8.8.8', 53), 8)[1] ?? head4,
    },
  ]);

  test('toward a wildcard server the head is dropped, a tail of other traffic is not', () => {
    fixture.dnsServer('*', 17);
    const [head, tail] = buildFragments(
      { ...udp(own4, '8.8.8.8', 53), payload: 'q'.repeat(64) },
      32,
    );
    assert.ok(head !== undefined && tail !== undefined);
    assert.deepEqual(fixture.frame('from_pod', head).counted, { DROP_FRAGMENT: 1 });
    assert.equal(fixture.frame('from_pod', tail).verdict, 'next');
  });

  test("a pod's own marks are cleared", () => {
    for (const forged of [mark, 0xffffffff, 0]) {
      const others = (forged & ~mark) >>> 0;
      const got = fixture.frame('from_pod', icmp6(linkLocal, 'ff02::2', 133), { mark: forged });
      assert.equal(got.mark, others);
      const query = fixture.frame('from_pod', udp(own4, '8.8.8.8', 53), { mark: forged });
      assert.equal(query.mark, others);
    }
  });
});

function tinyTcpHead(): Uint8Array {
  const [first] = buildFragments(tcp(own4, dns4, 53), 8);
  assert.ok(first !== undefined);
  return first;
}
