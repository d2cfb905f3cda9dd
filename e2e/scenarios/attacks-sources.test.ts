// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A source counts only where it was verified (safety rule 3; threats T9, T24), and an ICMP error only
 * from a party to the flow that it quotes (rule 14; T30). `server` lets in `client` alone: whoever can
 * pass for the client gets through.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { agentConfigSpec } from '@tandem/agent/config';
import { BpfMap } from '@tandem/bpf-loader-node/map';
import { word } from '@tandem/datapath/device-maps';
import { pinPaths } from '@tandem/datapath/paths';
import { plan } from '@tandem/testing/node-plan';
import { buildIp, buildPacket } from '@tandem/testing/packet';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { type Capture, Probe, type Stream } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import {
  addressOf,
  assertDropped,
  assertSilence,
  canConnect,
  frameOf,
  queryPacket,
  silenceMs,
  uplinkMacs,
} from '../kit/attack.ts';
import { networkPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  clusterDns6,
  standardPolicy,
  startStandardNode,
} from '../kit/standard-node.ts';

const standard = await startStandardNode({
  pods: [
    { name: 'attacker' },
    { name: 'server' },
    { name: 'bridged', kind: 'bridge' },
    { name: 'neighbour', kind: 'bridge' },
  ],
  policies: [
    standardPolicy,
    networkPolicy({
      name: 'to-server',
      selects: { app: 'client' },
      egress: [
        { toEndpoints: [{ matchLabels: { app: 'server' } }] },
        { toCIDR: ['203.0.113.0/24', '2001:db8:3::/48'] },
      ],
    }),
    networkPolicy({
      name: 'server',
      selects: { app: 'server' },
      ingress: [{ fromEndpoints: [{ matchLabels: { app: 'client' } }] }],
    }),
    networkPolicy({
      name: 'neighbour',
      selects: { app: 'neighbour' },
      ingress: [{ fromEndpoints: [{ matchLabels: { app: 'client' } }] }],
    }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { client, dns, internet, node, tandem } = standard;
const clientPod = node.pod('client');
const attackerPod = node.pod('attacker');
const serverPod = node.pod('server');
const attacker = node.own(Probe.start(attackerPod.namespace));
const server = node.own(Probe.start(serverPod.namespace));
const port = 9000;
const udpPort = 9001;
const token = 'not-mine';
const atServer: Capture = await server.capture({ contains: token });
for (const address of ['0.0.0.0', '::']) {
  await server.listen({ protocol: 'tcp', address, port });
  await server.listen({ protocol: 'udp', address, port: udpPort });
}
const families = ['10.', 'fd00::'] as const;
const named = (family: string): string => (family === '10.' ? 'IPv4' : 'IPv6');

const fromClient = (to: string, protocol: 'udp' | 'tcp'): PacketSpec => ({
  ip: { source: addressOf(clientPod, to), destination: to },
  ...(protocol === 'udp'
    ? { udp: { sourcePort: 4000, destinationPort: port } }
    : { tcp: { sourcePort: 4000, destinationPort: port, flags: ['syn'] } }),
  payload: token,
});

test('the client itself is let in, the attacker is not', async () => {
  for (const family of families) {
    assert.ok(await canConnect(client, addressOf(serverPod, family), port));
    assert.ok(!(await canConnect(attacker, addressOf(serverPod, family), port)));
  }
});

describe("a pod with another pod's source", () => {
  for (const family of families) {
    for (const protocol of ['udp', 'tcp'] as const) {
      test(`${named(family)}, ${protocol}`, async () => {
        const packet = fromClient(addressOf(serverPod, family), protocol);
        const send = (): Promise<void> => attacker.frame(frameOf(attackerPod, packet));
        await assertDropped({ tandem, reason: 'drop_spoofed', at: atServer, send });
      });
    }
  }

  test('on a bridge, straight to the neighbour', async () => {
    const pod = node.pod('bridged');
    const neighbour = node.pod('neighbour');
    const probe = node.own(Probe.start(pod.namespace));
    const atNeighbour = await node
      .own(Probe.start(neighbour.namespace))
      .capture({ contains: token });
    for (const family of families) {
      const packet = fromClient(addressOf(neighbour, family), 'udp');
      const ethernet = { source: clientPod.mac, destination: neighbour.mac };
      const send = (): Promise<void> => probe.frame(buildPacket({ ...packet, ethernet }));
      await assertDropped({ tandem, reason: 'drop_spoofed', at: atNeighbour, send });
    }
  });

  test('a query of that pod is not asked in its name', async () => {
    const dnsProbe = node.own(Probe.start(node.pod('dns').namespace));
    const atDns = await dnsProbe.capture({ contains: 'spoofed' });
    for (const dnsServer of [clusterDns4, clusterDns6]) {
      const query = queryPacket(clientPod, dnsServer, 'n-1.spoofed.allowed.test');
      const send = (): Promise<void> => attacker.frame(frameOf(attackerPod, query));
      await assertDropped({ tandem, reason: 'drop_spoofed', at: atDns, send });
    }
    assert.deepEqual(await dns.queries('n-1.spoofed.allowed.test'), []);
  });

  test('no source at all, loopback, or IPv4 in IPv6', async () => {
    for (const [source, destination, reason] of [
      ['0.0.0.0', addressOf(serverPod, '10.'), 'drop_spoofed'],
      ['127.0.0.1', addressOf(serverPod, '10.'), 'drop_spoofed'],
      ['::', addressOf(serverPod, 'fd00::'), 'drop_nd'],
      ['::1', addressOf(serverPod, 'fd00::'), 'drop_spoofed'],
      [`::ffff:${addressOf(clientPod, '10.')}`, addressOf(serverPod, 'fd00::'), 'drop_parse'],
    ] as const) {
      const packet = { ...fromClient(destination, 'udp'), ip: { source, destination } };
      const send = (): Promise<void> => attacker.frame(frameOf(attackerPod, packet));
      await assertDropped({ tandem, reason, at: atServer, send });
    }
  });
});

describe("a local pod's source from outside", () => {
  const outside = { remote: node.remote, upstream: node.upstream } as const;
  const uplinks = { remote: plan.remoteUplink, upstream: plan.upstreamUplink } as const;
  for (const [name, namespace] of Object.entries(outside)) {
    for (const family of families) {
      for (const protocol of ['udp', 'tcp'] as const) {
        test(`${name}, ${named(family)}, ${protocol}`, async () => {
          const probe = node.own(Probe.start(namespace));
          const macs = await uplinkMacs(node, namespace, uplinks[name as 'remote' | 'upstream']);
          const packet = fromClient(addressOf(serverPod, family), protocol);
          const send = (): Promise<void> => probe.frame(buildPacket({ ...packet, ethernet: macs }));
          await assertDropped({ tandem, reason: 'drop_unverified', at: atServer, send });
        });
      }
    }
  }
});

describe("a pod to a node's tunnel", () => {
  const inner = buildPacket({ ...fromClient(addressOf(serverPod, '10.'), 'udp') });
  const otherPort = 14_789;
  const defaultPorts = agentConfigSpec.options.tunnelPorts.fallback ?? [];
  assert.ok(defaultPorts.length >= 6, 'the ports of the known CNIs');
  const vxlanHeader = Uint8Array.of(8, 0, 0, 0, 0, 0, 7, 0);
  const vxlan = new Uint8Array([...vxlanHeader, ...inner]);
  before(async () => {
    const { node4 } = plan;
    await node.node.ip([
      `link add vx0 type vxlan id 7 dstport 8472 local ${node4} nolearning`,
      'link set vx0 up',
      `link add vx1 type vxlan id 8 dstport ${otherPort} local ${node4} nolearning`,
      'link set vx1 up',
    ]);
    using ports = BpfMap.openPinned(pinPaths(tandem.pinRoot).map('tunnel_ports'));
    const isKnown = async (): Promise<boolean> => ports.lookup(word(otherPort)) !== null;
    await waitFor(isKnown, { what: 'the agent knows the port of vx1' });
  });

  test('a tunnel of this node on a port of its own', async () => {
    const [link] = (await node.node.ipJson(['link', 'show', 'vx1'])) as { address: string }[];
    const packet = fromClient(addressOf(serverPod, '10.'), 'udp');
    const data = new Uint8Array([
      ...Uint8Array.of(8, 0, 0, 0, 0, 0, 8, 0),
      ...buildPacket({ ...packet, ethernet: { destination: link?.address ?? '' } }),
    ]);
    const send = (): Promise<unknown> =>
      attacker.udp({ to: plan.node4, port: otherPort, data, want: 0 });
    await assertDropped({ tandem, reason: 'drop_tunnel', at: atServer, send });
  });

  for (const destination of [plan.node4, plan.remoteNode4, plan.node6, plan.remoteNode6]) {
    for (const tunnelPort of defaultPorts) {
      test(`port ${tunnelPort} of ${destination}`, async () => {
        const send = (): Promise<unknown> =>
          attacker.udp({ to: destination, port: tunnelPort, data: vxlan, want: 0 });
        await assertDropped({ tandem, reason: 'drop_tunnel', at: atServer, send });
      });
    }
    for (const protocol of [4, 41, 47]) {
      test(`protocol ${protocol} of ${destination}`, async () => {
        const packet: PacketSpec = {
          ip: { source: addressOf(attackerPod, destination), destination, protocol },
          payload: buildIp(fromClient(addressOf(serverPod, '10.'), 'udp')),
        };
        const send = (): Promise<void> => attacker.frame(frameOf(attackerPod, packet));
        await assertDropped({ tandem, reason: 'drop_tunnel', at: atServer, send });
      });
    }
  }
});

describe('an ICMP error that quotes a flow', () => {
  const remotes = { IPv4: '203.0.113.7', IPv6: '2001:db8:3::7' } as const;
  for (const [family, remote] of Object.entries(remotes)) {
    const isIpv6 = family === 'IPv6';
    const unreachable = isIpv6 ? { type: 1, code: 4 } : { type: 3, code: 3 };
    const serverAddress = addressOf(serverPod, remote);
    const quote = (flow: Stream): Uint8Array =>
      buildIp({
        ip: { source: addressOf(clientPod, remote), destination: serverAddress },
        udp: { sourcePort: flow.opened.localPort, destinationPort: udpPort },
        payload: token,
      });

    test(`${family}: from a pod that is no party it is dropped`, async () => {
      // Between two pods: of a masqueraded flow conntrack itself refuses an error to the pod.
      const flow = await client.associate({ to: serverAddress, port: udpPort, data: 'x', want: 1 });
      await using atClient = await client.capture({ contains: token });
      const error: PacketSpec = {
        ip: { source: addressOf(attackerPod, remote), destination: addressOf(clientPod, remote) },
        icmp: { ...unreachable, quoted: quote(flow) },
      };
      const send = (): Promise<void> => attacker.frame(frameOf(attackerPod, error));
      await assertDropped({ tandem, reason: 'drop_icmp_error', at: atClient, send });
      const fromParty = { ...error, ip: { ...error.ip, source: serverAddress } } as PacketSpec;
      await server.frame(frameOf(serverPod, fromParty));
      await atClient.captured({ count: 1 });
      await flow.close();
    });

    test(`${family}: from who was spoken to it arrives`, async () => {
      const flow = await client.associate({ to: remote, port: 80, data: 'x', want: 1 });
      await using atClient = await client.capture({ contains: token });
      const macs = await uplinkMacs(node, node.upstream, plan.upstreamUplink);
      const nodeAddress = isIpv6 ? plan.nodeUpstream6 : plan.nodeUpstream4;
      const sourcePort = flow.opened.localPort;
      const error: PacketSpec = {
        ethernet: macs,
        ip: { source: remote, destination: nodeAddress },
        // As the packet left the node: masqueraded, its port kept.
        icmp: {
          ...unreachable,
          quoted: buildIp({
            ip: { source: nodeAddress, destination: remote },
            udp: { sourcePort, destinationPort: 80 },
            payload: token,
          }),
        },
      };
      await internet.frame(buildPacket(error));
      await atClient.captured({ count: 1 });
      await flow.close();
    });

    test(`${family}: one that quotes no flow is judged like anything else`, async () => {
      await using atTarget = await server.capture({ contains: token });
      const error: PacketSpec = {
        ip: {
          source: addressOf(attackerPod, remote),
          destination: addressOf(serverPod, remote),
        },
        icmp: {
          ...unreachable,
          quoted: buildIp({
            ip: { source: addressOf(serverPod, remote), destination: remote },
            udp: { sourcePort: 1, destinationPort: 2 },
            payload: token,
          }),
        },
      };
      await attacker.frame(frameOf(attackerPod, error));
      await assertSilence(atTarget.captured({ count: 1, timeoutMs: silenceMs }), 'it arrived');
    });
  }

  test('IPv4: a redirect is a packet of no flow, and policy judges it', async () => {
    const [ofServer, ofClient] = [addressOf(serverPod, '10.'), addressOf(clientPod, '10.')];
    await client.listen({ protocol: 'udp', address: '0.0.0.0', port: udpPort });
    const flow = await server.associate({ to: ofClient, port: udpPort, data: 'x', want: 1 });
    const redirect: PacketSpec = {
      ip: { source: addressOf(attackerPod, '10.'), destination: ofServer },
      icmp: {
        type: 5,
        code: 1,
        quoted: buildIp({
          ip: { source: ofServer, destination: ofClient },
          udp: { sourcePort: flow.opened.localPort, destinationPort: udpPort },
          payload: token,
        }),
      },
    };
    const send = (): Promise<void> => attacker.frame(frameOf(attackerPod, redirect));
    await assertDropped({ tandem, reason: 'drop_no_match', at: atServer, send });
    await flow.close();
  });
});
