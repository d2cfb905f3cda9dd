// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The shipped object on real paths: by which interface a packet enters and leaves, and whose that is (ADR 12). Known
 * and new pods, point-to-point and bridged; a bridge, a VXLAN and a veth pair that are no pods'; an index that is
 * used again. No endpoint has policy: every drop here is one of identity. The stage: devices-stage.ts.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { hostSideCommands, plan, podSideCommands } from '@tandem/testing/node-plan';
import { buildIp, buildPacket } from '@tandem/testing/packet';
import { routerAdvertisement } from '@tandem/testing/packet-ndp';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { waitFor } from '@tandem/testing/wait';
import {
  type Addresses,
  knowNeighbours,
  type Place,
  places,
  port,
  Stage,
} from './devices-stage.ts';

let stage: Stage;
before(async () => {
  stage = await Stage.create();
});
after(() => stage[Symbol.asyncDispose]());

const arrivesMs = 5000;
const droppedMs = 300;

const passing: readonly (readonly [from: Place, to: Place, counter: string])[] = [
  ['ptp', 'world', 'FORWARDED'],
  ['bridged', 'world', 'FORWARDED'],
  ['ptp', 'ptp2', 'FORWARDED'],
  ['ptp', 'bridged', 'FORWARDED'],
  ['bridged', 'ptp', 'FORWARDED'],
  ['bridged', 'bridged2', 'FORWARDED'],
  ['ptp', 'host', 'FORWARDED'],
  ['bridged', 'host', 'FORWARDED'],
  ['host', 'ptp', 'HOST'],
  ['host', 'bridged', 'HOST'],
  ['world', 'ptp', 'FORWARDED'],
  ['world', 'bridged', 'FORWARDED'],
  ['world', 'host', 'NO_ENDPOINT'],
  ['container', 'world', 'NO_ENDPOINT'],
  ['container', 'host', 'NO_ENDPOINT'],
  ['world', 'container', 'NO_ENDPOINT'],
  ['container', 'ptp', 'FORWARDED'],
  ['container', 'bridged', 'FORWARDED'],
  ['ptp', 'container', 'FORWARDED'],
  ['tunnel', 'ptp', 'FORWARDED'],
  ['tunnel', 'bridged', 'FORWARDED'],
  ['tunnel', 'host', 'NO_ENDPOINT'],
  ['bridged', 'tunnel', 'FORWARDED'],
  ['ptp', 'tunnel', 'FORWARDED'],
];

const strange: readonly (readonly [from: Place, to: Place])[] = [
  ['new-ptp', 'world'],
  ['new-ptp', 'host'],
  ['new-ptp', 'ptp'],
  ['new-ptp', 'bridged'],
  ['new-ptp', 'container'],
  ['new-ptp', 'tunnel'],
  ['new-port', 'world'],
  ['new-port', 'host'],
  ['new-port', 'ptp'],
  ['new-port', 'bridged'],
  ['new-port', 'container'],
  ['new-ptp', 'new-port'],
  ['world', 'new-ptp'],
  ['world', 'new-port'],
  ['ptp', 'new-ptp'],
  ['ptp', 'new-port'],
  ['bridged', 'new-ptp'],
  ['bridged', 'new-port'],
  ['container', 'new-ptp'],
  ['tunnel', 'new-port'],
  // the host may ask; the answer enters by an interface that is not known
  ['host', 'new-ptp'],
  ['host', 'new-port'],
];

test('the control: without the datapath every pair of the tables speaks', async () => {
  for (const [from, to] of [...passing, ...strange]) {
    for (const family of [4, 6] as const) {
      assert.ok(
        await stage.exchange(from, to, family, arrivesMs),
        `${from} to ${to}, IPv${family}`,
      );
    }
  }
  await stage.attach();
});

describe('passes, there and back', () => {
  for (const [from, to, counter] of passing) {
    test(`${from} to ${to}, IPv4 and IPv6`, async () => {
      for (const family of [4, 6] as const) {
        await stage.moving([counter], async () => {
          assert.ok(await stage.exchange(from, to, family, arrivesMs), `IPv${family}`);
        });
      }
    });
  }
});

describe('a pod that is not known: nothing from it, nothing to it (rule 6)', () => {
  for (const [from, to] of strange) {
    test(`${from} to ${to}, IPv4 and IPv6`, async () => {
      for (const family of [4, 6] as const) {
        await stage.moving(['DROP_UNKNOWN_POD'], async () => {
          assert.equal(await stage.exchange(from, to, family, droppedMs), false, `IPv${family}`);
        });
      }
    });
  }
});

test('a bridge of pods that had a longer name for a while is one still', async () => {
  const longer = 'bridge-of-other';
  for (const [from, to] of [
    [plan.bridge, longer],
    [longer, plan.bridge],
  ] as const) {
    await stage.node.node.ip([`link set ${from} name ${to}`]);
  }
  await stage.moving(['DROP_UNKNOWN_POD'], async () => {
    assert.equal(await stage.exchange('new-port', 'world', 4, droppedMs), false);
  });
});

function udp(source: string, destination: string): Omit<PacketSpec, 'ethernet'> {
  return {
    ip: { source, destination },
    udp: { sourcePort: 4000, destinationPort: port },
    payload: 'tandem',
  };
}

/** A frame as the pod sends it to its gateway, or to `destination`. */
function frameOf(
  place: Place,
  spec: Omit<PacketSpec, 'ethernet'>,
  destination: string = stage.pod(place).gatewayMac,
): Uint8Array {
  return buildPacket({ ...spec, ethernet: { source: stage.pod(place).mac, destination } });
}

describe("a source that is not the interface's (rule 3)", () => {
  const sources: readonly (readonly [from: Place, source: Addresses, counter: string])[] = [
    ['new-ptp', ['9.9.9.9', '2001:db8:9::9'], 'DROP_UNKNOWN_POD'],
    ['new-ptp', [plan.remotePod4, plan.remotePod6], 'DROP_UNKNOWN_POD'],
    ['new-ptp', [plan.remoteNode4, plan.remoteNode6], 'DROP_UNKNOWN_POD'],
    ['new-ptp', places.ptp, 'DROP_UNVERIFIED'],
    ['new-ptp', places.bridged, 'DROP_UNVERIFIED'],
    ['new-port', ['9.9.9.9', '2001:db8:9::9'], 'DROP_UNKNOWN_POD'],
    ['new-port', places.ptp, 'DROP_UNVERIFIED'],
    ['new-port', places.bridged, 'DROP_UNVERIFIED'],
    ['ptp', places.ptp2, 'DROP_SPOOFED'],
    ['ptp', ['9.9.9.9', '2001:db8:9::9'], 'DROP_SPOOFED'],
    ['bridged', places.bridged2, 'DROP_SPOOFED'],
  ];
  for (const [from, [source4, source6], counter] of sources) {
    test(`${from} as ${source4} and ${source6}`, async () => {
      for (const [i, source] of [source4, source6].entries()) {
        await stage.moving([counter], () =>
          stage.probe(from).frame(frameOf(from, udp(source, places.world[i] ?? ''))),
        );
      }
    });
  }

  test("a pod's source from the world, from a container, through a tunnel", async () => {
    for (const [i, destination] of places.ptp2.entries()) {
      const packet = buildIp(udp(places.ptp[i] ?? '', destination));
      await stage.moving(['DROP_UNVERIFIED'], () => stage.probe('world').raw(destination, packet));
      await stage.moving(['DROP_UNVERIFIED'], () =>
        stage.probe('container').raw(destination, packet),
      );
    }
  });

  test("the host's own veth pair is outside: what it says it is, but for endpoints' addresses", async () => {
    const links = (await stage.node.node.ipJson(['link', 'show', 'hv1'])) as { address: string }[];
    const ethernet = { destination: links[0]?.address ?? '' };
    const send = (source: string) => () =>
      stage
        .probe('host')
        .frame(buildPacket({ ...udp(source, places.ptp[0]), ethernet }), { interface: 'hv0' });
    await stage.moving(['FORWARDED'], send('9.9.9.9'));
    await stage.moving(['DROP_UNVERIFIED'], send(places.ptp2[0]));
  });
});

describe("the node's own address (rule 3)", () => {
  before(() =>
    stage.node.node.sysctl({
      'net.ipv4.conf.all.accept_local': 1,
      [`net.ipv4.conf.${plan.upstreamUplink}.accept_local`]: 1,
      'net.ipv4.conf.docker0.accept_local': 1,
    }),
  );
  const families = [0, 1] as const;

  test('from the world and from a container it reaches no pod', async () => {
    for (const i of families) {
      for (const to of ['ptp', 'bridged'] as const) {
        const destination = places[to][i];
        const packet = buildIp(udp(places.host[i], destination));
        for (const from of ['world', 'container'] as const) {
          await stage.moving(['DROP_UNVERIFIED'], () => stage.probe(from).raw(destination, packet));
        }
      }
    }
  });

  test('over a veth pair of its own the node speaks on a bridge, and nobody else in its name', async () => {
    const { node } = stage;
    const links = (await node.node.ipJson(['neigh', 'show', 'dev', 'docker0'])) as {
      dst: string;
      lladdr?: string;
    }[];
    const destination = links.find(({ dst }) => dst === places.container[0])?.lladdr ?? '';
    for (const i of families) {
      const frame = buildPacket({
        ...udp(places.host[i], places.container[i]),
        ethernet: { source: '02:00:00:00:77:01', destination },
      });
      await using arrived = await stage.probe('container').capture({ contains: 'tandem' });
      await stage.probe('host').frame(frame, { interface: 'hp0' });
      await arrived.captured({ count: 1 });
      await stage.moving(['DROP_UNVERIFIED'], () => stage.probe('container').frame(frame));
    }
  });
});

describe('layer 2 on the bridge (F1, F4)', () => {
  const everybody = 'ff:ff:ff:ff:ff:ff';

  test("a new port's ARP for the gateway stops at each pod", async () => {
    const spec: PacketSpec = {
      arp: {
        operation: 'reply',
        senderMac: stage.pod('new-port').mac,
        senderAddress: plan.bridgeGateway4,
        targetAddress: places.bridged[0],
      },
    };
    await stage.moving(['DROP_UNKNOWN_POD'], () =>
      stage.probe('new-port').frame(frameOf('new-port', spec, everybody)),
    );
  });

  test('of a frame that is dropped at each port one event is made', async () => {
    const spec: PacketSpec = {
      arp: {
        operation: 'request',
        senderMac: stage.pod('new-port').mac,
        senderAddress: plan.bridgeGateway4,
        targetAddress: places.bridged[0],
      },
    };
    const earlier = (await stage.counters())['DROP_UNKNOWN_POD'] ?? 0;
    await stage.ask({ kind: 'events' });
    for (let i = 0; i < 3; i++) {
      await stage.probe('new-port').frame(frameOf('new-port', spec, everybody));
    }
    await waitFor(async () => (await stage.counters())['DROP_UNKNOWN_POD'] === earlier + 6, {
      what: 'three frames at both pods',
    });
    const reasons = (await stage.ask({ kind: 'events' })) as string[];
    const told = reasons.filter((reason) => reason === 'DROP_UNKNOWN_POD');
    assert.equal(told.length, 3, reasons.join());
  });

  test("a new port's router advertisement reaches no pod", async () => {
    const { mac } = stage.pod('new-port');
    const addresses = {
      source: 'fe80::99',
      destination: 'ff02::1',
      sourceMac: mac,
      destinationMac: '33:33:00:00:00:01',
    };
    await stage.moving(['DROP_UNKNOWN_POD'], () =>
      stage.probe('new-port').frame(buildPacket(routerAdvertisement(addresses, 1800))),
    );
    for (const place of ['bridged', 'bridged2'] as const) {
      const routes = (await stage
        .pod(place)
        .namespace.ipJson(['-6', 'route', 'show', 'default'])) as { gateway: string }[];
      assert.deepEqual(
        routes.map(({ gateway }) => gateway),
        [plan.bridgeGateway6],
      );
    }
  });

  test('what a new port sends to a group of bridges, which Linux delivers as of the port itself', async () => {
    for (const destination of places.host) {
      const source = destination.includes(':') ? '2001:db8:9::9' : '9.9.9.9';
      const frame = frameOf('new-port', udp(source, destination), '01:80:c2:00:00:0e');
      const moved = await stage.moving(['DROP_UNKNOWN_POD'], () =>
        stage.probe('new-port').frame(frame),
      );
      assert.ok(!moved.has('NO_ENDPOINT'), 'it does not pass as of the outside');
    }
  });

  test("a known pod with its neighbour's MAC (F14)", async () => {
    const frame = buildPacket({
      ...udp(places.bridged[0], places.world[0]),
      ethernet: {
        source: stage.pod('bridged2').mac,
        destination: stage.pod('bridged').gatewayMac,
      },
    });
    await stage.moving(['DROP_SPOOFED'], () => stage.probe('bridged').frame(frame));
  });

  test('a broadcast of a known pod is flooded, without an event for each port', async () => {
    const moved = await stage.moving(['FLOODED'], () =>
      stage
        .probe('bridged')
        .frame(frameOf('bridged', udp(places.bridged[0], '10.1.2.255'), everybody)),
    );
    assert.ok(!moved.has('DROP_NOT_FOR_POD'));
  });
});

describe('an index that is used again (F5)', () => {
  for (const [place, peer] of [
    ['ptp2', 'ptp'],
    ['bridged2', 'bridged'],
  ] as const) {
    test(`${place}: the new veth has the old index and address, and is nobody's`, async () => {
      const pod = stage.pod(place);
      const index = pod.hostIfindex;
      assert.ok(((await stage.ask({ kind: 'podDevices' })) as number[]).includes(index));
      await stage.node.node.ip([`link del ${pod.hostInterface}`]);
      assert.ok(
        !((await stage.ask({ kind: 'podDevices' })) as number[]).includes(index),
        'the kernel took it out',
      );
      await recreate(place);
      assert.equal(await stage.node.ifindex(pod.hostInterface), index);
      for (const family of [4, 6] as const) {
        for (const to of ['world', 'host', peer] as const) {
          await stage.moving(['DROP_UNVERIFIED'], async () => {
            assert.equal(await stage.exchange(place, to, family, droppedMs), false, to);
          });
        }
        for (const from of ['world', peer] as const) {
          await stage.moving(['DROP_UNKNOWN_POD'], async () => {
            assert.equal(await stage.exchange(from, place, family, droppedMs), false, from);
          });
        }
      }
    });
  }
});

describe('without br_netfilter the port is not known', () => {
  before(() =>
    stage.node.node.sysctl({
      'net.bridge.bridge-nf-call-iptables': 0,
      'net.bridge.bridge-nf-call-ip6tables': 0,
    }),
  );
  const rows = [
    ['bridged', 'world', 'DROP_UNVERIFIED'],
    ['bridged', 'host', 'DROP_UNVERIFIED'],
    ['new-port', 'world', 'DROP_UNKNOWN_POD'],
    ['new-port', 'host', 'DROP_UNKNOWN_POD'],
    ['new-port', 'bridged', 'DROP_UNKNOWN_POD'],
  ] as const;
  for (const [from, to, counter] of rows) {
    test(`${from} to ${to} is dropped: nothing fails open`, async () => {
      for (const family of [4, 6] as const) {
        await stage.moving([counter], async () => {
          assert.equal(await stage.exchange(from, to, family, droppedMs), false, `IPv${family}`);
        });
      }
    });
  }

  test('a foreign bridge and point-to-point pods speak on', async () => {
    for (const family of [4, 6] as const) {
      assert.ok(await stage.exchange('container', 'world', family, arrivesMs));
      assert.ok(await stage.exchange('ptp', 'world', family, arrivesMs));
    }
  });
});

/** The pod's veth once more: same names, index, MAC, addresses and routes, as a new pod could have them. */
async function recreate(place: Place): Promise<void> {
  const pod = stage.pod(place);
  const { hostInterface, hostIfindex, namespace } = pod;
  await stage.node.node.ip([
    `link add ${hostInterface} index ${hostIfindex} type veth peer name eth0 address ${pod.mac} netns ${namespace.name}`,
    ...hostSideCommands(pod),
  ]);
  await namespace.ip(podSideCommands(pod));
  const links = (await stage.node.node.ipJson(['link', 'show', hostInterface])) as {
    address: string;
  }[];
  const hostMac = links[0]?.address ?? '';
  const gatewayMac = pod.kind === 'bridge' ? pod.gatewayMac : hostMac;
  await knowNeighbours(stage.node, { ...pod, hostMac, gatewayMac });
}
