// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A bridge that is not pods', with a machine of its own (libvirt's with a guest), and trusted ports of the bridge of pods: no
 * frame of that bridge is Tandem's business, also where it leaves by such a port. With the agent alive, and dead.
 */

import { after, describe, test } from 'node:test';
import { macBytes } from '@tandem/testing/address';
import { Namespace } from '@tandem/testing/namespace';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket } from '@tandem/testing/packet';
import { Probe } from '@tandem/testing/probe';
import { assertDropped } from '../kit/attack.ts';
import { startStandardNode } from '../kit/standard-node.ts';

const macs = { lan0: '02:00:00:00:78:01', lan1: '02:00:00:00:78:02', guest: '02:00:00:00:78:03' };
const namespaces = {
  lan0: await Namespace.create('lan0'),
  lan1: await Namespace.create('lan1'),
  guest: await Namespace.create('guest'),
} as const;
type Machine = keyof typeof namespaces;
const plugged = (name: Machine, bridge: string): readonly string[] => [
  `link add ${name} type veth peer name eth0 address ${macs[name]} netns ${namespaces[name].name}`,
  `link set ${name} master ${bridge} up`,
];
/**
 * A VLAN device on lan0, of which the kernel of the tests has none: what leaves by it leaves by lan0, and nothing else of the
 * packet in the kernel is changed.
 */
const vlanDevice = `table netdev of_the_vlan {
  chain out { type filter hook egress device "lan0.100" priority 0; fwd to "lan0"; }
}`;
const standard = await startStandardNode({
  pods: [{ name: 'known', kind: 'bridge' }],
  policies: [],
  agentOptions: { 'trusted-interfaces': 'lan0,lan1' },
  prepare: async ({ node }) => {
    await node.ip([
      'link add br100 type bridge',
      'link set br100 up',
      ...plugged('lan0', plan.bridge),
      ...plugged('lan1', plan.bridge),
      ...plugged('guest', 'br100'),
      'link add lan0.100 type veth peer name lan0-end',
      'link set lan0-end up',
      'link set lan0.100 master br100 up',
    ]);
    await node.run('nft', ['-f', '-'], vlanDevice);
    for (const each of Object.values(namespaces)) await each.ip(['link set eth0 up']);
  },
});
after(async () => {
  await standard[Symbol.asyncDispose]();
  for (const each of Object.values(namespaces)) await each[Symbol.asyncDispose]();
});
const { node, tandem } = standard;
const stranger = await node.addPod({
  ...{ name: 'stranger', kind: 'bridge', ipv4: '10.1.2.200', ipv6: 'fd00:1:2::200' },
});
const probes = {
  guest: node.own(Probe.start(namespaces.guest)),
  stranger: node.own(Probe.start(stranger.namespace)),
  lan0: node.own(Probe.start(namespaces.lan0)),
  lan1: node.own(Probe.start(namespaces.lan1)),
};

/** The guest's frames, as a bridge switches them: to all, to one Ethernet address. */
const frameTo = (source: string, destination: string): Uint8Array =>
  buildPacket({ ethernet: { source, destination, type: 0x88b5 }, payload: 'x'.repeat(60) });

async function assertArrives(at: 'lan0' | 'lan1', destination: string): Promise<void> {
  await using capture = await probes[at].capture({ contains: macBytes(macs.guest) });
  await probes.guest.frame(frameTo(macs.guest, destination));
  await capture.captured({ count: 1 });
}

async function assertGuarded(at: 'lan0' | 'lan1'): Promise<void> {
  await using capture = await probes[at].capture({ contains: macBytes(stranger.mac) });
  const send = (): Promise<void> => probes.stranger.frame(frameTo(stranger.mac, macs[at]));
  await assertDropped({ tandem, reason: 'drop_unknown_pod', at: capture, send });
}

for (const state of ['alive', 'dead'] as const) {
  describe(`agent ${state}`, () => {
    if (state === 'dead') test('it is killed', () => tandem.kill('agent'));

    test('a stranger reaches no machine', async () => {
      for (const at of ['lan0', 'lan1'] as const) await assertGuarded(at);
    });

    for (const destination of [macs.lan0, 'ff:ff:ff:ff:ff:ff']) {
      test(`a guest's frame to ${destination} leaves by a VLAN of a trusted port`, () =>
        assertArrives('lan0', destination));
    }
  });
}

test('a port that moved to the other bridge meanwhile is no port of pods', async () => {
  await node.node.ip(['link set lan1 master br100']);
  for (const destination of [macs.lan1, 'ff:ff:ff:ff:ff:ff']) {
    await assertArrives('lan1', destination);
  }
});

test('a port that moved back is guarded again', async () => {
  await node.node.ip([`link set lan1 master ${plan.bridge}`]);
  await assertGuarded('lan1');
});
