// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { addressBytes, addressText, mappedAddressBytes } from './address.ts';
import { internetChecksum, onesComplementSum } from './checksum.ts';
import { buildFragments, buildIp, buildPacket, concatBytes, echoRest } from './packet.ts';
import { neighbourSolicitation } from './packet-ndp.ts';
import { describePacket, parsePacket } from './packet-parse.ts';
import type { PacketSpec } from './packet-spec.ts';

const v4 = { source: '10.1.0.11', destination: '10.96.0.10' } as const;
const v6 = { source: 'fd00:1::11', destination: 'fd96::10' } as const;
const dns = { sourcePort: 40000, destinationPort: 53 } as const;

function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ''), 'hex'));
}

describe('addresses', () => {
  for (const [text, canonical] of [
    ['10.0.0.1', '10.0.0.1'],
    ['::', '::'],
    ['::1', '::1'],
    ['fe80::', 'fe80::'],
    ['2001:DB8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['::ffff:10.0.0.1', '::ffff:a00:1'],
  ] as const) {
    test(text, () => assert.equal(addressText(addressBytes(text)), canonical));
  }

  test('IPv4 maps into IPv6', () => {
    assert.deepEqual(mappedAddressBytes('1.2.3.4'), addressBytes('::ffff:1.2.3.4'));
  });
});

describe('known vectors', () => {
  test('RFC 1071, section 3', () => {
    assert.equal(onesComplementSum(hex('0001 f203 f4f5 f6f7')), 0xddf2);
  });

  // The worked example of Wikipedia's "Internet checksum" page.
  const header = hex('4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7');

  test('an IPv4 header', () => {
    const bytes = buildIp({
      ip: {
        source: '192.168.0.1',
        destination: '192.168.0.199',
        id: 0,
        dontFragment: true,
        protocol: 17,
      },
      payload: new Uint8Array(95),
    });
    assert.deepEqual(bytes.subarray(0, 20), header);
    assert.equal(internetChecksum(header), 0);
  });

  // Captured from Linux on a veth without offload: the kernel computed these checksums.
  for (const [name, bytes, line] of [
    [
      'UDP on IPv4',
      '22ec956f92fab6fc9f846b1e0800450000231e974000401108310a0000010a000002e7620035000f' +
        '9f4268656c6c6f2121',
      '10.0.0.1:59234 > 10.0.0.2:53 udp 7',
    ],
    [
      'ICMPv4 port unreachable',
      'b6fc9f846b1e22ec956f92fa080045c0003fa26200004001c3990a0000020a000001030311200000' +
        '0000450000231e974000401108310a0000010a000002e7620035000f9f4268656c6c6f2121',
      '10.0.0.2 > 10.0.0.1 icmp 3/3 35',
    ],
    [
      'TCP SYN on IPv4',
      '22ec956f92fab6fc9f846b1e08004500003ca1504000400685690a0000010a00000296c6005165cf' +
        '670500000000a002faf0a80f0000020405b40402080a93899984000000000103030a',
      '10.0.0.1:38598 > 10.0.0.2:81 tcp syn 0',
    ],
    [
      'UDP on IPv6',
      '22ec956f92fab6fc9f846b1e86dd600459fb000f1140fd000000000000000000000000000001fd00' +
        '0000000000000000000000000002ec290035000fb47968656c6c6f2121',
      '[fd00::1]:60457 > [fd00::2]:53 udp 7',
    ],
    [
      'ICMPv6 port unreachable',
      'b6fc9f846b1e22ec956f92fa86dd600842be003f3a40fd000000000000000000000000000002fd00' +
        '00000000000000000000000000010104394f00000000600459fb000f1140fd000000000000000000' +
        '000000000001fd000000000000000000000000000002ec290035000fb47968656c6c6f2121',
      'fd00::2 > fd00::1 icmp 1/4 55',
    ],
    [
      'TCP reset on IPv6',
      'b6fc9f846b1e22ec956f92fa86dd600f21ac00140640fd000000000000000000000000000002fd00' +
        '00000000000000000000000000010051a4c600000000941513095014000069960000',
      '[fd00::2]:81 > [fd00::1]:42182 tcp rst+ack 0',
    ],
    [
      'Neighbour Solicitation',
      '3333ff000002b6fc9f846b1e86dd6000000000203afffd000000000000000000000000000001ff02' +
        '00000000000000000001ff0000028700bdf800000000fd0000000000000000000000000000020101' +
        'b6fc9f846b1e',
      'fd00::1 > ff02::1:ff00:2 icmp 135/0 24',
    ],
  ] as const) {
    test(`${name}, made by the kernel`, () => {
      const packet = parsePacket(hex(bytes));
      assert.deepEqual(packet.problems, []);
      assert.equal(describePacket(packet), line);
    });
  }
});

interface Case {
  readonly name: string;
  readonly spec: PacketSpec;
  readonly length: number;
  readonly describe: string;
}

const cases: readonly Case[] = [
  {
    name: 'UDP on IPv4',
    spec: { ip: v4, udp: dns, payload: 'query' },
    length: 14 + 20 + 8 + 5,
    describe: '10.1.0.11:40000 > 10.96.0.10:53 udp 5',
  },
  {
    name: 'UDP on IPv6, odd length',
    spec: { ip: v6, udp: dns, payload: 'query' },
    length: 14 + 40 + 8 + 5,
    describe: '[fd00:1::11]:40000 > [fd96::10]:53 udp 5',
  },
  {
    name: 'UDP without checksum',
    spec: { ip: v4, udp: { ...dns, checksum: 0 }, payload: 'query' },
    length: 47,
    describe: '10.1.0.11:40000 > 10.96.0.10:53 udp 5',
  },
  {
    name: 'IPv4 options',
    spec: { ip: { ...v4, options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0) }, udp: dns },
    length: 14 + 28 + 8,
    describe: '10.1.0.11:40000 > 10.96.0.10:53 udp 0',
  },
  {
    name: 'VLAN tags',
    spec: {
      ethernet: {
        vlans: [
          { id: 5, tpid: 0x88a8 },
          { id: 0, priority: 3 },
        ],
      },
      ip: v4,
      udp: dns,
    },
    length: 14 + 8 + 20 + 8,
    describe: '10.1.0.11:40000 > 10.96.0.10:53 udp 0',
  },
  {
    name: 'TCP SYN with options',
    spec: { ip: v6, tcp: { ...dns, flags: ['syn'], options: Uint8Array.of(2, 4, 5, 0xb4) } },
    length: 14 + 40 + 24,
    describe: '[fd00:1::11]:40000 > [fd96::10]:53 tcp syn 0',
  },
  {
    name: 'IPv6 extension headers',
    spec: {
      ip: {
        ...v6,
        extensions: [
          { kind: 'hop-by-hop' },
          { kind: 'destination', options: new Uint8Array(14) },
          { kind: 'routing', type: 4 },
          { kind: 'fragment', offset: 0, more: false },
        ],
      },
      udp: dns,
      payload: 'x',
    },
    length: 14 + 40 + 8 + 16 + 8 + 8 + 9,
    describe: '[fd00:1::11]:40000 > [fd96::10]:53 udp 1 fragment 0',
  },
  {
    name: 'echo request',
    spec: { ip: v4, icmp: { type: 8, rest: echoRest(7, 1) }, payload: 'ping' },
    length: 14 + 20 + 8 + 4,
    describe: '10.1.0.11 > 10.96.0.10 icmp 8/0 4',
  },
  {
    name: 'ARP request',
    spec: {
      arp: { operation: 'request', senderAddress: '10.1.0.11', targetAddress: '169.254.1.1' },
    },
    length: 14 + 28,
    describe: 'arp 10.1.0.11 > 169.254.1.1',
  },
  {
    name: 'IP in IP',
    spec: { ip: { ...v4, protocol: 4 }, payload: buildIp({ ip: v4, udp: dns }) },
    length: 14 + 20 + 28,
    describe: '10.1.0.11 > 10.96.0.10 protocol 4 28',
  },
];

describe('build and parse', () => {
  for (const { name, spec, length, describe: line } of cases) {
    test(name, () => {
      const bytes = buildPacket(spec);
      const packet = parsePacket(bytes);
      assert.deepEqual(packet.problems, []);
      assert.equal(bytes.length, length);
      assert.equal(describePacket(packet), line);
    });
  }

  test('an ICMPv6 error quotes the packet', () => {
    const quoted: PacketSpec = { ip: v6, udp: dns, payload: 'secret' };
    const back = { source: v6.destination, destination: v6.source };
    const packet = parsePacket(buildPacket({ ip: back, icmp: { type: 1, code: 4, quoted } }));
    assert.deepEqual(packet.problems, []);
    assert.ok(packet.icmp?.quoted);
    assert.equal(describePacket(packet.icmp.quoted), '[fd00:1::11]:40000 > [fd96::10]:53 udp 6');
  });

  test('an ICMPv4 error may quote 8 bytes of a TCP segment', () => {
    const quoted = buildIp({ ip: v4, tcp: { ...dns, flags: ['syn'], sequence: 9 } }).subarray(
      0,
      28,
    );
    const packet = parsePacket(buildPacket({ ip: v4, icmp: { type: 3, code: 3, quoted } }));
    assert.deepEqual(packet.problems, []);
    assert.equal(packet.icmp?.quoted?.tcp?.sequence, 9);
  });

  test('link padding is no payload', () => {
    const padded = concatBytes([
      buildPacket({ ip: v4, udp: dns, payload: 'ab' }),
      new Uint8Array(16),
    ]);
    const packet = parsePacket(padded);
    assert.deepEqual(packet.problems, []);
    assert.equal(packet.payload.length, 2);
  });
});

describe('fragments', () => {
  for (const ip of [v4, v6]) {
    test(`of ${ip.source} join to the datagram`, () => {
      const payload = Uint8Array.from({ length: 3001 }, (_, i) => i & 0xff);
      const pieces = buildFragments({ ip, udp: dns, payload }, 1000).map((bytes) =>
        parsePacket(bytes),
      );
      assert.deepEqual(
        pieces.map((piece) => [piece.ip?.fragment?.offset, piece.ip?.fragment?.more]),
        [
          [0, true],
          [1000, true],
          [2000, true],
          [3000, false],
        ],
      );
      assert.equal(pieces[0]?.udp?.destinationPort, 53);
      assert.equal(pieces[1]?.udp, null);
      assert.deepEqual(concatBytes(pieces.map((piece) => piece.payload)), payload);
      assert.deepEqual(
        pieces.flatMap((piece) => piece.problems),
        [],
      );
    });
  }
});

describe('problems are named', () => {
  const good: PacketSpec = { ip: v4, udp: dns, payload: 'query' };
  const rows: readonly (readonly [string, PacketSpec, RegExp])[] = [
    ['IPv4 checksum', { ...good, ip: { ...v4, checksum: 1 } }, /ipv4: wrong header checksum/],
    ['UDP checksum', { ...good, udp: { ...dns, checksum: 1 } }, /udp: wrong checksum/],
    ['UDP length', { ...good, udp: { ...dns, length: 9 } }, /udp: length 9, IP carries 13/],
    [
      'no checksum on IPv6',
      { ...good, ip: v6, udp: { ...dns, checksum: 0 } },
      /no checksum on IPv6/,
    ],
    ['total length', { ...good, ip: { ...v4, length: 999 } }, /total length/],
    ['IHL', { ...good, ip: { ...v4, headerWords: 4 } }, /header of 16 bytes/],
    [
      'TCP checksum',
      { ip: v6, tcp: { ...dns, flags: ['ack'], checksum: 7 } },
      /tcp: wrong checksum/,
    ],
    [
      'data offset',
      { ip: v4, tcp: { ...dns, flags: ['ack'], headerWords: 3 } },
      /header of 12 bytes/,
    ],
    ['ICMPv6 checksum', { ip: v6, icmp: { type: 128, checksum: 0 } }, /icmp: wrong checksum/],
  ];
  for (const [name, spec, want] of rows) {
    test(name, () => assert.match(parsePacket(buildPacket(spec)).problems.join('; '), want));
  }
});

test('a Neighbour Solicitation equals the one of the kernel', () => {
  const at = {
    source: 'fd00::1',
    destination: 'ff02::1:ff00:2',
    sourceMac: 'b6:fc:9f:84:6b:1e',
    destinationMac: '33:33:ff:00:00:02',
  };
  const captured =
    '3333ff000002b6fc9f846b1e86dd6000000000203afffd000000000000000000000000000001' +
    'ff0200000000000000000001ff0000028700bdf800000000fd000000000000000000000000000002' +
    '0101b6fc9f846b1e';
  assert.deepEqual(buildPacket(neighbourSolicitation(at, 'fd00::2')), hex(captured));
});
