// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Traces of what a pod did to the node before the agent's first start (rules 6, 18, 20): with router advertisements, on a node
 * that accepts them at its veths, it made itself the node's router and the way to another pod's address. Neither
 * makes its interface one that leads out, nor the other pod's.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createNode, type Pod, type TestNode } from '@tandem/testing/netns';
import { buildPacket } from '@tandem/testing/packet';
import { routerAdvertisement } from '@tandem/testing/packet-ndp';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { addressOf, assertDropped, frameOf } from '../kit/attack.ts';
import { endpointOf } from '../kit/endpoints.ts';
import { namespaceObject, networkPolicy, nodeObjects, podObject } from '../kit/objects.ts';
import { TandemNode } from '../kit/tandem-node.ts';

const token = 'router-of-mine';
const port = 9001;
const world6 = '2001:db8:3::9';

let node: TestNode;
let tandem: TandemNode;
let ghost: Pod;
let victim: Pod;
let server: Pod;
let ghostProbe: Probe;
let serverProbe: Probe;

const datagram = (source: string, destination: string): PacketSpec => ({
  ip: { source, destination },
  udp: { sourcePort: 4000, destinationPort: port },
  payload: token,
});

/** As a source without annotations has it: its interface is told by the node's host route. */
function withoutInterface(pod: Pod): object {
  const made = podObject(pod) as { metadata: object };
  return { ...made, metadata: { ...made.metadata, annotations: {} } };
}

before(async () => {
  node = await createNode({ pods: [{ name: 'server' }, { name: 'victim', ipv4: null }] });
  await node.node.sysctl({ 'net.ipv6.conf.default.accept_ra': 2 });
  ghost = await node.addPod({ name: 'ghost' });
  [server, victim] = [node.pod('server'), node.pod('victim')];
  ghostProbe = node.own(Probe.start(ghost.namespace));
  serverProbe = node.own(Probe.start(server.namespace));
  const advertisement = routerAdvertisement(
    {
      source: 'fe80::bad',
      destination: 'ff02::1',
      sourceMac: ghost.mac,
      destinationMac: '33:33:00:00:00:01',
    },
    1800,
    [{ prefix: addressOf(victim, 'fd00::'), length: 128, by: 'link' }],
  );
  await waitFor(
    async () => {
      await ghostProbe.frame(buildPacket(advertisement));
      const routes = (await node.node.ipJson(['-6', 'route', 'show', 'dev', 'pod-ghost'])) as {
        dst: string;
      }[];
      const told = routes.map(({ dst }) => dst);
      return told.includes('default') && told.includes(addressOf(victim, 'fd00::'));
    },
    { what: 'the node to believe it' },
  );
  tandem = await TandemNode.create(node);
  tandem.write('cluster.yaml', [
    namespaceObject('default'),
    ...nodeObjects(),
    ...[server, victim].map(withoutInterface),
    networkPolicy({
      name: 'server',
      selects: { app: 'server' },
      ingress: [
        { fromEndpoints: [{ matchLabels: { app: 'victim' } }] },
        { fromCIDR: ['2001:db8:3::/48'] },
      ],
    }),
  ]);
  await tandem.startProcess('agent');
  await tandem.waitForMembers(['agent']);
});
after(() => node[Symbol.asyncDispose]());

test('its interface does not lead out: what it sends in the name of the world is dropped', async () => {
  await using atServer = await serverProbe.capture({ contains: token });
  const frame = frameOf(ghost, datagram(world6, addressOf(server, 'fd00::')));
  const send = (): Promise<void> => ghostProbe.frame(frame);
  await assertDropped({ tandem, reason: 'drop_unknown_pod', at: atServer, send });
});

test('it is not the pod whose address it claimed: neither direction of that policy is its own', async () => {
  const address = addressOf(victim, 'fd00::');
  assert.equal(endpointOf(tandem, address)?.ifindex, victim.hostIfindex);
  await using atServer = await serverProbe.capture({ contains: token });
  const frame = frameOf(ghost, datagram(address, addressOf(server, 'fd00::')));
  const inItsName = (): Promise<void> => ghostProbe.frame(frame);
  await assertDropped({ tandem, reason: 'drop_unverified', at: atServer, send: inItsName });
  // The node itself still believes the ghost, and routes there.
  await using atGhost = await ghostProbe.capture({ contains: token });
  const toIt = (): Promise<unknown> => serverProbe.udp({ to: address, port, data: token, want: 0 });
  await assertDropped({ tandem, reason: 'drop_unknown_pod', at: atGhost, send: toIt });
});
