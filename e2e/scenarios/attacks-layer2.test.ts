// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Below IP (safety rule 2; threat T23): on a bridge a frame gets to other pods without meeting
 * netfilter. Tags, link-local and group destinations, router's messages and claims of other addresses
 * do not pass; what neighbours legitimately say does.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { addressBytes } from '@tandem/testing/address';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket } from '@tandem/testing/packet';
import {
  type NdpAddresses,
  ndpType,
  neighbourAdvertisement,
  redirect,
  routerAdvertisement,
} from '@tandem/testing/packet-ndp';
import type { EthernetSpec, PacketSpec } from '@tandem/testing/packet-spec';
import { type Capture, Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { addressOf, assertDropped, canConnect, frameOf } from '../kit/attack.ts';
import { networkPolicy } from '../kit/objects.ts';
import { startStandardNode } from '../kit/standard-node.ts';

const port = 9000;
/** `server` takes nothing but from `friend`; only the egress of `server` is restricted. */
const standard = await startStandardNode({
  pods: [
    { name: 'attacker', kind: 'bridge' },
    { name: 'server', kind: 'bridge' },
    { name: 'friend', kind: 'bridge' },
  ],
  policies: [
    networkPolicy({
      name: 'server',
      selects: { app: 'server' },
      ingress: [{ fromEndpoints: [{ matchLabels: { app: 'friend' } }] }],
    }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;
const pod = node.pod('attacker');
const victim = node.pod('server');
const attacker = node.own(Probe.start(pod.namespace));
const server = node.own(Probe.start(victim.namespace));
const friend = node.own(Probe.start(node.pod('friend').namespace));
const token = 'below-ip';
const atVictim: Capture = await server.capture({ contains: token });
for (const address of ['0.0.0.0', '::']) await server.listen({ protocol: 'tcp', address, port });

interface LinkAddresses {
  readonly addr_info: readonly { readonly local: string; readonly scope: string }[];
}
const linkLocalOf = async (namespace: typeof pod.namespace): Promise<string> => {
  const [link] = (await namespace.ipJson(['addr', 'show', 'eth0'])) as LinkAddresses[];
  const found = link?.addr_info.find(
    ({ local, scope }) => scope === 'link' && local.startsWith('fe80'),
  );
  assert.ok(found !== undefined);
  return found.local;
};
const victimLinkLocal = await linkLocalOf(victim.namespace);
const ownLinkLocal = await linkLocalOf(pod.namespace);

const datagram = (source: string, destination: string): PacketSpec => ({
  ip: { source, destination },
  udp: { sourcePort: 4000, destinationPort: port },
  payload: token,
});
const direct: EthernetSpec = { source: pod.mac, destination: victim.mac };

test('the way is there: the friend is let in, and others are not', async () => {
  for (const to of [addressOf(victim, '10.'), addressOf(victim, 'fd00::')]) {
    assert.ok(await canConnect(friend, to, port));
    assert.ok(!(await canConnect(attacker, to, port)));
  }
});

describe('a tagged frame to another port of the bridge', () => {
  const tags = {
    'VLAN 0': [{ id: 0 }],
    'VLAN 0 of 802.1ad': [{ id: 0, tpid: 0x88a8 }],
    'VLAN 7': [{ id: 7 }],
    QinQ: [{ id: 0, tpid: 0x88a8 }, { id: 0 }],
  };
  for (const [name, vlans] of Object.entries(tags)) {
    for (const family of ['10.', 'fd00::']) {
      test(`${name}, ${family === '10.' ? 'IPv4' : 'IPv6'}`, async () => {
        const packet = datagram(addressOf(pod, family), addressOf(victim, family));
        const frame = buildPacket({ ...packet, ethernet: { ...direct, vlans } });
        const send = (): Promise<void> => attacker.frame(frame);
        await assertDropped({ tandem, reason: 'drop_vlan', at: atVictim, send });
      });
    }
  }
});

describe('what is addressed to no pod', () => {
  const broadcast = { ...direct, destination: 'ff:ff:ff:ff:ff:ff' };
  const own4 = addressOf(pod, '10.');
  const own6 = addressOf(pod, 'fd00::');
  const packets: readonly (readonly [string, string, PacketSpec])[] = [
    [
      'a link-local address',
      'drop_not_for_pod',
      { ...datagram(own6, victimLinkLocal), ethernet: direct },
    ],
    [
      'all nodes, ff02::1',
      'flooded',
      {
        ...datagram(own6, 'ff02::1'),
        ethernet: { ...direct, destination: '33:33:00:00:00:01' },
      },
    ],
    [
      'the broadcast of the network',
      'flooded',
      { ...datagram(own4, '10.1.2.255'), ethernet: broadcast },
    ],
    [
      'the limited broadcast',
      'flooded',
      { ...datagram(own4, '255.255.255.255'), ethernet: broadcast },
    ],
    [
      'a group, 224.0.0.1',
      'flooded',
      {
        ...datagram(own4, '224.0.0.1'),
        ethernet: { ...direct, destination: '01:00:5e:00:00:01' },
      },
    ],
    [
      'a link-local address, from one',
      'drop_nd',
      { ...datagram(ownLinkLocal, victimLinkLocal), ethernet: direct },
    ],
    [
      'a ping of a link-local address, from one',
      'drop_nd',
      {
        ethernet: direct,
        ip: { source: ownLinkLocal, destination: victimLinkLocal },
        icmp: { type: 128 },
        payload: token,
      },
    ],
    [
      'the pod, but in a frame of another protocol',
      'drop_ethertype',
      { ethernet: { ...direct, type: 0x88b5 }, payload: token },
    ],
    [
      'the pod, but in PPPoE',
      'drop_ethertype',
      { ...datagram(own4, addressOf(victim, '10.')), ethernet: { ...direct, type: 0x8864 } },
    ],
  ];
  for (const [what, reason, packet] of packets) {
    test(what, async () => {
      const send = (): Promise<void> => attacker.frame(buildPacket(packet));
      await assertDropped({ tandem, reason, at: atVictim, send });
    });
  }
});

describe("a router's messages and other pods' addresses, from a pod", () => {
  const everybody: NdpAddresses = {
    source: ownLinkLocal,
    destination: 'ff02::1',
    sourceMac: pod.mac,
    destinationMac: '33:33:00:00:00:01',
  };
  const claim = (target: string): PacketSpec => neighbourAdvertisement(everybody, target);
  const arp = (senderAddress: string): PacketSpec => ({
    ethernet: { ...direct, destination: 'ff:ff:ff:ff:ff:ff' },
    arp: {
      operation: 'reply',
      senderMac: pod.mac,
      senderAddress,
      targetMac: victim.mac,
      targetAddress: addressOf(victim, '10.'),
    },
  });
  /** RFC 5227: no sender, the address as the target. */
  const probe = (targetAddress: string): PacketSpec => ({
    ethernet: { ...direct, destination: 'ff:ff:ff:ff:ff:ff' },
    arp: {
      ...{ operation: 'request', senderMac: pod.mac, senderAddress: '0.0.0.0' },
      ...{ targetMac: '00:00:00:00:00:00', targetAddress },
    },
  });
  /** RFC 4862: no source, and so no option with the Ethernet address of one. */
  const detection = (target: string): PacketSpec => ({
    ethernet: { ...direct, destination: '33:33:00:00:00:01' },
    ip: { source: '::', destination: 'ff02::1', ttl: 255 },
    icmp: { type: ndpType.neighbourSolicitation },
    payload: addressBytes(target),
  });
  const routed = { ...everybody, source: addressOf(pod, 'fd00::') };
  const packets: readonly (readonly [string, string, PacketSpec])[] = [
    ['router advertisement', 'drop_nd', routerAdvertisement(everybody, 1800)],
    [
      'router advertisement from a global address',
      'drop_nd',
      routerAdvertisement({ ...everybody, source: routed.source }, 1800),
    ],
    ['redirect', 'drop_nd', redirect(everybody, ownLinkLocal, plan.upstream6)],
    ["advertisement of another pod's address", 'drop_spoofed', claim(addressOf(victim, 'fd00::'))],
    ["advertisement of the bridge's address", 'drop_spoofed', claim(plan.bridgeGateway6)],
    ["ARP for another pod's address", 'drop_spoofed', arp(addressOf(node.pod('friend'), '10.'))],
    ["ARP for the bridge's address", 'drop_spoofed', arp(plan.bridgeGateway4)],
    [
      "an ARP probe for another pod's address",
      'drop_spoofed',
      probe(addressOf(node.pod('friend'), '10.')),
    ],
    [
      "duplicate address detection of another pod's address",
      'drop_spoofed',
      detection(addressOf(victim, 'fd00::')),
    ],
  ];
  for (const [what, reason, packet] of packets) {
    test(what, async () => {
      const frame = buildPacket(packet);
      // The whole frame: the pod's kernel, too, sends its neighbours what it may, when its timers say so.
      await using at = await server.capture({ contains: frame });
      await assertDropped({ tandem, reason, at, send: () => attacker.frame(frame) });
    });
  }

  test("nobody's default route moved", async () => {
    const routes = (await victim.namespace.ipJson(['-6', 'route', 'show', 'default'])) as {
      gateway: string;
    }[];
    assert.deepEqual(
      routes.map(({ gateway }) => gateway),
      [plan.bridgeGateway6],
    );
  });
});

describe('what neighbours say', () => {
  const dropsOf = (): number[] =>
    ['drop_nd', 'drop_spoofed', 'drop_ethertype', 'drop_parse'].map(
      (name) => tandem.counters()[name] ?? 0,
    );

  test('ARP and neighbour discovery find neighbours anew, both ways', async () => {
    const drops = dropsOf();
    const friendPod = node.pod('friend');
    for (const namespace of [friendPod.namespace, victim.namespace, node.node]) {
      await namespace.ip(['neigh flush all']);
    }
    for (const to of [addressOf(victim, '10.'), addressOf(victim, 'fd00::')]) {
      assert.ok(await canConnect(friend, to, port), to);
    }
    for (const to of [plan.bridgeGateway4, plan.bridgeGateway6, plan.upstream4, plan.upstream6]) {
      await friend.ping(to);
    }
    assert.deepEqual(dropsOf(), drops);
  });

  test('the node pings pods, point to point and on the bridge', async () => {
    await node.node.sysctl({ 'net.ipv4.ping_group_range': '0 2147483647' });
    const host = node.own(Probe.start(node.node));
    for (const each of [victim, node.pod('client')]) {
      await host.ping(addressOf(each, '10.'));
      await host.ping(addressOf(each, 'fd00::'));
    }
  });

  test('listener reports reach the bridge and are counted nowhere', async () => {
    const drops = dropsOf();
    const host = node.own(Probe.start(node.node));
    await using reports = await host.capture({
      interface: pod.hostInterface,
      // Hop-by-hop, router alert: what a listener report starts with.
      contains: Uint8Array.of(0x3a, 0, 5, 2, 0, 0, 1, 0, 0x8f),
    });
    await pod.namespace.ip(['link set eth0 down', 'link set eth0 up']);
    await pod.namespace.ip([`route replace default via ${plan.bridgeGateway4} dev eth0`]);
    await reports.captured({ count: 1, timeoutMs: 5000 });
    await waitFor(() => attacker.ping(plan.bridgeGateway4), { what: 'the link to be back' });
    assert.deepEqual(dropsOf(), drops);
  });

  test('the friend still gets in through the same bridge', async () => {
    const frame = frameOf(pod, datagram(addressOf(pod, '10.'), addressOf(victim, '10.')));
    const send = (): Promise<void> => attacker.frame(frame);
    await assertDropped({ tandem, reason: 'drop_no_match', at: atVictim, send });
    assert.ok(await canConnect(friend, addressOf(victim, '10.'), port));
  });
});
