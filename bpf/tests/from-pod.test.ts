// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** from_pod: what a pod may send. Safety rules 2 and 3, T12. Steering: from-pod-dns.test.ts. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { addressBytes } from '@tandem/testing/address';
import { buildPacket } from '@tandem/testing/packet';
import type { ExtensionSpec, PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  dns4,
  icmp6,
  linkLocal,
  other4,
  other6,
  own4,
  own6,
  patched,
  routerAlert,
  setUpPods,
  tcp,
  testFrames,
  udp,
} from './from-pod-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpPods(fixture));

describe('source (rule 3)', () => {
  testFrames(fixture, [
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
  const arp = (
    senderAddress: string,
    operation: 'request' | 'reply' = 'request',
    targetAddress = '169.254.1.1',
  ): PacketSpec => ({ arp: { operation, senderAddress, targetAddress } });
  testFrames(fixture, [
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
    { name: 'ARP request', frame: arp(own4) },
    { name: 'ARP reply', frame: arp(own4, 'reply') },
    { name: 'ARP probe for the own address', frame: arp('0.0.0.0', 'request', own4) },
    {
      name: "ARP probe for another pod's address",
      frame: arp('0.0.0.0', 'request', other4),
      drop: 'DROP_SPOOFED',
    },
    { name: "ARP probe for the gateway's", frame: arp('0.0.0.0'), drop: 'DROP_SPOOFED' },
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

describe('neighbour and listener discovery (rule 2)', () => {
  testFrames(fixture, [
    {
      name: 'solicitation from link-local',
      frame: icmp6(linkLocal, 'ff02::1:ff00:1', 135),
    },
    { name: 'solicitation from the own address', frame: icmp6(own6, 'ff02::1:ff00:1', 135) },
    {
      name: 'duplicate address detection',
      frame: icmp6('::', 'ff02::1:ff00:11', 135, { target: own6 }),
    },
    { name: 'router solicitation', frame: icmp6(linkLocal, 'ff02::2', 133) },
    { name: 'own advertisement', frame: icmp6(own6, 'ff02::1', 136, { target: own6 }) },
    {
      name: 'own link-local advertisement',
      frame: icmp6(linkLocal, 'ff02::1', 136, { target: linkLocal }),
    },
    {
      name: 'listener report',
      frame: icmp6(linkLocal, 'ff02::16', 143, { ttl: 1, ext: [routerAlert] }),
    },
    {
      name: "another pod's advertisement",
      frame: icmp6(linkLocal, 'ff02::1', 136, { target: other6 }),
      drop: 'DROP_SPOOFED',
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
      name: 'multicast router advertisement',
      frame: icmp6(own6, 'ff02::6a', 151, { ttl: 1 }),
      drop: 'DROP_ND',
    },
    {
      name: 'multicast router termination in a fragment',
      frame: icmp6(own6, 'ff02::6a', 153, {
        ttl: 1,
        ext: [{ kind: 'fragment', offset: 0, more: true }],
      }),
      drop: 'DROP_ND',
    },
    { name: 'multicast router solicitation', frame: icmp6(own6, 'ff02::2', 152, { ttl: 1 }) },
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

describe('multicast routers (rule 2)', () => {
  const igmp = (type: number, ip: Partial<NonNullable<PacketSpec['ip']>> = {}): PacketSpec => ({
    ip: { source: own4, destination: '224.0.0.1', ttl: 1, protocol: 2, ...ip },
    payload: Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0),
  });
  const options = Uint8Array.of(148, 4, 0, 0); // router alert
  const pim = (source: string, destination: string): PacketSpec => ({
    ip: { source, destination, ttl: 1, protocol: 103 },
    payload: Uint8Array.of(0x20, 0, 0xdf, 0xff),
  });
  testFrames(fixture, [
    { name: 'IGMP query', frame: igmp(0x11), drop: 'DROP_ND' },
    { name: 'IGMP query with router alert', frame: igmp(0x11, { options }), drop: 'DROP_ND' },
    {
      name: 'IGMP query to one group',
      frame: igmp(0x11, { destination: '239.1.2.3' }),
      drop: 'DROP_ND',
    },
    {
      name: 'IGMP query in a fragment',
      frame: igmp(0x11, { fragment: { offset: 0, more: true } }),
      drop: 'DROP_ND',
    },
    { name: 'IGMP report', frame: igmp(0x16, { destination: '239.1.2.3' }) },
    { name: 'IGMPv3 report', frame: igmp(0x22, { destination: '224.0.0.22', options }) },
    { name: 'IGMP leave', frame: igmp(0x17, { destination: '224.0.0.2' }) },
    {
      name: 'multicast router advertisement',
      frame: igmp(0x30, { destination: '224.0.0.106' }),
      drop: 'DROP_ND',
    },
    {
      name: 'IGMP without a type',
      frame: { ip: { source: own4, destination: '224.0.0.1', protocol: 2 } } as PacketSpec,
      drop: 'DROP_PARSE',
    },
    { name: 'PIM hello', frame: pim(own4, '224.0.0.13'), drop: 'DROP_ND' },
    { name: 'PIM hello over IPv6', frame: pim(own6, 'ff02::d'), drop: 'DROP_ND' },
    { name: 'PIM to a host, which judge decides on', frame: pim(own4, '1.2.3.4') },
  ]);
});

describe('parsing (T12)', () => {
  const dstopts: ExtensionSpec = { kind: 'destination' };
  const long: ExtensionSpec = { kind: 'destination', options: new Uint8Array(254) };
  const withExt = (extensions: ExtensionSpec[]): PacketSpec => ({
    ...udp(own6, '2001:db8::1'),
    ip: { source: own6, destination: '2001:db8::1', extensions },
  });
  testFrames(fixture, [
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

describe('events (F12)', () => {
  const perSecond = 2000;
  const perEndpoint = 250;
  const guaranteed = 4;
  /** Time that the floods of a test took: each of its seconds adds to what may be told. */
  let floodSeconds = 0;
  beforeEach(() => {
    floodSeconds = 0;
  });
  const most = (perSecondMax: number): number => perSecondMax * (1.5 + floodSeconds);
  /** Drops of `count` frames; how many of them were told. */
  const flood = (frame: PacketSpec, count: number): number => {
    const data = buildPacket(frame);
    const start = performance.now();
    const { counted } = fixture.counting(() => {
      for (let done = 0; done < count; done += 500)
        fixture.object.program('from_pod').testRun({ data, repeat: 500 });
    });
    floodSeconds += (performance.now() - start) / 1000;
    assert.equal(counted['DROP_FRAGMENT'] ?? counted['DROP_SPOOFED'], count);
    const emitted = fixture.takeEvents().length;
    assert.equal(emitted + (counted['EVENTS_LIMITED'] ?? 0) + (counted['EVENTS_LOST'] ?? 0), count);
    return emitted;
  };
  /** A fragment toward DNS: a drop of the endpoint, not only of the interface. */
  const fragment = (source: string): PacketSpec => ({
    ...udp(source, dns4, 53),
    ip: { source, destination: dns4, fragment: { offset: 0, more: true } },
  });
  const told = (frame: PacketSpec): number => {
    fixture.frame('from_pod', frame);
    return fixture.takeEvents().length;
  };

  test('each endpoint has a share of the events of a CPU, and the rest is counted', () => {
    const emitted = flood(fragment(own4), 5000);
    // a burst of a second's worth, and what the time of the flood adds
    assert.ok(emitted >= perEndpoint && emitted < most(perEndpoint), `${emitted}`);
  });

  test('a flood of one endpoint hides no drop of another', () => {
    fixture.endpoint(other4, { id: 2, flags: ['DNS'] });
    flood(fragment(own4), 5000);
    assert.equal(told(fragment(other4)), 1);
  });

  test('drops of no endpoint are of the interface', () => {
    fixture.endpoint(own4, { id: 5, flags: ['DNS'] });
    const emitted = flood(udp('9.9.9.9', '1.2.3.4'), 5000);
    assert.ok(emitted >= perEndpoint && emitted < most(perEndpoint), `${emitted}`);
    assert.equal(told(fragment(own4)), 1, 'the endpoint behind it has its own');
  });

  test('all endpoints together have no more than the CPU, and each what is kept for it', () => {
    let emitted = 0;
    for (let id = 10; id < 30; id++) {
      fixture.endpoint(own4, { id, flags: ['DNS'] });
      const own = flood(fragment(own4), 500);
      assert.ok(own >= guaranteed, `${own} of endpoint ${id}`);
      emitted += own;
    }
    assert.ok(emitted >= 0.9 * 0.75 * perSecond && emitted < most(perSecond), `${emitted}`);
  });
});
