// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** to_pod: replies get their port back, and a pod receives only what is for it. Safety rules 2 and 16. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { addressBytes } from '@tandem/testing/address';
import { onesComplementSum, pseudoHeaderSum } from '@tandem/testing/checksum';
import { buildFragments, buildPacket } from '@tandem/testing/packet';
import { parsePacket } from '@tandem/testing/packet-parse';
import type { ExtensionSpec, PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import { mark, portP } from './kernel-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());

const own4 = '10.1.0.11';
const own6 = 'fd00:1::11';
const dns4 = '10.96.0.10';
const dns6 = 'fd00:96::10';
const foreignMark = 0x8004;

beforeEach(() => {
  fixture.reset();
  for (const address of [own4, own6]) fixture.endpoint(address, { id: 1 });
  fixture.endpoint('10.1.0.12', { id: 2, ifindex: 7 });
});

function reply(family: 4 | 6, protocol: 'udp' | 'tcp', sourcePort: number = portP): PacketSpec {
  const ip =
    family === 4 ? { source: dns4, destination: own4 } : { source: dns6, destination: own6 };
  if (protocol === 'udp') {
    return { ip, udp: { sourcePort, destinationPort: 4000 }, payload: 'answer' };
  }
  return {
    ip,
    tcp: { sourcePort, destinationPort: 4000, flags: ['syn', 'ack'] },
    payload: 'answer',
  };
}

describe('replies of the shared socket', () => {
  for (const family of [4, 6] as const) {
    for (const protocol of ['udp', 'tcp'] as const) {
      test(`IPv${family} ${protocol}: port 53, right checksum`, () => {
        const got = fixture.frame('to_pod', reply(family, protocol), { mark: foreignMark });
        assert.equal(got.verdict, 'next');
        assert.deepEqual(got.counted, { RESTORED: 1 });
        assert.equal(got.mark, foreignMark, 'the mark is not touched');
        assert.deepEqual(got.packet.problems, []);
        const ports = got.packet.udp ?? got.packet.tcp;
        assert.equal(ports?.sourcePort, 53);
        assert.equal(ports?.destinationPort, 4000);
      });
    }
  }

  test('UDP over IPv4 without a checksum stays without', () => {
    const spec = {
      ...reply(4, 'udp'),
      udp: { sourcePort: portP, destinationPort: 4000, checksum: 0 },
    };
    assert.equal(fixture.frame('to_pod', spec).packet.udp?.checksum, 0);
  });

  test('port P of anybody else is left alone', () => {
    for (const ingress of [2, 7, 99]) {
      for (const ours of [0, mark]) {
        const sent = buildPacket(reply(4, 'udp'));
        const got = fixture.frame('to_pod', sent, { mark: ours, ingress });
        assert.deepEqual(got.bytes, sent);
        assert.deepEqual(got.counted, {});
      }
    }
  });

  test('another port of our sockets is left alone', () => {
    const sent = buildPacket(reply(4, 'udp', 5000));
    assert.deepEqual(fixture.frame('to_pod', sent).bytes, sent);
  });
});

describe('replies over the MTU (rule 16)', () => {
  for (const family of [4, 6] as const) {
    test(`IPv${family}: the whole datagram has port 53 and a right checksum`, () => {
      const spec = { ...reply(family, 'udp'), payload: 'r'.repeat(3000) };
      const frames = buildFragments(spec, 1400);
      assert.equal(frames.length, 3);
      const pieces = frames.map((frame) => {
        const got = fixture.frame('to_pod', frame);
        assert.equal(got.verdict, 'next');
        return got.bytes.subarray(family === 4 ? 34 : 14 + 40 + 8);
      });
      const datagram = new Uint8Array(Buffer.concat(pieces));
      assert.equal(datagram.length, 3008);
      const [source, destination] = family === 4 ? [dns4, own4] : [dns6, own6];
      assert.equal(new DataView(datagram.buffer).getUint16(0), 53);
      const pseudo = pseudoHeaderSum(
        addressBytes(source),
        addressBytes(destination),
        17,
        datagram.length,
      );
      assert.equal(onesComplementSum(datagram, pseudo), 0xffff, 'checksum of the datagram');
    });
  }

  test('only the first fragment is rewritten', () => {
    const [, tail] = buildFragments({ ...reply(4, 'udp'), payload: 'r'.repeat(64) }, 32);
    assert.ok(tail !== undefined);
    const got = fixture.frame('to_pod', tail);
    assert.deepEqual(got.bytes, tail);
    assert.deepEqual(got.counted, { TAILS: 1 });
  });
});

interface Row {
  readonly name: string;
  readonly frame: PacketSpec | Uint8Array;
  readonly drop?: string;
  /** It passes, and `judge` counts no such frame. */
  readonly isNeighbours?: boolean;
}

describe('only what is for the pod (rule 2)', () => {
  const udp = (source: string, destination: string): PacketSpec => ({
    ip: { source, destination },
    udp: { sourcePort: 1, destinationPort: 2 },
    payload: 'x',
  });
  const icmp6 = (
    type: number,
    destination: string,
    ttl: number,
    extensions: ExtensionSpec[] = [],
  ): PacketSpec => ({
    ip: { source: 'fe80::1', destination, ttl, extensions },
    icmp: { type },
    payload: new Uint8Array(16),
  });
  const list: readonly Row[] = [
    { name: 'its IPv4 address', frame: udp('1.2.3.4', own4) },
    { name: 'its IPv6 address', frame: udp('2001:db8::1', own6) },
    {
      name: 'ARP',
      frame: { arp: { operation: 'request', senderAddress: '169.254.1.1', targetAddress: own4 } },
      isNeighbours: true,
    },
    {
      name: 'neighbour solicitation',
      frame: icmp6(135, 'ff02::1:ff00:11', 255),
      isNeighbours: true,
    },
    { name: 'neighbour solicitation to its address', frame: icmp6(135, own6, 255) },
    {
      name: 'neighbour advertisement to its link-local address',
      frame: icmp6(136, 'fe80::11', 255),
      isNeighbours: true,
    },
    {
      name: 'router advertisement of the node',
      frame: icmp6(134, 'ff02::1', 255),
      isNeighbours: true,
    },
    {
      name: 'listener query',
      frame: icmp6(130, 'ff02::1', 1, [{ kind: 'hop-by-hop' }]),
      isNeighbours: true,
    },
    { name: "another pod's address", frame: udp('1.2.3.4', '10.1.0.12'), drop: 'DROP_NOT_FOR_POD' },
    { name: 'an unknown address', frame: udp('1.2.3.4', '10.1.0.99'), drop: 'DROP_NOT_FOR_POD' },
    { name: 'broadcast', frame: udp('10.1.0.12', '255.255.255.255'), drop: 'DROP_NOT_FOR_POD' },
    { name: 'IPv4 multicast', frame: udp('10.1.0.12', '224.0.0.251'), drop: 'DROP_NOT_FOR_POD' },
    { name: 'IPv6 multicast', frame: udp('fd00:1::12', 'ff02::fb'), drop: 'DROP_NOT_FOR_POD' },
    { name: 'link-local unicast', frame: udp('fe80::12', 'fe80::11'), drop: 'DROP_NOT_FOR_POD' },
    { name: 'echo to all nodes', frame: icmp6(128, 'ff02::1', 255), drop: 'DROP_NOT_FOR_POD' },
    {
      name: 'discovery that crossed a router',
      frame: icmp6(135, 'ff02::1', 254),
      drop: 'DROP_NOT_FOR_POD',
    },
    {
      name: "another pod's listener report",
      frame: icmp6(143, 'ff02::16', 1),
      drop: 'DROP_NOT_FOR_POD',
    },
    {
      name: 'a VLAN tag',
      frame: { ...udp('1.2.3.4', own4), ethernet: { vlans: [{ id: 0 }] } },
      drop: 'DROP_VLAN',
    },
    {
      name: 'another ethertype',
      frame: { ethernet: { type: 0x88cc }, payload: 'x'.repeat(46) },
      drop: 'DROP_ETHERTYPE',
    },
    {
      name: 'a broken IP header',
      frame: buildPacket({ ip: { source: '1.2.3.4', destination: own4, headerWords: 4 } }),
      drop: 'DROP_PARSE',
    },
  ];
  for (const row of list) {
    test(row.name, () => {
      const got = fixture.frame('to_pod', row.frame);
      assert.equal(got.verdict, row.drop === undefined ? 'next' : 'drop');
      const passed = row.isNeighbours === true ? { NEIGHBOUR: 1 } : {};
      assert.deepEqual(got.counted, row.drop === undefined ? passed : { [row.drop]: 1 });
      if (row.drop !== undefined) {
        assert.equal(fixture.takeEvents()[0]?.read('hook'), 1);
      } else {
        const sent = row.frame instanceof Uint8Array ? row.frame : buildPacket(row.frame);
        assert.deepEqual(parsePacket(got.bytes), parsePacket(sent));
      }
    });
  }
});
