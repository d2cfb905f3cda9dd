// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The interface decides whom a packet belongs to (rules 2, 3, 6, 14, 18 to 20; docs/adr/0012-interfaces.md): a
 * pod that speaks in another's name on a bridge, one that no object is known of, one that has the address of
 * another that is gone, and the node behind addresses that are not its own. With the agent alive, and dead.
 */

import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { macBytes } from '@tandem/testing/address';
import type { Pod } from '@tandem/testing/netns';
import { plan } from '@tandem/testing/node-plan';
import { buildIp, buildPacket } from '@tandem/testing/packet';
import { neighbourAdvertisement, routerAdvertisement } from '@tandem/testing/packet-ndp';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { type Capture, Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { endpointsOf } from '../kit/admin.ts';
import { addressOf, assertCounted, assertDropped, canConnect, frameOf } from '../kit/attack.ts';
import { endpointOf } from '../kit/endpoints.ts';
import { networkPolicy, podObject } from '../kit/objects.ts';
import { standardPolicy, startStandardNode } from '../kit/standard-node.ts';

const standard = await startStandardNode({
  // Not the stage's: which bridge has pods, the agent learns from their interfaces.
  agentOptions: { 'pod-bridges': 'cbr0', 'log-level': 'debug' },
  pods: [
    { name: 'server' },
    { name: 'web' },
    { name: 'sealed' },
    { name: 'old', ipv4: '10.1.0.77', ipv6: 'fd00:1::77' },
    { name: 'attacker', kind: 'bridge' },
    { name: 'victim', kind: 'bridge' },
    { name: 'worldly', kind: 'bridge' },
  ],
  policies: [
    standardPolicy,
    networkPolicy({
      name: 'server',
      selects: { app: 'server' },
      ingress: [
        { fromEndpoints: [{ matchLabels: { app: 'victim' } }] },
        { fromEndpoints: [{ matchLabels: { app: 'far' } }] },
        { fromCIDR: ['203.0.113.0/24', '2001:db8:3::/48'] },
        { fromEntities: ['remote-node'] },
      ],
    }),
    networkPolicy({
      ...{ name: 'attacker', selects: { app: 'attacker' }, egress: [{ toEntities: ['host'] }] },
    }),
    networkPolicy({
      ...{ name: 'worldly', selects: { app: 'worldly' }, egress: [{ toEntities: ['world'] }] },
    }),
    networkPolicy({
      name: 'sealed',
      selects: { app: 'sealed' },
      egress: [{ toEndpoints: [{ matchLabels: { app: 'nobody' } }] }],
    }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { internet, node, tandem } = standard;
const pods = Object.fromEntries(node.pods.map(({ name }) => [name, node.pod(name)])) as Readonly<
  Record<'server' | 'web' | 'sealed' | 'old' | 'attacker' | 'victim' | 'worldly', Pod>
>;
const probeOf = (name: keyof typeof pods): Probe => node.own(Probe.start(pods[name].namespace));
const server = probeOf('server');
const web = probeOf('web');
const attacker = probeOf('attacker');
const victim = probeOf('victim');
const worldly = probeOf('worldly');
const sealed = probeOf('sealed');
const host = node.own(Probe.start(node.node));
const remote = node.own(Probe.start(node.remote));
const token = 'not-mine';
const port = 9000;
const udpPort = 9001;
for (const probe of [server, web, host, remote]) {
  for (const address of ['0.0.0.0', '::']) {
    await probe.listen({ protocol: 'tcp', address, port });
    await probe.listen({ protocol: 'udp', address, port: udpPort });
  }
}
const objects = node.pods.map((pod) =>
  podObject(
    pod,
    pod.name === 'dns'
      ? { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }
      : undefined,
  ),
);
/** A pod of node-2. */
const away = (name: string, ipv4: string, ipv6: string | null): object => {
  const made = podObject({ name, ipv4, ipv6, hostInterface: 'none' }) as { spec: object };
  return { ...made, spec: { ...made.spec, nodeName: 'node-2' } };
};
const base = [...objects, away('far', plan.remotePod4, plan.remotePod6)];
async function writePods(list: readonly object[]): Promise<void> {
  const before = tandem.applications();
  tandem.write('pods.yaml', list);
  await tandem.waitForApplication(before);
}
await writePods(base);

const datagram = (source: string, destination: string): PacketSpec => ({
  ip: { source, destination },
  udp: { sourcePort: 4000, destinationPort: udpPort },
  payload: token,
});

/** The tests of `name`, with the agent alive and then dead. */
function bothWays(name: string, declare: () => void): void {
  describe(name, () => {
    describe('agent alive', declare);
    describe('agent dead', () => {
      test('it is killed', () => tandem.kill('agent'));
      declare();
      test('and comes back', async () => {
        await tandem.startProcess('agent');
        await tandem.waitForMembers(['agent']);
      });
    });
  });
}

bothWays("another pod's Ethernet address on a bridge", () => {
  /** The node's permanent neighbours, and the port of the victim's address. */
  const claims = async (): Promise<unknown> => {
    const { bridge } = plan;
    const table = await node.node.run('bridge', ['-j', 'fdb', 'show', 'br', bridge]);
    const entries = JSON.parse(table) as readonly { mac: string; ifname: string }[];
    return [
      await node.node.ipJson(['neigh', 'show', 'nud', 'permanent']),
      entries.filter(({ mac }) => mac === pods.victim.mac).map(({ ifname }) => ifname),
    ];
  };

  test('neither its frames nor its claims move anything, and the neighbour works on', async () => {
    const before = await claims();
    await using atServer = await server.capture({ contains: token });
    const ethernet = { source: pods.victim.mac, destination: pods.attacker.gatewayMac };
    const forged = [
      buildPacket({ ...datagram(addressOf(pods.attacker, '10.'), plan.bridgeGateway4), ethernet }),
      buildPacket({
        ...datagram(addressOf(pods.victim, '10.'), addressOf(pods.server, '10.')),
        ethernet,
      }),
      buildPacket({
        ...datagram(addressOf(pods.victim, 'fd00::'), addressOf(pods.server, 'fd00::')),
        ethernet,
      }),
    ];
    for (const frame of forged) {
      const send = (): Promise<void> => attacker.frame(frame);
      await assertDropped({ tandem, reason: 'drop_spoofed', at: atServer, send });
    }
    const arp = (operation: 'reply' | 'request', senderMac: string): Uint8Array =>
      buildPacket({
        ethernet: { source: pods.attacker.mac, destination: 'ff:ff:ff:ff:ff:ff' },
        arp: {
          operation,
          senderMac,
          senderAddress: addressOf(pods.attacker, '10.'),
          targetMac: '00:00:00:00:00:00',
          targetAddress: plan.bridgeGateway4,
        },
      });
    const sendArp = (): Promise<void> => attacker.frame(arp('reply', pods.victim.mac));
    await assertDropped({ tandem, reason: 'drop_spoofed', at: atServer, send: sendArp });
    const group = '33:33:00:00:00:01';
    const own6 = addressOf(pods.attacker, 'fd00::');
    const names = { sourceMac: pods.victim.mac, destinationMac: group };
    const advertised = buildPacket({
      ...neighbourAdvertisement({ source: own6, destination: 'ff02::1', ...names }, own6),
      ethernet: { source: pods.attacker.mac, destination: group },
    });
    const sendNd = (): Promise<void> => attacker.frame(advertised);
    await assertDropped({ tandem, reason: 'drop_spoofed', at: atServer, send: sendNd });
    assert.deepEqual(await claims(), before);
    assert.equal(
      endpointOf(tandem, addressOf(pods.victim, '10.'))?.ifindex,
      pods.victim.hostIfindex,
    );
    assert.ok(await canConnect(victim, addressOf(pods.server, '10.'), port));
    assert.ok(await canConnect(victim, addressOf(pods.server, 'fd00::'), port));
  });

  test('a pod that is silent for longer than the bridge remembers is not forgotten', async () => {
    await node.node.run('ip', ['link', 'set', plan.bridge, 'type', 'bridge', 'fdb_flush']);
    assert.ok(await canConnect(victim, addressOf(pods.server, '10.'), port));
    assert.equal(
      endpointOf(tandem, addressOf(pods.victim, '10.'))?.ifindex,
      pods.victim.hostIfindex,
    );
  });
});

let ghosts = 0;

bothWays('a pod that no object is known of', () => {
  for (const kind of ['ptp', 'bridge'] as const) {
    test(`${kind}: nothing passes, whatever source it claims`, async () => {
      const number = 200 + ghosts++;
      const net =
        kind === 'ptp' ? { 4: '10.77.0', 6: 'fd00:77:' } : { 4: '10.1.2', 6: 'fd00:1:2:' };
      const ghost = await node.addPod({
        name: `ghost${number}`,
        kind,
        ipv4: `${net[4]}.${number}`,
        ipv6: `${net[6]}:${number}`,
      });
      await using probe = Probe.start(ghost.namespace);
      await using atServer = await server.capture({ contains: token });
      await using atInternet = await internet.capture({ contains: token });
      const sources: readonly (readonly [string, string, Capture])[] = [
        [addressOf(ghost, '10.'), addressOf(pods.web, '10.'), atServer],
        ['203.0.113.99', addressOf(pods.server, '10.'), atServer],
        ['2001:db8:3::9', addressOf(pods.server, 'fd00::'), atServer],
        [plan.remotePod4, addressOf(pods.server, '10.'), atServer],
        [plan.remotePod6, addressOf(pods.server, 'fd00::'), atServer],
        [plan.remoteNode4, addressOf(pods.server, '10.'), atServer],
        ['1.2.3.4', '198.51.100.7', atInternet],
      ];
      for (const [source, destination, at] of sources) {
        const send = (): Promise<void> =>
          probe.frame(frameOf(ghost, datagram(source, destination)));
        await assertDropped({ tandem, reason: 'drop_unknown_pod', at, send });
      }
      const inOurName = frameOf(
        ghost,
        datagram(addressOf(pods.web, '10.'), addressOf(pods.server, '10.')),
      );
      const send = (): Promise<void> => probe.frame(inOurName);
      await assertDropped({ tandem, reason: 'drop_unverified', at: atServer, send });
      assert.ok(!(await canConnect(probe, '203.0.113.5')));
      assert.ok(!(await canConnect(probe, addressOf(pods.web, '10.'), port)));
      await node.removePod(ghost.name);
    });
  }

  test('on a bridge nothing reaches the node in frames to a group that bridges keep to themselves', async () => {
    const number = 200 + ghosts++;
    const ghost = await node.addPod({
      name: `ghost${number}`,
      kind: 'bridge',
      ipv4: `10.1.2.${number}`,
      ipv6: `fd00:1:2::${number}`,
    });
    await using probe = Probe.start(ghost.namespace);
    const pattern = new Uint8Array(Buffer.from(token.slice(0, -4)));
    await using at4 = await host.sight({ pattern, family: 4, protocol: 17 });
    await using at6 = await host.sight({ pattern, family: 6, protocol: 17 });
    for (const last of ['00', '02', '0e']) {
      const ethernet = { destination: `01:80:c2:00:00:${last}` };
      for (const destination of [plan.bridgeGateway4, plan.node4, plan.bridgeGateway6]) {
        const packet = { ...datagram(addressOf(ghost, destination), destination), ethernet };
        const send = (): Promise<void> => probe.frame(frameOf(ghost, packet));
        if (last === '0e') await assertCounted(tandem, 'drop_unknown_pod', send);
        else await send();
      }
    }
    assert.deepEqual([...(await at4.seen()), ...(await at6.seen())], []);
    await node.removePod(ghost.name);
  });

  test('on a bridge its router advertisement and its ARP for the gateway reach no pod', async () => {
    const number = 230 + ghosts++;
    const ghost = await node.addPod({
      name: `ghost${number}`,
      kind: 'bridge',
      ipv4: `10.1.2.${number}`,
      ipv6: `fd00:1:2::${number}`,
    });
    await using probe = Probe.start(ghost.namespace);
    // The bridge itself speaks to groups, too.
    await using atWorldly = await worldly.capture({ contains: macBytes(ghost.mac) });
    const everybody = {
      source: 'fe80::bad',
      destination: 'ff02::1',
      sourceMac: ghost.mac,
      destinationMac: '33:33:00:00:00:01',
    };
    const frames: readonly (readonly [reason: string, frame: Uint8Array])[] = [
      ['drop_unknown_pod', buildPacket(routerAdvertisement(everybody, 1800))],
      [
        'drop_unknown_pod',
        buildPacket({
          ethernet: { source: ghost.mac, destination: 'ff:ff:ff:ff:ff:ff' },
          arp: {
            operation: 'reply',
            senderMac: ghost.mac,
            senderAddress: plan.bridgeGateway4,
            targetMac: pods.worldly.mac,
            targetAddress: addressOf(pods.worldly, '10.'),
          },
        }),
      ],
    ];
    for (const [reason, frame] of frames) {
      await assertDropped({ tandem, reason, at: atWorldly, send: () => probe.frame(frame) });
    }
    await node.removePod(ghost.name);
  });
});

test('a pod that is held, as no object is known of it, connects once its object is', async () => {
  const number = 200 + ghosts++;
  const addresses = { ipv4: `10.77.0.${number}`, ipv6: `fd00:77::${number}` };
  const ghost = await node.addPod({ name: `ghost${number}`, ...addresses });
  await using probe = Probe.start(ghost.namespace);
  const ways = [
    ['203.0.113.5', 80],
    ['2001:db8::5', 80],
    [addressOf(pods.web, '10.'), port],
    [addressOf(pods.web, 'fd00::'), port],
  ] as const;
  for (const [to, toPort] of ways) assert.ok(!(await canConnect(probe, to, toPort)), to);
  await writePods([...base, podObject(ghost)]);
  for (const [to, toPort] of ways) {
    await waitFor(() => canConnect(probe, to, toPort), { what: `a connection to ${to}` });
  }
  await writePods(base);
  await node.removePod(ghost.name);
});

describe('an address that is used again while the agent is dead', () => {
  test("the new pod inherits neither direction of the old one's policy", async () => {
    await tandem.kill('agent');
    await node.removePod('old');
    const fresh = await node.addPod({ name: 'fresh', ipv4: '10.1.0.77', ipv6: 'fd00:1::77' });
    await using probe = Probe.start(fresh.namespace);
    await using atFresh = await probe.capture({ contains: token });
    for (const family of ['10.', 'fd00::']) {
      const to = addressOf(fresh, family);
      const send = (): Promise<unknown> => web.udp({ to, port: udpPort, data: token, want: 0 });
      await assertDropped({ tandem, reason: 'drop_unknown_pod', at: atFresh, send });
    }
    assert.ok(!(await canConnect(probe, addressOf(pods.web, '10.'), port)));
    await tandem.startProcess('agent');
    await tandem.waitForMembers(['agent']);
    await node.removePod('fresh');
  });
});

describe('a pod of another node in the pod CIDR of this one', () => {
  test('works both ways: an IPAM of the CNI, as Calico has it', async () => {
    const [four, six] = ['10.1.0.200', 'fd00:1::200'] as const;
    await node.remote.ip([`addr add ${four}/32 dev lo`, `addr add ${six}/128 dev lo nodad`]);
    const { remoteNode4, remoteNode6 } = plan;
    await node.node.ip([
      `route add ${four} via ${remoteNode4}`,
      `route add ${six} via ${remoteNode6}`,
    ]);
    await writePods([...base, away('calico', four, six)]);
    for (const address of [four, six]) {
      const to = addressOf(pods.web, address);
      await remote.tcp({ to, port, source: address, timeoutMs: 1000 });
      assert.ok(await canConnect(web, address, port), address);
    }
    await writePods(base);
  });
});

describe('an object that names an interface', () => {
  test('that leads out of the node is refused, named, and changes nothing for others', async () => {
    const evil = podObject({
      name: 'evil',
      ipv4: '10.1.0.99',
      ipv6: null,
      hostInterface: plan.upstreamUplink,
    });
    await writePods([...base, evil]);
    assert.ok(await canConnect(web, '203.0.113.5'));
    assert.equal(endpointOf(tandem, '10.1.0.99'), null);
    assert.match(tandem.logs(), /interface-refused/);
    const [listed] = await endpointsOf(tandem, 'agent', 'default/evil');
    assert.equal(listed?.vethIfindex, 0);
    assert.match(listed?.problem ?? '', /^interface-refused: .*leads out of the node/);
    await writePods(base);
  });
});

describe('the node is the node', () => {
  test('whatever address it is spoken to by: world is not enough', async () => {
    const [link] = (await node.node.ipJson(['-6', 'addr', 'show', plan.bridge])) as readonly {
      addr_info: readonly { local: string; scope: string }[];
    }[];
    const linkLocal = link?.addr_info.find(({ scope }) => scope === 'link')?.local ?? '';
    assert.match(linkLocal, /^fe80/);
    const group = (mac: string): { destination: string } => ({ destination: mac });
    const own4 = addressOf(pods.worldly, '10.');
    const own6 = addressOf(pods.worldly, 'fd00::');
    const packets: readonly PacketSpec[] = [
      datagram(own6, linkLocal),
      { ...datagram(own4, '255.255.255.255'), ethernet: group('ff:ff:ff:ff:ff:ff') },
      { ...datagram(own4, '10.1.2.255'), ethernet: group('ff:ff:ff:ff:ff:ff') },
      { ...datagram(own4, '224.0.0.1'), ethernet: group('01:00:5e:00:00:01') },
      { ...datagram(own6, 'ff02::1'), ethernet: group('33:33:00:00:00:01') },
      datagram(own6, plan.bridgeGateway6),
    ];
    await using atNode = await host.capture({ interface: 'lo', contains: token });
    assert.ok(await canConnect(worldly, '203.0.113.5'), 'what it may');
    for (const packet of packets) {
      const send = (): Promise<void> => worldly.frame(frameOf(pods.worldly, packet));
      await assertDropped({ tandem, reason: 'drop_no_match', at: atNode, send });
    }
  });

  test('its own flows end by no ICMP error of a pod that is no party to them', async () => {
    for (const [family, unreachable] of [
      ['10.', { type: 3, code: 3 }],
      ['fd00::', { type: 1, code: 4 }],
    ] as const) {
      const to = addressOf(pods.web, family);
      const flow = await host.associate({ to, port: udpPort, data: 'x', want: 1 });
      const { local, localPort } = flow.opened;
      const quoted = buildIp({
        ip: { source: local, destination: to },
        udp: { sourcePort: localPort, destinationPort: udpPort },
        payload: token,
      });
      await using atNode = await host.capture({ interface: 'lo', contains: token });
      const error = {
        ip: { source: addressOf(pods.sealed, family), destination: local },
        icmp: { ...unreachable, quoted },
      };
      const send = (): Promise<void> => sealed.frame(frameOf(pods.sealed, error));
      await assertDropped({ tandem, reason: 'drop_icmp_error', at: atNode, send });
      await flow.exchange({ data: 'y', want: 1 });
      await flow[Symbol.asyncDispose]();
    }
  });
});

describe('other software beside us', () => {
  test("the mark of CNI's portmap masquerades no pod", async () => {
    const seen = async (): Promise<string> => {
      const got = await web.tcp({ to: plan.remotePod4, port, data: 'who', want: 1 });
      return Buffer.from(got.data).toString();
    };
    const before = await seen();
    const nat = (...args: readonly string[]): Promise<unknown> =>
      node.node.run('iptables', ['-t', 'nat', ...args]);
    await nat('-N', 'CNI-HOSTPORT-MASQ');
    await nat(
      '-A',
      'CNI-HOSTPORT-MASQ',
      '-m',
      'mark',
      '--mark',
      '0x2000/0x2000',
      '-j',
      'MASQUERADE',
    );
    await nat('-A', 'POSTROUTING', '-j', 'CNI-HOSTPORT-MASQ');
    assert.match(before, new RegExp(addressOf(pods.web, '10.').replaceAll('.', String.raw`\.`)));
    assert.equal((await seen()).split(' ')[0], before.split(' ')[0]);
  });
});

test('a broadcast is counted at every port and told as no event', async () => {
  const before = tandem.counters();
  for (let i = 0; i < 50; i++) {
    await victim.frame(
      frameOf(pods.victim, {
        ...datagram(addressOf(pods.victim, '10.'), '10.1.2.255'),
        ethernet: { destination: 'ff:ff:ff:ff:ff:ff' },
      }),
    );
  }
  await waitFor(() => (tandem.counters()['flooded'] ?? 0) >= (before['flooded'] ?? 0) + 100, {
    what: 'two other ports count each',
  });
  assert.equal(tandem.counters()['events_limited'], before['events_limited']);
});

test('a bridge whose last pod is gone stays a bridge of pods, with the agent dead', async () => {
  const bridged = new Set(
    node.pods.filter(({ kind }) => kind === 'bridge').map(({ name }) => name),
  );
  await writePods(
    base.filter((each) => !bridged.has((each as { metadata: { name: string } }).metadata.name)),
  );
  await waitFor(() => endpointOf(tandem, addressOf(pods.victim, '10.')) === null, {
    what: 'the pods of the bridge to be gone',
  });
  await tandem.kill('agent');
  await tandem.startProcess('agent');
  await tandem.waitForMembers(['agent']);
  await tandem.kill('agent');
  const addresses = { ipv4: '10.1.2.250', ipv6: 'fd00:1:2::250' } as const;
  const ghost = await node.addPod({ name: 'ghost-last', kind: 'bridge', ...addresses });
  await using probe = Probe.start(ghost.namespace);
  await using atServer = await server.capture({ contains: token });
  const frame = frameOf(ghost, datagram('203.0.113.99', addressOf(pods.server, '10.')));
  const send = (): Promise<void> => probe.frame(frame);
  await assertDropped({ tandem, reason: 'drop_unknown_pod', at: atServer, send });
});
