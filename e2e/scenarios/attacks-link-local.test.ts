// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Link-local addresses at a bridge (safety rule 2): those of the node that are made of no Ethernet address, by hand and with
 * addr_gen_mode random, and that of a router there. Pods use both as gateways. A pod claims them by advertisements, duplicate address
 * detection, router's messages, and as source; no neighbour table believes it. With the agent alive, and dead.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { addressBytes } from '@tandem/testing/address';
import type { Namespace } from '@tandem/testing/namespace';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket, concatBytes } from '@tandem/testing/packet';
import {
  type NdpAddresses,
  ndpType,
  neighbourAdvertisement,
  neighbourSolicitation,
  redirect,
  routerAdvertisement,
  routerSolicitation,
} from '@tandem/testing/packet-ndp';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { addressOf, assertDropped } from '../kit/attack.ts';
import { startStandardNode } from '../kit/standard-node.ts';

const byHand = 'fe80::1';
const later = 'fe80::99';
const router = 'fe80::77';
const routerMac = '02:00:00:00:77:01';
const standard = await startStandardNode({
  agentOptions: { 'log-level': 'debug' },
  pods: [
    { name: 'attacker', kind: 'bridge' },
    { name: 'victim', kind: 'bridge' },
  ],
  prepare: async ({ node }) => {
    await node.ip([
      `addr add ${byHand}/64 dev ${plan.bridge} nodad`,
      `route add 2001:db8:77::/48 via ${router} dev ${plan.bridge}`,
      `neigh replace ${router} lladdr ${routerMac} dev ${plan.bridge} nud reachable`,
    ]);
    // IN6_ADDR_GEN_MODE_RANDOM
    await node.sysctl({ [`net.ipv6.conf.${plan.bridge}.addr_gen_mode`]: 3 });
  },
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;
const pod = node.pod('attacker');
const victimPod = node.pod('victim');
const attacker = node.own(Probe.start(pod.namespace));
const victim = node.own(Probe.start(victimPod.namespace));
/** In an option without a meaning, a nonce: of the attacker's own kernel come no such frames. */
const token = 'forged';
const option = concatBytes([Uint8Array.of(14, 1), Buffer.from(token)]);
const atVictim = await victim.capture({ contains: token });

interface LinkAddresses {
  readonly addr_info: readonly {
    readonly local: string;
    readonly scope: string;
    readonly dadfailed?: boolean;
  }[];
}
async function linkLocalsOf(namespace: Namespace, device: string): Promise<string[]> {
  const links = (await namespace.ipJson(['-6', 'addr', 'show', 'dev', device])) as LinkAddresses[];
  return links
    .flatMap(({ addr_info: addresses }) => addresses)
    .filter(({ scope, dadfailed }) => scope === 'link' && dadfailed !== true)
    .map(({ local }) => local);
}

const [ownLinkLocal = ''] = await linkLocalsOf(pod.namespace, 'eth0');
const atBridge = await linkLocalsOf(node.node, plan.bridge);
const random = atBridge.find((each) => each !== byHand && !each.includes('ff:fe')) ?? '';

test('the bridge has an address by hand and a random one', () => {
  assert.ok(atBridge.includes(byHand), atBridge.join());
  assert.ok(random.startsWith('fe80:'), atBridge.join());
});

const everybody: NdpAddresses = {
  source: ownLinkLocal,
  destination: 'ff02::1',
  sourceMac: pod.mac,
  destinationMac: '33:33:00:00:00:01',
};
const own6 = addressOf(pod, 'fd00::');
const victim6 = addressOf(victimPod, 'fd00::');
const toVictim = { destination: victim6, destinationMac: victimPod.mac };
const marked = (packet: PacketSpec): PacketSpec => {
  const { payload = new Uint8Array(0) } = packet;
  return { ...packet, payload: concatBytes([Buffer.from(payload as Uint8Array), option]) };
};

/** Duplicate address detection: without a source, and without an address of its link. */
const detection = (target: string): PacketSpec => ({
  ethernet: { source: pod.mac, destination: everybody.destinationMac },
  ip: { source: '::', destination: 'ff02::1', ttl: 255 },
  icmp: { type: ndpType.neighbourSolicitation },
  payload: addressBytes(target),
});

const claimsOf = (target: string): readonly (readonly [what: string, packet: PacketSpec])[] => {
  const asTarget = { ...everybody, source: target };
  return [
    ['an advertisement', neighbourAdvertisement(everybody, target)],
    ['an advertisement in its name', neighbourAdvertisement(asTarget, target)],
    [
      'an advertisement to one pod',
      neighbourAdvertisement({ ...everybody, ...toVictim, source: own6 }, target),
    ],
    ['duplicate address detection', detection(target)],
    ['a solicitation in its name', neighbourSolicitation({ ...asTarget, ...toVictim }, victim6)],
    ['a router solicitation in its name', routerSolicitation(asTarget)],
    ['a router advertisement in its name', routerAdvertisement(asTarget, 1800)],
    [
      'a redirect in its name',
      redirect({ ...asTarget, ...toVictim }, ownLinkLocal, plan.upstream6),
    ],
    [
      'a datagram in its name',
      {
        ethernet: { source: pod.mac, destination: victimPod.mac },
        ip: { source: target, destination: victim6 },
        udp: { sourcePort: 4000, destinationPort: 9000 },
      },
    ],
  ];
};

interface NeighbourEntry {
  readonly dst: string;
  readonly lladdr?: string;
}
async function neighboursOf(namespace: Namespace, device: string): Promise<Map<string, string>> {
  const entries = (await namespace.ipJson([
    ...['-6', 'neigh', 'show', 'dev', device],
  ])) as NeighbourEntry[];
  return new Map(entries.map(({ dst, lladdr = '' }) => [dst, lladdr]));
}

/** By this gateway the victim reaches the internet, whose address it must find again. */
async function assertGateway(gateway: string): Promise<void> {
  await victimPod.namespace.ip([
    `route replace default via ${gateway} dev eth0 src ${victim6}`,
    'neigh flush all',
  ]);
  await victim.ping(plan.upstream6);
  const known = await neighboursOf(victimPod.namespace, 'eth0');
  assert.equal(known.get(gateway), plan.bridgeMac);
}

test('an address that the bridge gets while pods are there is guarded once the agent knows it', async () => {
  const applications = tandem.applications();
  await node.node.ip([`addr add ${later}/64 dev ${plan.bridge} nodad`]);
  await tandem.waitForApplication(applications);
  const frame = buildPacket(marked(neighbourAdvertisement(everybody, later)));
  const send = (): Promise<void> => attacker.frame(frame);
  await assertDropped({ tandem, reason: 'drop_nd', at: atVictim, send });
  await assertGateway(later);
});

for (const state of ['alive', 'dead'] as const) {
  describe(`agent ${state}`, () => {
    if (state === 'dead') test('it is killed', () => tandem.kill('agent'));

    test('the way is there: what the pod says of itself arrives', async () => {
      const { matched } = await atVictim.captured();
      await attacker.frame(buildPacket(marked(neighbourAdvertisement(everybody, ownLinkLocal))));
      await waitFor(async () => (await atVictim.captured()).matched > matched, {
        what: 'its own advertisement',
      });
    });

    for (const [name, target] of Object.entries({ byHand, random, router })) {
      for (const [what, packet] of claimsOf(target)) {
        test(`${name}: ${what}`, async () => {
          const frame = buildPacket(marked(packet));
          const send = (): Promise<void> => attacker.frame(frame);
          await assertDropped({ tandem, reason: 'drop_nd', at: atVictim, send });
        });
      }
    }

    test('no table took the attacker for the node or its router', async () => {
      for (const gateway of [later, byHand, random]) await assertGateway(gateway);
      for (const [, packet] of claimsOf(random)) await attacker.frame(buildPacket(marked(packet)));
      await victim.ping(plan.upstream6);
      const atNode = await neighboursOf(node.node, plan.bridge);
      assert.equal(atNode.get(router), routerMac);
      for (const address of [byHand, random, later]) assert.equal(atNode.get(address), undefined);
      const kept = await linkLocalsOf(node.node, plan.bridge);
      assert.deepEqual(kept.toSorted(), [...atBridge, later].toSorted());
    });
  });
}
