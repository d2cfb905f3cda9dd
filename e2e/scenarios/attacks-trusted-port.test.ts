// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod that the agent does not know, behind the bridge of pods, and machines behind trusted ports of it (safety rule 6): no
 * frame of the pod arrives there, of whatever protocol and with whatever tags. What known pods, the node and the machines say to
 * each other arrives. With the agent alive, and dead.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { macBytes } from '@tandem/testing/address';
import { Namespace } from '@tandem/testing/namespace';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket } from '@tandem/testing/packet';
import { neighbourAdvertisement } from '@tandem/testing/packet-ndp';
import type { ArpSpec, EthernetSpec, VlanTag } from '@tandem/testing/packet-spec';
import { type Capture, Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { waitForDegraded } from '../kit/admin.ts';
import { addressOf, assertDropped, canConnect } from '../kit/attack.ts';
import { startForeignProgram } from '../kit/foreign-program.ts';
import { observedDrops } from '../kit/observed-dns.ts';
import { startStandardNode } from '../kit/standard-node.ts';

const port = 9000;
const broadcast = 'ff:ff:ff:ff:ff:ff';
const machines = {
  lan0: { namespace: await Namespace.create('lan0'), mac: '02:00:00:00:77:01', ipv4: '10.1.2.240' },
  lan1: { namespace: await Namespace.create('lan1'), mac: '02:00:00:00:77:02', ipv4: '10.1.2.241' },
} as const;
type Machine = keyof typeof machines;
const plugged = (name: Machine): readonly string[] => [
  `link add ${name} type veth peer name eth0 address ${machines[name].mac} netns ${machines[name].namespace.name}`,
  `link set ${name} master ${plan.bridge} up`,
];
const configured = (name: Machine): Promise<void> =>
  machines[name].namespace.ip(['link set eth0 up', `addr add ${machines[name].ipv4}/24 dev eth0`]);
/** Program of other software, at lan1 before the agent is there: it ends the chain of its hook. */
let foreign: AsyncDisposable | null = null;
const standard = await startStandardNode({
  pods: [{ name: 'known', kind: 'bridge' }],
  policies: [],
  agentOptions: { 'trusted-interfaces': 'lan0,lan1' },
  prepare: async (created) => {
    const { node } = created;
    await node.ip([...plugged('lan0'), ...plugged('lan1')]);
    for (const name of ['lan0', 'lan1'] as const) await configured(name);
    foreign = await startForeignProgram(node, await created.ifindex('lan1'), undefined, 'egress');
  },
});
after(async () => {
  await foreign?.[Symbol.asyncDispose]();
  await standard[Symbol.asyncDispose]();
  for (const { namespace } of Object.values(machines)) await namespace[Symbol.asyncDispose]();
});
const { node, tandem } = standard;
const known = node.pod('known');
const stranger = await node.addPod({
  ...{ name: 'stranger', kind: 'bridge', ipv4: '10.1.2.200', ipv6: 'fd00:1:2::200' },
});
const probes = {
  stranger: node.own(Probe.start(stranger.namespace)),
  known: node.own(Probe.start(known.namespace)),
  node: node.own(Probe.start(node.node)),
  lan0: node.own(Probe.start(machines.lan0.namespace)),
  lan1: node.own(Probe.start(machines.lan1.namespace)),
};
for (const name of ['known', 'lan0'] as const) {
  await probes[name].listen({ protocol: 'tcp', address: '0.0.0.0', port });
}

const { mac, ipv4 } = machines.lan0;
const token = 'past netfilter';
const arp = (ethernet: EthernetSpec, message: Partial<ArpSpec>): Uint8Array =>
  buildPacket({
    ethernet: { source: stranger.mac, ...ethernet },
    arp: {
      ...{ operation: 'reply', senderMac: stranger.mac, senderAddress: plan.bridgeGateway4 },
      ...{ targetMac: mac, targetAddress: ipv4 },
      ...message,
    },
  });
const datagram = (vlans: readonly VlanTag[], destination: string): Uint8Array =>
  buildPacket({
    ethernet: { source: stranger.mac, destination, vlans },
    ip: { source: addressOf(known, '10.'), destination: ipv4 },
    udp: { sourcePort: 4000, destinationPort: port },
    payload: token,
  });
const advertisement = neighbourAdvertisement(
  {
    ...{ source: plan.bridgeGateway6, destination: 'ff02::1' },
    ...{ sourceMac: stranger.mac, destinationMac: '33:33:00:00:00:01' },
  },
  plan.bridgeGateway6,
);
const frames: Readonly<Record<string, Uint8Array>> = {
  'ARP as the gateway': arp({ destination: mac }, {}),
  'ARP as the gateway, to all': arp({ destination: broadcast }, { operation: 'request' }),
  'ARP as a known pod': arp({ destination: mac }, { senderAddress: addressOf(known, '10.') }),
  'ARP in VLAN 0': arp({ destination: mac, vlans: [{ id: 0 }] }, {}),
  'ARP in QinQ': arp({ destination: mac, vlans: [{ id: 0, tpid: 0x88a8 }, { id: 0 }] }, {}),
  'an ARP probe': arp(
    { destination: broadcast },
    { operation: 'request', senderAddress: '0.0.0.0' },
  ),
  'IP in VLAN 0': datagram([{ id: 0 }], mac),
  'IP in VLAN 7': datagram([{ id: 7 }], mac),
  'IP in VLAN 0, to all': datagram([{ id: 0 }], broadcast),
  'neighbour discovery in VLAN 0': buildPacket({
    ...advertisement,
    ethernet: { ...advertisement.ethernet, vlans: [{ id: 0 }] },
  }),
  'another ethertype': buildPacket({
    ethernet: { source: stranger.mac, destination: mac, type: 0x88b5 },
    payload: token.padEnd(60),
  }),
  'spanning tree': buildPacket({
    ethernet: { source: stranger.mac, destination: '01:80:c2:00:00:00', type: 0x26 },
    payload: token.padEnd(60),
  }),
};

/** Frames of a machine to another, which are no business of Tandem. */
const between: Readonly<Record<string, Uint8Array>> = {
  ARP: buildPacket({
    ethernet: { source: machines.lan1.mac, destination: mac },
    arp: {
      ...{ operation: 'reply', senderMac: machines.lan1.mac, senderAddress: machines.lan1.ipv4 },
      ...{ targetMac: mac, targetAddress: ipv4 },
    },
  }),
  tagged: buildPacket({
    ethernet: { source: machines.lan1.mac, destination: mac, vlans: [{ id: 7 }] },
    ip: { source: machines.lan1.ipv4, destination: ipv4 },
    udp: { sourcePort: 4000, destinationPort: port },
  }),
  'another ethertype': buildPacket({
    ethernet: { source: machines.lan1.mac, destination: mac, type: 0x88b5 },
    payload: token.padEnd(60),
  }),
};

async function forget(): Promise<void> {
  for (const each of [node.node, known.namespace, machines.lan0.namespace]) {
    await each.ip(['neigh flush all']);
  }
}

async function assertGuarded(at: Capture, frame: Uint8Array): Promise<void> {
  const send = (): Promise<void> => probes.stranger.frame(frame);
  await assertDropped({ tandem, reason: 'drop_unknown_pod', at, send });
}

test('an operator sees what was dropped, and of which interface, once for all ports', async () => {
  const { hostIfindex: ifindex } = stranger;
  const one = '10.1.2.77';
  const all = '10.1.2.78';
  // The bridge knows then where the machine is, and does not flood.
  await waitFor(() => canConnect(probes.node, ipv4, port), { what: 'the machine' });
  await probes.stranger.frame(arp({ destination: mac }, { senderAddress: one }));
  await probes.stranger.frame(arp({ destination: broadcast }, { senderAddress: all }));
  const drops = await waitFor(
    async () => {
      const found = (await observedDrops(tandem)).filter(({ source }) =>
        [one, all].includes(source ?? ''),
      );
      return found.some(({ source }) => source === all) && found;
    },
    { what: 'the drops' },
  );
  assert.deepEqual(
    drops.map(({ source }) => source),
    [one, all],
  );
  const [{ reason, hook, ifindex: told } = assert.fail()] = drops;
  assert.deepEqual(
    { reason, hook, told },
    { reason: 'drop_unknown_pod', hook: 'guard_exit', told: ifindex },
  );
});

for (const state of ['alive', 'dead'] as const) {
  describe(`agent ${state}`, () => {
    if (state === 'dead') test('it is killed', () => tandem.kill('agent'));

    for (const [name, frame] of Object.entries(frames)) {
      test(`${name} of a pod that is not known does not arrive at a machine`, async () => {
        await using at = await probes.lan0.capture({ contains: macBytes(stranger.mac) });
        await assertGuarded(at, frame);
      });
    }

    test('nor at one whose port has a program of other software, which is behind guard_exit', async () => {
      await using at = await probes.lan1.capture({ contains: macBytes(stranger.mac) });
      for (const name of ['ARP as the gateway, to all', 'IP in VLAN 0, to all']) {
        const frame = frames[name];
        assert.ok(frame !== undefined);
        await assertGuarded(at, frame);
      }
    });

    for (const [name, frame] of Object.entries(between)) {
      test(`between machines it arrives: ${name}`, async () => {
        await using at = await probes.lan0.capture({ contains: macBytes(machines.lan1.mac) });
        await probes.lan1.frame(frame);
        await at.captured({ count: 1 });
      });
    }

    test('pods, the node and machines find each other anew', async () => {
      for (const [from, to] of [
        ['known', ipv4],
        ['node', ipv4],
        ['lan0', addressOf(known, '10.')],
      ] as const) {
        await forget();
        // The first SYN may wait for ARP longer than it is given.
        await waitFor(() => canConnect(probes[from], to, port), { what: `${from} to ${to}` });
      }
    });
  });
}

test('a program of other software that comes before guard_exit is named by the agent', async () => {
  await tandem.startProcess('agent');
  await tandem.waitForMembers(['agent']);
  const ifindex = await node.ifindex('lan0');
  await using _first = await startForeignProgram(node.node, ifindex, undefined, 'egress');
  assert.match(await waitForDegraded(tandem, 'agent', 'endpoint-chain'), /guard_exit on lan0: /);
});

test('a machine whose port is made again is guarded again', async () => {
  await node.node.ip(['link del lan0', ...plugged('lan0')]);
  await configured('lan0');
  await using at = await probes.lan0.capture({ contains: macBytes(stranger.mac) });
  const frame = frames['ARP as the gateway'];
  assert.ok(frame !== undefined);
  await waitFor(
    async () => {
      const { matched } = await at.captured();
      await probes.stranger.frame(frame);
      const { drop_unknown_pod: before = 0 } = tandem.counters();
      await probes.stranger.frame(frame);
      return (
        (await at.captured()).matched === matched &&
        (tandem.counters()['drop_unknown_pod'] ?? 0) > before
      );
    },
    { what: 'the guard' },
  );
  await assertGuarded(at, frame);
});

test("a frame for the bridge's own address that the bridge floods does not arrive", async () => {
  // As in a VLAN that the bridge is not in: it does not know its own address then, and calls the frame its own all the same.
  const own = stranger.gatewayMac;
  await node.node.run('bridge', ['fdb', 'del', own, 'dev', plan.bridge, 'self']);
  await using at = await probes.lan0.capture({ contains: macBytes(stranger.mac) });
  await assertGuarded(at, arp({ destination: own }, {}));
  await using seen = await probes.lan0.capture({ contains: macBytes(machines.lan1.mac) });
  await probes.lan1.frame(
    buildPacket({
      ethernet: { source: machines.lan1.mac, destination: own, type: 0x88b5 },
      payload: token.padEnd(60),
    }),
  );
  await seen.captured({ count: 1 });
});
