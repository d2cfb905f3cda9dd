// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * from_pod: the Ethernet address of a bridged pod in frames, ARP and neighbour discovery, and the addresses that
 * its messages claim (F1, F14, u15, u21). Each row on a bridge port whose MAC is known, on one whose MAC is not,
 * and on a point-to-point veth: only the first compares Ethernet addresses.
 */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { addressBytes, macBytes } from '@tandem/testing/address';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  classifyAtBridge,
  dns4,
  type FrameRow,
  gateway6,
  linkLocal,
  other4,
  other6,
  own4,
  own6,
  random6,
  setUpPods,
  tcp,
  testFrames,
  udp,
} from './from-pod-world.ts';
import { mark } from './kernel-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());

const ownMac = '02:00:00:00:00:01';
const otherMac = '02:00:00:00:00:0c';
const none = '00:00:00:00:00:00';
const bridgeMac = macBytes('02:00:00:00:c0:01');
const gateway4 = '10.1.0.1';

type Kind = 'bridge, MAC known' | 'bridge, MAC not known' | 'point-to-point';

function setUpKind(kind: Kind): void {
  setUpPods(fixture);
  fixture.class(gateway4, 32, 5, ['NODE', 'CLUSTER', 'HOST']);
  // The agent does not classify the node's end of a pod's own veth: by a claim the pod harms itself alone.
  if (kind === 'point-to-point') return;
  classifyAtBridge(fixture);
  const mac = kind === 'bridge, MAC known' ? { mac: macBytes(ownMac) } : {};
  for (const address of [own4, own6]) {
    fixture.endpoint(address, { id: 1, flags: ['DNS', 'BRIDGED'], bridgeMac, ...mac });
  }
}

const from = (source: string, spec: PacketSpec): PacketSpec => ({ ...spec, ethernet: { source } });

function arp(
  senderMac: string,
  senderAddress: string,
  targetAddress = gateway4,
  operation: 'request' | 'reply' = 'request',
): PacketSpec {
  return from(ownMac, { arp: { operation, senderMac, senderAddress, targetAddress } });
}

/** A link-layer address option of neighbour discovery, or another one of 8 octets. */
function option(type: number, mac: string): Uint8Array {
  return Uint8Array.of(type, 1, ...macBytes(mac));
}

function discovery(
  type: 133 | 135 | 136,
  source: string,
  target: string,
  ...options: readonly Uint8Array[]
): PacketSpec {
  const body = type === 133 ? [] : [addressBytes(target)];
  return from(ownMac, {
    ip: { source, destination: 'ff02::1', ttl: 255 },
    icmp: { type },
    payload: new Uint8Array(Buffer.concat([...body, ...options])),
  });
}

/** The first of several pieces. */
function inFragment(spec: PacketSpec): PacketSpec {
  assert.ok(spec.ip !== undefined);
  const extensions = [{ kind: 'fragment', offset: 0, more: true }] as const;
  return { ...spec, ip: { ...spec.ip, extensions } };
}

interface ClaimRow {
  readonly name: string;
  readonly frame: PacketSpec;
  /** Where the MAC is known. */
  readonly drop?: string;
  /** Everywhere, or also at a bridge port whose MAC is not known. */
  readonly always?: boolean | 'bridge';
  /** Where it passes. */
  readonly mark?: number;
}

const spoofed = 'DROP_SPOOFED';
const rows: readonly ClaimRow[] = [
  // frames
  { name: 'a frame with the own MAC', frame: from(ownMac, udp(own4, '1.2.3.4')) },
  { name: 'an IPv6 frame with the own MAC', frame: from(ownMac, tcp(own6, '2001:db8::1')) },
  {
    name: "a frame with another pod's MAC",
    frame: from(otherMac, udp(own4, '1.2.3.4')),
    drop: spoofed,
  },
  {
    name: "an IPv6 frame with another pod's MAC",
    frame: from(otherMac, tcp(own6, '2001:db8::1')),
    drop: spoofed,
  },
  {
    name: "a frame with the bridge's MAC",
    frame: from('02:00:00:00:c0:01', udp(own4, '1.2.3.4')),
    drop: spoofed,
  },
  {
    name: 'a group address as MAC',
    frame: from('ff:ff:ff:ff:ff:ff', udp(own4, '1.2.3.4')),
    drop: spoofed,
  },
  { name: 'no MAC at all', frame: from(none, udp(own4, '1.2.3.4')), drop: spoofed },
  {
    name: 'a MAC that differs in the last bit',
    frame: from('02:00:00:00:00:00', udp(own4, '1.2.3.4')),
    drop: spoofed,
  },
  {
    name: 'a MAC that differs in the first octet',
    frame: from('06:00:00:00:00:01', udp(own4, '1.2.3.4')),
    drop: spoofed,
  },
  { name: 'the own MAC, DNS', frame: from(ownMac, udp(own4, dns4, 53)), mark },
  {
    name: "DNS with another pod's MAC",
    frame: from(otherMac, udp(own4, dns4, 53)),
    drop: spoofed,
    mark,
  },
  {
    name: "a solicitation from link-local with another pod's MAC",
    frame: from(otherMac, discovery(135, linkLocal, gateway6)),
    drop: spoofed,
  },
  {
    name: "an ARP request in a frame with another pod's MAC",
    frame: from(otherMac, arp(ownMac, own4)),
    drop: spoofed,
  },
  // ARP
  { name: 'an ARP request', frame: arp(ownMac, own4) },
  { name: 'an ARP reply', frame: arp(ownMac, own4, gateway4, 'reply') },
  { name: 'a gratuitous ARP', frame: arp(ownMac, own4, own4) },
  { name: "ARP: another pod's MAC for the own address", frame: arp(otherMac, own4), drop: spoofed },
  { name: 'ARP: no MAC for the own address', frame: arp(none, own4), drop: spoofed },
  {
    name: "ARP: the own MAC for another pod's address",
    frame: arp(ownMac, other4, gateway4, 'reply'),
    drop: spoofed,
    always: true,
  },
  {
    name: "ARP: the own MAC for the gateway's address",
    frame: arp(ownMac, gateway4, own4, 'reply'),
    drop: spoofed,
    always: true,
  },
  { name: 'ARP probe for the own address', frame: arp(ownMac, '0.0.0.0', own4) },
  {
    name: "ARP probe for another pod's address",
    frame: arp(ownMac, '0.0.0.0', other4),
    drop: spoofed,
    always: true,
  },
  {
    name: "ARP probe for the gateway's address",
    frame: arp(ownMac, '0.0.0.0', gateway4),
    drop: spoofed,
    always: true,
  },
  {
    name: "ARP probe for the own address with another pod's MAC",
    frame: arp(otherMac, '0.0.0.0', own4),
    drop: spoofed,
  },
  // neighbour discovery
  {
    name: 'solicitation with the own MAC',
    frame: discovery(135, own6, gateway6, option(1, ownMac)),
  },
  {
    name: 'solicitation from link-local with the own MAC',
    frame: discovery(135, linkLocal, gateway6, option(1, ownMac)),
  },
  {
    name: "solicitation with another pod's MAC",
    frame: discovery(135, own6, gateway6, option(1, otherMac)),
    drop: spoofed,
  },
  {
    name: "solicitation from link-local with another pod's MAC",
    frame: discovery(135, linkLocal, gateway6, option(1, otherMac)),
    drop: spoofed,
  },
  {
    name: 'advertisement of the own address and MAC',
    frame: discovery(136, own6, own6, option(2, ownMac)),
  },
  {
    name: "advertisement of the own address with another pod's MAC",
    frame: discovery(136, own6, own6, option(2, otherMac)),
    drop: spoofed,
  },
  {
    name: "router solicitation with another pod's MAC",
    frame: discovery(133, linkLocal, '', option(1, otherMac)),
    drop: spoofed,
  },
  {
    name: 'router solicitation with the own MAC',
    frame: discovery(133, linkLocal, '', option(1, ownMac)),
  },
  {
    name: 'a nonce before the own MAC (RFC 7527)',
    frame: discovery(135, own6, gateway6, option(14, otherMac), option(1, ownMac)),
  },
  {
    name: "a nonce before another pod's MAC",
    frame: discovery(135, own6, gateway6, option(14, otherMac), option(1, otherMac)),
    drop: spoofed,
  },
  {
    name: "a long option before another pod's MAC",
    frame: discovery(
      135,
      own6,
      gateway6,
      Uint8Array.of(14, 2, ...new Uint8Array(14)),
      option(1, otherMac),
    ),
    drop: spoofed,
  },
  {
    name: "another pod's MAC as the second of two",
    frame: discovery(136, own6, own6, option(2, ownMac), option(2, otherMac)),
    drop: spoofed,
  },
  {
    name: "another pod's MAC as the fourth option",
    frame: discovery(
      136,
      own6,
      own6,
      option(14, none),
      option(14, none),
      option(14, none),
      option(2, otherMac),
    ),
    drop: spoofed,
  },
  {
    name: 'more options than are looked through',
    frame: discovery(
      136,
      own6,
      own6,
      ...Array.from({ length: 4 }, () => option(14, none)),
      option(2, ownMac),
    ),
    drop: 'DROP_PARSE',
    always: true,
  },
  {
    name: 'an option of length 0 (RFC 4861: discard)',
    frame: discovery(135, own6, gateway6, Uint8Array.of(1, 0, ...macBytes(otherMac))),
    drop: 'DROP_PARSE',
    always: true,
  },
  {
    name: 'duplicate address detection for the link-local address of the own MAC',
    frame: discovery(135, '::', 'fe80::ff:fe00:1'),
  },
  {
    name: "duplicate address detection for the link-local address of another pod's MAC",
    frame: discovery(135, '::', 'fe80::ff:fe00:c'),
    drop: spoofed,
  },
  {
    name: "advertisement of the link-local address of another pod's MAC",
    frame: discovery(136, own6, 'fe80::ff:fe00:c', option(2, ownMac)),
    drop: spoofed,
  },
  {
    name: "solicitation from the link-local address of another pod's MAC",
    frame: discovery(135, 'fe80::ff:fe00:c', gateway6, option(1, ownMac)),
    drop: spoofed,
  },
  {
    name: 'solicitation from the link-local address of the own MAC',
    frame: discovery(135, 'fe80::ff:fe00:1', gateway6, option(1, ownMac)),
  },
  {
    name: 'an advertisement in fragments, which is believed once it is put together (RFC 6980)',
    frame: inFragment(discovery(136, own6, other6, option(2, ownMac))),
    drop: 'DROP_ND',
    always: true,
  },
  {
    name: 'an advertisement about itself in fragments',
    frame: inFragment(discovery(136, own6, own6, option(2, ownMac))),
    drop: 'DROP_ND',
    always: true,
  },
  {
    name: 'a router advertisement in fragments',
    frame: inFragment({
      ...from(ownMac, {}),
      ip: { source: own6, destination: 'ff02::1', ttl: 255 },
      icmp: { type: 134 },
      payload: new Uint8Array(16),
    }),
    drop: 'DROP_ND',
    always: true,
  },
  {
    name: 'an echo request in fragments',
    frame: inFragment({
      ...from(ownMac, {}),
      ip: { source: own6, destination: '2001:db8::1' },
      icmp: { type: 128 },
      payload: new Uint8Array(16),
    }),
  },
  {
    name: "duplicate address detection for another pod's address (u21)",
    frame: discovery(135, '::', other6),
    drop: spoofed,
    always: true,
  },
  { name: 'duplicate address detection for the own address', frame: discovery(135, '::', own6) },
  {
    name: 'duplicate address detection for a link-local address',
    frame: discovery(135, '::', linkLocal),
  },
  ...[gateway6, random6].flatMap((address) =>
    (
      [
        ['duplicate address detection for', discovery(135, '::', address)],
        ['advertisement of', discovery(136, linkLocal, address, option(2, ownMac))],
        ['advertisement from the own address of', discovery(136, own6, address, option(2, ownMac))],
        ['advertisement without an option of', discovery(136, own6, address)],
        ['solicitation from', discovery(135, address, own6, option(1, ownMac))],
        ['router solicitation from', discovery(133, address, '', option(1, ownMac))],
      ] as const
    ).map(
      ([what, frame]): ClaimRow => ({
        name: `${what} the bridge's link-local address ${address} (u15)`,
        frame,
        drop: 'DROP_ND',
        always: 'bridge',
      }),
    ),
  ),
  {
    name: "advertisement of another pod's address",
    frame: discovery(136, own6, other6, option(2, ownMac)),
    drop: spoofed,
    always: true,
  },
  {
    name: 'advertisement of an address of nobody',
    frame: discovery(136, own6, '2001:db8::7', option(2, ownMac)),
    drop: spoofed,
    always: true,
  },
];

for (const kind of ['bridge, MAC known', 'bridge, MAC not known', 'point-to-point'] as const) {
  describe(kind, () => {
    beforeEach(() => setUpKind(kind));
    testFrames(
      fixture,
      rows.map(({ always = false, drop, ...row }): FrameRow => {
        const isEverywhere = always === 'bridge' ? kind !== 'point-to-point' : always;
        const isDropped = drop !== undefined && (isEverywhere || kind === 'bridge, MAC known');
        return isDropped ? { ...row, drop } : row;
      }),
    );
  });
}

describe('a checksum that a device is to write over a claim, and where it belongs', () => {
  beforeEach(() => setUpKind('bridge, MAC known'));
  const quoting: PacketSpec = {
    ip: { source: own4, destination: '1.2.3.4' },
    icmp: { type: 3, code: 1, quoted: udp('1.2.3.4', own4) },
  };
  const list = [
    { name: 'the sender of ARP', frame: arp(ownMac, own4), over: 14 + 16, own: null },
    {
      name: 'the target of an advertisement',
      frame: discovery(136, own6, own6, option(2, ownMac)),
      over: 14 + 40 + 22,
      own: 14 + 40 + 2,
    },
    {
      name: 'the target of duplicate address detection',
      frame: discovery(135, '::', own6),
      over: 14 + 40 + 22,
      own: 14 + 40 + 2,
    },
    {
      name: 'the flow that an ICMP error quotes',
      frame: from(ownMac, quoting),
      over: 14 + 20 + 8 + 20,
      own: 14 + 20 + 2,
    },
  ] as const;
  for (const { name, frame, over, own } of list) {
    test(name, () => {
      fixture.facts({ checksum_at: over });
      const got = fixture.frame('from_pod', frame);
      assert.equal(got.verdict, 'drop');
      assert.deepEqual(got.counted, { DROP_PARSE: 1 });
      if (own === null) return;
      fixture.facts({ checksum_at: own });
      assert.equal(fixture.frame('from_pod', frame).verdict, 'next');
    });
  }
});
