// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * No host but the node speaks to pods as the node (rule 3): its own addresses as source from beyond each uplink, and from
 * a machine at the bridge of pods, to pods that admit the host; nor does anybody open a connection in its name for a pod
 * to answer, or claim its addresses to pods by ARP and neighbour discovery (rule 2). What the node itself sends arrives, by
 * whatever detour. With the agent alive, and dead.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { macBytes } from '@tandem/testing/address';
import { Namespace } from '@tandem/testing/namespace';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket } from '@tandem/testing/packet';
import { neighbourAdvertisement, neighbourSolicitation } from '@tandem/testing/packet-ndp';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { type Capture, Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import {
  addressOf,
  assertCounted,
  assertDropped,
  canConnect,
  frameOf,
  uplinkMacs,
} from '../kit/attack.ts';
import { networkPolicy } from '../kit/objects.ts';
import { standardPolicy, startStandardNode } from '../kit/standard-node.ts';

const port = 9000;
const nodePort = 30_080;
const token = 'as the node';
/** MAC address of the machine at the bridge, where it claims addresses. */
const lanMac = '02:00:00:00:77:02';
const lan = await Namespace.create('lan');
const standard = await startStandardNode({
  pods: [
    { name: 'ptp' },
    { name: 'bridged', kind: 'bridge' },
    { name: 'accomplice', kind: 'bridge' },
  ],
  policies: [
    standardPolicy,
    ...['ptp', 'bridged'].map((app) =>
      networkPolicy({ name: app, selects: { app }, ingress: [{ fromEntities: ['host'] }] }),
    ),
    networkPolicy({
      name: 'accomplice',
      selects: { app: 'accomplice' },
      egress: [{ toCIDR: ['192.0.2.0/24'] }],
    }),
  ],
  node: {
    services: ['10.1.0.13', 'fd00:1::13'].map((address, i) => ({
      clusterIp: i === 0 ? '10.96.0.80' : 'fd00:96::80',
      ...{ port, nodePort, protocol: 'tcp' as const, backends: [{ address, port }] },
    })),
  },
  agentOptions: { 'trusted-interfaces': 'lan0' },
  // Without accept_local, Linux itself drops IPv4 packets from outside with an own source address.
  prepare: async ({ node }) => {
    await node.sysctl({
      'net.ipv4.conf.all.accept_local': 1,
      'net.ipv4.conf.all.route_localnet': 1,
    });
    await node.ip([
      `link add lan0 type veth peer name eth0 netns ${lan.name}`,
      `link set lan0 master ${plan.bridge} up`,
    ]);
    await lan.ip(['link set eth0 up']);
  },
});
after(async () => {
  await standard[Symbol.asyncDispose]();
  await lan[Symbol.asyncDispose]();
});
const { node, tandem } = standard;
const pods = { ptp: node.pod('ptp'), bridged: node.pod('bridged') };
const host = node.own(Probe.start(node.node));
const captures = new Map<string, Capture>();
for (const [name, pod] of Object.entries(pods)) {
  const probe = node.own(Probe.start(pod.namespace));
  captures.set(name, await probe.capture({ contains: token }));
  captures.set(`lan to ${name}`, await probe.capture({ contains: macBytes(lanMac) }));
  for (const address of ['0.0.0.0', '::']) await probe.listen({ protocol: 'tcp', address, port });
}
const own = {
  '10.': [plan.node4, plan.nodeUpstream4, plan.bridgeGateway4],
  'fd00::': [plan.node6, plan.nodeUpstream6, plan.bridgeGateway6],
} as const;
const families = ['10.', 'fd00::'] as const;

const claim = (source: string, destination: string): Omit<PacketSpec, 'ethernet'> => ({
  ip: { source, destination },
  udp: { sourcePort: 4000, destinationPort: port },
  payload: token,
});

const attackers = {
  remote: async (): Promise<readonly Ethernet[]> => [
    await uplinkMacs(node, node.remote, plan.remoteUplink),
  ],
  upstream: async (): Promise<readonly Ethernet[]> => [
    await uplinkMacs(node, node.upstream, plan.upstreamUplink),
  ],
  // Over the bridge to the pod itself, through the node, to an unused address and to all.
  lan: async (): Promise<readonly Ethernet[]> =>
    [pods.bridged.mac, plan.bridgeMac, '02:11:22:33:44:55', 'ff:ff:ff:ff:ff:ff'].map(
      (destination) => ({ source: '02:00:00:00:77:01', destination }),
    ),
} as const;
interface Ethernet {
  readonly source: string;
  readonly destination: string;
}
const probes = {
  remote: node.own(Probe.start(node.remote)),
  upstream: node.own(Probe.start(node.upstream)),
  lan: node.own(Probe.start(lan)),
};
const accomplicePod = node.pod('accomplice');
const accomplice = node.own(Probe.start(accomplicePod.namespace));
let answerPort = 5000;

for (const state of ['alive', 'dead'] as const) {
  describe(`agent ${state}`, () => {
    if (state === 'dead') test('it is killed', () => tandem.kill('agent'));

    for (const from of ['remote', 'upstream', 'lan'] as const) {
      test(`from ${from} no packet in the node's name reaches a pod`, async () => {
        for (const ethernet of await attackers[from]()) {
          for (const [name, pod] of Object.entries(pods)) {
            for (const family of families) {
              for (const source of own[family]) {
                const packet = claim(source, addressOf(pod, family));
                await assertDropped({
                  ...{ tandem, reason: 'drop_unverified', at: captures.get(name) as Capture },
                  send: () => probes[from].frame(buildPacket({ ...packet, ethernet })),
                });
              }
            }
          }
        }
      });
    }

    test("a machine at the bridge does not become the pods' gateway", async () => {
      const { bridged } = pods;
      const names = { sourceMac: lanMac, destinationMac: bridged.mac };
      const arpOf = (senderAddress: string, operation: 'request' | 'reply'): PacketSpec => ({
        ethernet: { source: lanMac, destination: bridged.mac },
        arp: {
          ...{ operation, senderMac: lanMac, senderAddress },
          ...{ targetMac: bridged.mac, targetAddress: addressOf(bridged, '10.') },
        },
      });
      const advertised = (address: string): PacketSpec =>
        neighbourAdvertisement(
          { source: address, destination: addressOf(bridged, 'fd00::'), ...names },
          address,
        );
      const solicited = neighbourSolicitation(
        { source: plan.bridgeGateway6, destination: addressOf(bridged, 'fd00::'), ...names },
        addressOf(bridged, 'fd00::'),
      );
      const claims = [
        ...own['10.'].flatMap((address) => [arpOf(address, 'reply'), arpOf(address, 'request')]),
        ...own['fd00::'].map(advertised),
        solicited,
      ];
      const at = captures.get('lan to bridged') as Capture;
      for (const packet of claims) {
        const send = (): Promise<void> => probes.lan.frame(buildPacket(packet));
        await assertDropped({ tandem, reason: 'drop_spoofed', at, send });
      }
      // What it says of itself, and of a router that it is, arrives.
      for (const packet of [arpOf('10.1.2.240', 'reply'), advertised('fd00:1:2::240')]) {
        const { matched } = await at.captured();
        await probes.lan.frame(buildPacket(packet));
        await waitFor(async () => (await at.captured()).matched > matched, {
          what: 'its own claim',
        });
      }
      const gateways = (await bridged.namespace.ipJson(['neigh', 'show'])) as readonly {
        readonly dst: string;
        readonly lladdr?: string;
      }[];
      for (const gateway of [plan.bridgeGateway4, plan.bridgeGateway6]) {
        const { lladdr } = gateways.find(({ dst }) => dst === gateway) ?? {};
        assert.notEqual(lladdr, lanMac, gateway);
      }
    });

    test('no pod answers a connection that the node never opened', async () => {
      const receivers = ['ff:ff:ff:ff:ff:ff', '01:00:5e:00:00:01', '33:33:00:00:00:01'];
      receivers.push(pods.bridged.hostMac, accomplicePod.hostMac, accomplicePod.mac);
      for (const destination of [...receivers, plan.bridgeMac]) {
        for (const family of families) {
          answerPort += 1;
          const source = own[family][0];
          const forged = buildPacket({
            ethernet: { source: '02:00:00:00:77:01', destination },
            ip: { source, destination: addressOf(accomplicePod, family) },
            udp: { sourcePort: port, destinationPort: answerPort },
          });
          await assertCounted(tandem, 'drop_unverified', () => probes.lan.frame(forged));
          const answer = frameOf(accomplicePod, {
            ip: { source: addressOf(accomplicePod, family), destination: source },
            udp: { sourcePort: answerPort, destinationPort: port },
          });
          await assertCounted(tandem, 'drop_no_match', () => accomplice.frame(answer));
        }
      }
    });

    test('the node itself reaches its pods: straight, by a Service, by its own NodePort', async () => {
      const places: (readonly [string, number])[] = [
        ...Object.values(pods).flatMap((pod) =>
          families.map((family) => [addressOf(pod, family), port] as const),
        ),
        ...(['10.96.0.80', 'fd00:96::80'] as const).map((address) => [address, port] as const),
        ...families.flatMap((family) => own[family].map((address) => [address, nodePort] as const)),
        ['127.0.0.1', nodePort],
      ];
      for (const [address, at] of places) {
        assert.ok(await canConnect(host, address, at), `${address}:${at}`);
      }
    });
  });
}
