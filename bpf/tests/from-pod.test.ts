// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** from_pod: what a pod may send, and DNS steered to the shared socket. Safety rules 1, 2 and 3. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { addressBytes, macBytes } from '@tandem/testing/address';
import { buildFragments, buildPacket } from '@tandem/testing/packet';
import type { ExtensionSpec, PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture, mark, portP } from './fixture.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());

const own4 = '10.1.0.11';
const own6 = 'fd00:1::11';
const other4 = '10.1.0.12';
const other6 = 'fd00:1::12';
const dns4 = '10.96.0.10';
const dns6 = 'fd00:96::10';
const linkLocal = 'fe80::11';
const gateway6 = 'fe80::1';
const foreignMark = 0x8004;

beforeEach(() => {
  fixture.reset();
  for (const address of [own4, own6]) fixture.endpoint(address, { id: 1, flags: ['DNS'] });
  for (const address of [other4, other6]) fixture.endpoint(address, { id: 2, ifindex: 7 });
  for (const server of [dns4, dns6]) {
    fixture.dnsServer(server, 17);
    fixture.dnsServer(server, 6);
  }
  fixture.class(gateway6, 128, 5, ['NODE']);
  fixture.member(0, 'LIVE');
});

interface Row {
  readonly name: string;
  readonly frame: PacketSpec | Uint8Array;
  /** The counter of the reason; none: passes. */
  readonly drop?: string;
  /** Our bits of the mark of what passes; default seen. */
  readonly mark?: number;
}

function rows(list: readonly Row[]): void {
  for (const row of list) {
    test(row.name, () => {
      const got = fixture.frame('from_pod', row.frame, { mark: foreignMark | mark.redirect });
      assert.equal(got.verdict, row.drop === undefined ? 'next' : 'drop');
      if (row.drop !== undefined) {
        assert.deepEqual(got.counted, { [row.drop]: 1 });
        const [event, ...more] = fixture.takeEvents();
        assert.ok(event !== undefined && more.length === 0, 'one event');
        assert.equal(event.read('reason'), fixture.structs.number(`TD_COUNT_${row.drop}`));
        assert.equal(event.read('hook'), 0);
        return;
      }
      assert.equal(got.mark & mark.mask, row.mark ?? mark.seen);
      assert.equal(got.mark & ~mark.mask, foreignMark, 'bits of others stay');
      if ((row.mark ?? mark.seen) === mark.redirect) return;
      assert.deepEqual(got.counted, {});
      const sent = row.frame instanceof Uint8Array ? row.frame : buildPacket(row.frame);
      assert.deepEqual(got.bytes, sent, 'bytes unchanged');
    });
  }
}

function udp(source: string, destination: string, destinationPort = 443): PacketSpec {
  return {
    ip: { source, destination },
    udp: { sourcePort: 4000, destinationPort },
    payload: 'data',
  };
}

function tcp(source: string, destination: string, destinationPort = 443): PacketSpec {
  return {
    ip: { source, destination },
    tcp: { sourcePort: 4000, destinationPort, flags: ['syn'] },
  };
}

function icmp6(
  source: string,
  destination: string,
  type: number,
  options: { readonly ttl?: number; readonly target?: string; readonly ext?: ExtensionSpec[] } = {},
): PacketSpec {
  const target = options.target;
  return {
    ip: { source, destination, ttl: options.ttl ?? 255, extensions: options.ext ?? [] },
    icmp: { type },
    payload: target === undefined ? new Uint8Array(16) : addressBytes(target),
  };
}

const routerAlert: ExtensionSpec = {
  kind: 'hop-by-hop',
  options: Uint8Array.of(5, 2, 0, 0, 1, 0),
};

describe('source (rule 3)', () => {
  rows([
    { name: 'own IPv4 address', frame: udp(own4, '1.2.3.4') },
    { name: 'own IPv6 address', frame: tcp(own6, '2001:db8::1') },
    { name: "another pod's IPv4 address", frame: udp(other4, '1.2.3.4'), drop: 'DROP_SPOOFED' },
    { name: "another pod's IPv6 address", frame: tcp(other6, '2001:db8::1'), drop: 'DROP_SPOOFED' },
    { name: 'an address of nobody', frame: udp('9.9.9.9', '1.2.3.4'), drop: 'DROP_SPOOFED' },
    {
      name: 'no IPv4 address (DHCP)',
      frame: udp('0.0.0.0', '255.255.255.255', 67),
      drop: 'DROP_SPOOFED',
    },
    { name: 'own IPv4 address in an IPv6 header', frame: v4Mapped('source'), drop: 'DROP_PARSE' },
    {
      name: 'an IPv4 destination in an IPv6 header',
      frame: v4Mapped('destination'),
      drop: 'DROP_PARSE',
    },
  ]);
});

function v4Mapped(end: 'source' | 'destination'): Uint8Array {
  const frame = buildPacket(udp(own6, '2001:db8::1'));
  const at = 14 + (end === 'source' ? 8 : 24);
  frame.set(addressBytes(`::ffff:${own4}`), at);
  return frame;
}

describe('layer 2 (rule 2)', () => {
  const frame = udp(own4, '1.2.3.4');
  const arp = (senderAddress: string, operation: 'request' | 'reply' = 'request'): PacketSpec => ({
    arp: { operation, senderAddress, targetAddress: '169.254.1.1' },
  });
  rows([
    {
      name: 'VLAN 0 in the frame',
      frame: { ...frame, ethernet: { vlans: [{ id: 0 }] } },
      drop: 'DROP_VLAN',
    },
    {
      name: 'a service tag in the frame',
      frame: { ...frame, ethernet: { vlans: [{ id: 7, tpid: 0x88a8 }] } },
      drop: 'DROP_VLAN',
    },
    {
      name: 'LLDP',
      frame: { ethernet: { type: 0x88cc }, payload: 'x'.repeat(46) },
      drop: 'DROP_ETHERTYPE',
    },
    {
      name: 'a length field (LLC)',
      frame: { ethernet: { type: 46 }, payload: 'x'.repeat(46) },
      drop: 'DROP_ETHERTYPE',
    },
    { name: 'ARP request', frame: arp(own4), mark: 0 },
    { name: 'ARP reply', frame: arp(own4, 'reply'), mark: 0 },
    { name: 'ARP probe', frame: arp('0.0.0.0'), mark: 0 },
    { name: "ARP with another pod's address", frame: arp(other4, 'reply'), drop: 'DROP_SPOOFED' },
    {
      name: "ARP with the gateway's address",
      frame: arp('169.254.1.1', 'reply'),
      drop: 'DROP_SPOOFED',
    },
    { name: 'ARP cut short', frame: buildPacket(arp(own4)).subarray(0, 41), drop: 'DROP_PARSE' },
    { name: 'ARP with other lengths', frame: patched(arp(own4), 18, 8), drop: 'DROP_PARSE' },
  ]);
});

/** A built frame with one byte changed. */
function patched(spec: PacketSpec, at: number, value: number): Uint8Array {
  const frame = buildPacket(spec);
  frame[at] = value;
  return frame;
}

describe('neighbour and listener discovery (rule 2)', () => {
  rows([
    {
      name: 'solicitation from link-local',
      frame: icmp6(linkLocal, 'ff02::1:ff00:1', 135),
      mark: 0,
    },
    { name: 'solicitation from the own address', frame: icmp6(own6, 'ff02::1:ff00:1', 135) },
    {
      name: 'duplicate address detection',
      frame: icmp6('::', 'ff02::1:ff00:11', 135, { target: own6 }),
      mark: 0,
    },
    { name: 'router solicitation', frame: icmp6(linkLocal, 'ff02::2', 133), mark: 0 },
    { name: 'own advertisement', frame: icmp6(own6, 'ff02::1', 136, { target: own6 }) },
    {
      name: 'own link-local advertisement',
      frame: icmp6(linkLocal, 'ff02::1', 136, { target: linkLocal }),
      mark: 0,
    },
    {
      name: 'listener report',
      frame: icmp6(linkLocal, 'ff02::16', 143, { ttl: 1, ext: [routerAlert] }),
      mark: 0,
    },
    {
      name: "another pod's advertisement",
      frame: icmp6(linkLocal, 'ff02::1', 136, { target: other6 }),
      drop: 'DROP_SPOOFED',
    },
    {
      name: "the gateway's advertisement",
      frame: icmp6(linkLocal, 'ff02::1', 136, { target: gateway6 }),
      drop: 'DROP_ND',
    },
    {
      name: "solicitation with the gateway's source",
      frame: icmp6(gateway6, 'ff02::1:ff00:1', 135),
      drop: 'DROP_ND',
    },
    {
      name: 'unspecified advertisement',
      frame: icmp6('::', 'ff02::1', 136, { target: own6 }),
      drop: 'DROP_ND',
    },
    { name: 'router advertisement', frame: icmp6(linkLocal, 'ff02::1', 134), drop: 'DROP_ND' },
    {
      name: 'router advertisement from the own address',
      frame: icmp6(own6, 'ff02::1', 134),
      drop: 'DROP_ND',
    },
    { name: 'redirect', frame: icmp6(linkLocal, own6, 137), drop: 'DROP_ND' },
    {
      name: 'router advertisement behind a header',
      frame: icmp6(own6, 'ff02::1', 134, { ext: [routerAlert] }),
      drop: 'DROP_ND',
    },
    {
      name: 'listener query',
      frame: icmp6(linkLocal, 'ff02::1', 130, { ttl: 1 }),
      drop: 'DROP_ND',
    },
    {
      name: 'solicitation that crossed a router',
      frame: icmp6(linkLocal, 'ff02::1', 135, { ttl: 254 }),
      drop: 'DROP_ND',
    },
    {
      name: 'listener report to a host',
      frame: icmp6(linkLocal, other6, 143, { ttl: 1 }),
      drop: 'DROP_ND',
    },
    { name: 'echo from link-local', frame: icmp6(linkLocal, 'ff02::1', 128), drop: 'DROP_ND' },
    { name: 'UDP from link-local', frame: udp(linkLocal, 'ff02::fb', 5353), drop: 'DROP_ND' },
    {
      name: 'solicitation in a fragment',
      frame: icmp6(linkLocal, 'ff02::1', 135, {
        ext: [{ kind: 'fragment', offset: 0, more: true }],
      }),
      drop: 'DROP_ND',
    },
  ]);
});

describe('parsing (T12)', () => {
  const dstopts: ExtensionSpec = { kind: 'destination' };
  const long: ExtensionSpec = { kind: 'destination', options: new Uint8Array(254) };
  const withExt = (extensions: ExtensionSpec[]): PacketSpec => ({
    ...udp(own6, '2001:db8::1'),
    ip: { source: own6, destination: '2001:db8::1', extensions },
  });
  rows([
    { name: 'IPv4 version 5', frame: patched(udp(own4, '1.2.3.4'), 14, 0x55), drop: 'DROP_PARSE' },
    {
      name: 'IPv4 header of 16 bytes',
      frame: patched(udp(own4, '1.2.3.4'), 14, 0x44),
      drop: 'DROP_PARSE',
    },
    {
      name: 'IPv4 total length within the header',
      frame: { ...udp(own4, '1.2.3.4'), ip: { source: own4, destination: '1.2.3.4', length: 19 } },
      drop: 'DROP_PARSE',
    },
    {
      name: 'IPv6 version 4',
      frame: patched(udp(own6, '2001:db8::1'), 14, 0x40),
      drop: 'DROP_PARSE',
    },
    {
      name: 'TCP header cut',
      frame: buildPacket(tcp(own4, '1.2.3.4')).subarray(0, 14 + 20 + 12),
      drop: 'DROP_PARSE',
    },
    {
      name: 'UDP header cut',
      frame: buildPacket(udp(own6, '2001:db8::1')).subarray(0, 14 + 40 + 7),
      drop: 'DROP_PARSE',
    },
    { name: 'options cut', frame: patched(udp(own4, '1.2.3.4'), 14, 0x4f), drop: 'DROP_PARSE' },
    {
      name: 'four extension headers',
      frame: withExt([routerAlert, dstopts, { kind: 'routing' }, dstopts]),
    },
    {
      name: 'five extension headers',
      frame: withExt([routerAlert, dstopts, dstopts, dstopts, dstopts]),
      drop: 'DROP_PARSE',
    },
    {
      name: 'extension headers beyond the limit',
      frame: withExt([long, long, long]),
      drop: 'DROP_PARSE',
    },
    {
      name: 'extension header cut',
      frame: buildPacket(withExt([dstopts])).subarray(0, 14 + 40 + 6),
      drop: 'DROP_PARSE',
    },
    {
      name: 'an unknown protocol',
      frame: { ip: { source: own4, destination: '1.2.3.4', protocol: 253 }, payload: 'x' },
    },
    {
      name: 'IPv4 options toward anybody',
      frame: {
        ...udp(own4, '1.2.3.4'),
        ip: { source: own4, destination: '1.2.3.4', options: Uint8Array.of(1, 1, 1, 1) },
      },
    },
  ]);
});

describe('DNS that policy judges by name', () => {
  for (const [family, own, server] of [
    [4, own4, dns4],
    [6, own6, dns6],
  ] as const) {
    for (const protocol of ['udp', 'tcp'] as const) {
      test(`IPv${family} ${protocol}: port P, redirect mark, right checksum`, () => {
        const spec = protocol === 'udp' ? udp(own, server, 53) : tcp(own, server, 53);
        const got = fixture.frame('from_pod', spec, { mark: foreignMark });
        assert.equal(got.verdict, 'next');
        assert.deepEqual(got.counted, { REDIRECTED: 1 });
        assert.equal(got.mark, foreignMark | mark.redirect);
        assert.deepEqual(got.packet.problems, []);
        const ports = got.packet.udp ?? got.packet.tcp;
        assert.equal(ports?.destinationPort, portP);
        assert.equal(ports?.sourcePort, 4000);
        assert.equal(got.packet.ip?.destination, server, 'addresses stay');
        assert.equal(got.packet.ethernet?.destination, '02:00:00:00:00:02', 'MAC stays');
      });
    }
  }

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

  rows([
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
    assert.equal(fixture.frame('from_pod', udp(own4, dns4, 53)).mark, mark.seen);
    fixture.endpoint(own4, { id: 1, policyId: 2, flags: ['DNS'] });
    assert.equal(fixture.frame('from_pod', udp(own4, dns4, 53)).mark, mark.seen);
  });

  test('an endpoint on hold is not steered', () => {
    fixture.endpoint(own4, { id: 1, flags: ['DNS', 'HOLD'] });
    assert.equal(fixture.frame('from_pod', udp(own4, dns4, 53)).mark, mark.seen);
  });

  test('the wildcard server is everybody, of its protocol', () => {
    fixture.dnsServer('*', 17);
    assert.equal(fixture.frame('from_pod', udp(own4, '8.8.8.8', 53)).mark, mark.redirect);
    assert.equal(fixture.frame('from_pod', udp(own6, '2001:db8::8', 53)).mark, mark.redirect);
    assert.equal(fixture.frame('from_pod', tcp(own4, '8.8.8.8', 53)).mark, mark.seen);
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
  rows([
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
    for (const forged of [mark.redirect, mark.socket, mark.seen]) {
      const got = fixture.frame('from_pod', icmp6(linkLocal, 'ff02::2', 133), { mark: forged });
      assert.equal(got.mark, 0);
      assert.equal(
        fixture.frame('from_pod', udp(own4, '8.8.8.8', 53), { mark: forged }).mark,
        mark.seen,
      );
    }
  });
});

function tinyTcpHead(): Uint8Array {
  const [first] = buildFragments(tcp(own4, dns4, 53), 8);
  assert.ok(first !== undefined);
  return first;
}

test('events are limited per CPU and the rest is counted', () => {
  const frame = buildPacket(udp(other4, '1.2.3.4'));
  const { counted } = fixture.counting(() => {
    for (let i = 0; i < 5; i++)
      fixture.object.program('from_pod').testRun({ data: frame, repeat: 1000 });
  });
  assert.equal(counted['DROP_SPOOFED'], 5000);
  const emitted = fixture.takeEvents().length;
  assert.equal(emitted + (counted['EVENTS_LIMITED'] ?? 0) + (counted['EVENTS_LOST'] ?? 0), 5000);
  assert.ok(emitted >= 1900, `a burst of a second's worth passes: ${emitted}`);
  assert.ok((counted['EVENTS_LIMITED'] ?? 0) > 0, 'the flood is limited');
});
