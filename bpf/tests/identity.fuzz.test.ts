// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One meaning, two implementations: identity in from_pod and judge, and in identity-model.ts. */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { addressBytes, macBytes } from '@tandem/testing/address';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import * as fc from 'fast-check';
import { Fixture } from './fixture.ts';
import {
  type Claim,
  type Endpoint,
  type JudgedPacket,
  judged,
  type PodFrame,
  type PodPort,
  type Side,
  sentByPod,
  type World,
} from './identity-model.ts';
import { conntrack } from './judge-world.ts';
import { mark, portP, testIfindex } from './kernel-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());

const options = { seed: 20261129, numRuns: 3000 };

/** The one counter that moved beside those of events and of neighbour messages that pass; null: none. */
function reasonOf(counted: Readonly<Record<string, number>>): string | null {
  const names = Object.keys(counted).filter((name) => !/^(?:EVENTS_|NEIGHBOUR$)/.test(name));
  assert.ok(names.length <= 1, names.join());
  return names[0] ?? null;
}

describe('judge', () => {
  const cni0 = 30;
  const ptp = { id: 1, veth: 11, bridge: null };
  const bridged = { id: 2, veth: 32, bridge: cni0 };
  const second = { id: 3, veth: 33, bridge: cni0 };
  /** Its interface is gone, the index is another's. */
  const gone = { id: 4, veth: 34, bridge: cni0 };
  const endpoints = new Map<string, Endpoint>([
    ['10.1.0.11', ptp],
    ['fd00:1::11', ptp],
    ['10.1.2.11', bridged],
    ['fd00:2::11', bridged],
    ['10.1.2.12', second],
    ['fd00:2::12', second],
    ['10.1.2.13', gone],
    ['fd00:2::13', gone],
  ]);
  const sides = new Map<number, Side>([
    [11, 'POD'],
    [32, 'POD'],
    [33, 'POD'],
    [34, 'STRANGER'],
    [17, 'STRANGER'],
    [cni0, 'STRANGER'],
  ]);
  const own = ['192.168.60.1', 'fd00:60::1'];
  const nodes = [...own, '192.168.60.2', 'fd00:60::2'];
  const world: World = {
    ...{ endpoints, sides, nodes: new Set(nodes), own: new Set(own) },
    tunnelPorts: new Set([4789]),
  };
  const addresses = [...endpoints.keys(), ...nodes, '203.0.113.10', '2001:db8::10', 'fe80::11'];
  const of = (family: 4 | 6): string[] =>
    addresses.filter((address) => address.includes(':') === (family === 6));
  const interfaces = fc.constantFrom(0, 1, 2, 11, 17, cni0, 32, 33, 34, 35);
  const ports = fc.constantFrom(53, portP, 4789, 443);

  before(() => {
    fixture.reset();
    for (const [address, { id, veth, bridge }] of endpoints) {
      const spec = { id, policyId: id, ifindex: veth };
      fixture.endpoint(
        address,
        bridge === null ? spec : { ...spec, l3Ifindex: bridge, flags: ['BRIDGED'] },
      );
    }
    for (const [ifindex, side] of sides) fixture.device(ifindex, side);
    for (const node of nodes) {
      const flags = own.includes(node)
        ? (['NODE', 'CLUSTER', 'HOST'] as const)
        : (['NODE', 'CLUSTER'] as const);
      fixture.class(node, node.includes(':') ? 128 : 32, 30, flags);
    }
    fixture.tunnelPort(4789);
  });

  const packets = fc.constantFrom<4 | 6>(4, 6).chain((family) =>
    fc.record<JudgedPacket>({
      source: fc.constantFrom(...of(family)),
      destination: fc.constantFrom(...of(family)),
      kind: family === 4 ? fc.constant('udp') : fc.constantFrom('udp', 'udp', 'discovery'),
      sourcePort: ports,
      destinationPort: ports,
      isLocalIn: fc.boolean(),
      isReply: fc.boolean(),
      isSteered: fc.integer({ min: 0, max: 3 }).map((n) => n === 0),
      ifindex: interfaces,
      bridgePort: fc.oneof(fc.constant(0), fc.constantFrom(17, 32, 33, 34, 35)),
      out: interfaces,
    }),
  );

  function specOf(packet: JudgedPacket): PacketSpec {
    const { source, destination, sourcePort, destinationPort } = packet;
    if (packet.kind === 'udp') {
      return { ip: { source, destination }, udp: { sourcePort, destinationPort }, payload: 'x' };
    }
    const payload = new Uint8Array(16);
    return { ip: { source, destination, ttl: 255 }, icmp: { type: 135 }, payload };
  }

  test('any packet by any interfaces', () => {
    const seen = new Set<string | null>();
    fc.assert(
      fc.property(packets, (packet) => {
        const { isReply, isSteered, ifindex, bridgePort, out } = packet;
        fixture.facts({
          ifindex,
          out,
          bridge_port: bridgePort,
          mark: isSteered ? mark : 0,
          ...(isReply ? { tracked: 1, info: conntrack.reply } : {}),
        });
        const hook = packet.isLocalIn ? 'local-in' : 'post-routing';
        const got = fixture.hook('judge', hook, specOf(packet));
        const expected = judged(world, packet);
        assert.equal(reasonOf(got.counted), expected);
        assert.equal(got.verdict, expected?.startsWith('DROP_') === true ? 'drop' : 'accept');
        seen.add(expected);
      }),
      options,
    );
    const all = ['DROP_NOT_REDIRECTED', 'DROP_PORT', 'DROP_TUNNEL', 'DROP_UNKNOWN_POD'];
    all.push('DROP_UNVERIFIED', 'FORWARDED', 'HOST', 'NO_ENDPOINT');
    for (const counter of [...all, null]) assert.ok(seen.has(counter), `generated: ${counter}`);
  });
});

describe('from_pod', () => {
  const own4 = '10.1.2.11';
  const own6 = 'fd00:2::11';
  const ownMac = '02:00:00:00:00:0b';
  const gateway6 = 'fe80::1';
  const own = new Set([own4, own6]);
  const addresses4 = fc.constantFrom(own4, own4, '10.1.2.12', '10.1.2.1', '0.0.0.0');
  const addresses6 = fc.constantFrom(own6, own6, 'fd00:2::12', 'fe80::11', gateway6, '::');
  const macs = fc.constantFrom(ownMac, ownMac, ownMac, '02:00:00:00:00:0c', '00:00:00:00:00:00');
  const claims = fc.record<Claim>({
    type: fc.constantFrom(1, 2, 2, 14),
    mac: macs,
    length: fc.constantFrom(0, 1, 1, 1, 1, 2),
  });
  const types = fc.constantFrom(128, 130, 131, 133, 134, 135, 135, 136, 136, 137, 143);
  const frames: fc.Arbitrary<PodFrame> = fc.oneof(
    fc.record({
      kind: fc.constant('arp' as const),
      mac: macs,
      senderMac: macs,
      sender: addresses4,
      target: addresses4,
    }),
    fc.record({
      kind: fc.constant('udp' as const),
      mac: macs,
      source: fc.oneof(addresses4, addresses6),
    }),
    fc.record({
      kind: fc.constant('icmp6' as const),
      mac: macs,
      source: addresses6,
      type: types,
      hopLimit: fc.constantFrom(255, 255, 255, 1, 64),
      target: addresses6,
      options: fc.array(claims, { maxLength: 6 }),
    }),
  );

  function specOf(frame: PodFrame): PacketSpec {
    const ethernet = { source: frame.mac };
    if (frame.kind === 'arp') {
      const { senderMac, sender: senderAddress, target: targetAddress } = frame;
      return { ethernet, arp: { operation: 'request', senderMac, senderAddress, targetAddress } };
    }
    if (frame.kind === 'udp') {
      const destination = frame.source.includes(':') ? '2001:db8::1' : '203.0.113.1';
      const ip = { source: frame.source, destination };
      return { ethernet, ip, udp: { sourcePort: 1, destinationPort: 2 }, payload: 'x' };
    }
    const { source, type, hopLimit: ttl, target } = frame;
    const body = [135, 136].includes(type) ? [addressBytes(target)] : [];
    for (const { type: option, mac, length } of frame.options) {
      const bytes = new Uint8Array(8 * Math.max(1, length));
      bytes.set([option, length, ...macBytes(mac)]);
      body.push(bytes);
    }
    const payload = new Uint8Array(Buffer.concat(body));
    return { ethernet, ip: { source, destination: 'ff02::1', ttl }, icmp: { type }, payload };
  }

  const kinds = [
    { name: 'a bridge port with its MAC', mac: ownMac, flags: ['BRIDGED'] },
    { name: 'a bridge port', mac: null, flags: ['BRIDGED'] },
    { name: 'a point-to-point veth', mac: null, flags: [] },
  ];
  for (const { name, mac, flags } of kinds) {
    test(`any frame by ${name}`, () => {
      fixture.reset();
      for (const address of own) {
        fixture.endpoint(address, {
          ifindex: testIfindex,
          flags,
          ...(mac === null ? {} : { mac: macBytes(mac) }),
        });
      }
      for (const address of ['10.1.2.12', 'fd00:2::12']) {
        fixture.endpoint(address, { id: 2, ifindex: 7 });
      }
      fixture.class(gateway6, 128, 30, ['NODE', 'LINK_LOCAL']);
      const port: PodPort = { own, mac, nodes: new Set([gateway6]) };
      const seen = new Set<string | null>();
      fc.assert(
        fc.property(frames, (frame) => {
          const got = fixture.frame('from_pod', specOf(frame));
          const expected = sentByPod(port, frame);
          assert.equal(reasonOf(got.counted), expected);
          seen.add(expected);
        }),
        options,
      );
      for (const reason of ['DROP_SPOOFED', 'DROP_ND', 'DROP_PARSE', null]) {
        assert.ok(seen.has(reason), `generated: ${reason}`);
      }
    });
  }
});
