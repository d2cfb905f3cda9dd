// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { ServiceSpec } from './kube-proxy.ts';
import { cleanupLeftovers, ownNamespaces } from './namespace.ts';
import { createNode } from './netns.ts';
import { plan } from './node-plan.ts';
import { Probe, parseWho } from './probe.ts';
import { ProbeError } from './probe-process.ts';
import { runShort } from './process.ts';

const pods = [
  { name: 'a' },
  { name: 'b' },
  { name: 'c', kind: 'bridge' },
  { name: 'd', kind: 'bridge' },
] as const;

const services: readonly ServiceSpec[] = (['tcp', 'udp'] as const).flatMap((protocol) => [
  {
    clusterIp: '10.96.0.10',
    port: 53,
    protocol,
    nodePort: 30053,
    backends: [{ address: '10.1.0.12', port: 5353 }],
  },
  {
    clusterIp: 'fd96::10',
    port: 53,
    protocol,
    nodePort: 30053,
    backends: [{ address: 'fd00:1::12', port: 5353 }],
  },
  {
    clusterIp: '10.96.0.20',
    port: 80,
    protocol,
    backends: [
      { address: '10.1.0.12', port: 5353 },
      { address: '10.1.2.12', port: 5353 },
    ],
  },
  { clusterIp: '10.96.0.30', port: 80, protocol, backends: [] },
  { clusterIp: 'fd96::30', port: 80, protocol, backends: [] },
]);

const codeOf = (error: unknown): string =>
  error instanceof ProbeError ? error.code : String(error);

for (const kubeProxy of ['iptables', 'nftables'] as const) {
  describe(`a node with kube-proxy in ${kubeProxy} form`, async () => {
    const node = await createNode({
      name: kubeProxy.slice(0, 3),
      pods,
      services,
      kubeProxy,
      nodeLocal: [{ address: '169.254.20.10', noTrack: true }],
    });
    const probe = (name: string): Probe => node.own(Probe.start(node.pod(name).namespace));
    const [a, c] = [probe('a'), probe('c')];
    const servers = [
      probe('b'),
      probe('d'),
      ...[node.upstream, node.node, node.remote].map((ns) => node.own(Probe.start(ns))),
    ];

    test('setup', async () => {
      for (const server of servers) {
        for (const protocol of ['tcp', 'udp'] as const) {
          for (const address of ['0.0.0.0', '::'])
            await server.listen({ protocol, address, port: 5353 });
        }
      }
    });

    const who = async (from: Probe, protocol: 'tcp' | 'udp', to: string, port: number) => {
      const data =
        protocol === 'tcp'
          ? (await from.tcp({ to, port, data: 'x', want: 4 })).data
          : (await from.udp({ to, port, data: 'x' })).replies[0]?.data;
      return parseWho(data ?? new Uint8Array(0));
    };

    for (const protocol of ['tcp', 'udp'] as const) {
      // Destination, port; who the server sees (by family of the destination), and as which address.
      const rows: readonly (readonly [string, string, number, string | null, string])[] = [
        ['pod', '10.1.0.12', 5353, '10.1.0.11', '10.1.0.12'],
        ['pod v6', 'fd00:1::12', 5353, 'fd00:1::11', 'fd00:1::12'],
        ['pod on a bridge', '10.1.2.12', 5353, '10.1.0.11', '10.1.2.12'],
        ['pod on a bridge v6', 'fd00:1:2::12', 5353, 'fd00:1::11', 'fd00:1:2::12'],
        ['service', '10.96.0.10', 53, '10.1.0.11', '10.1.0.12'],
        ['service v6', 'fd96::10', 53, 'fd00:1::11', 'fd00:1::12'],
        ['node port', plan.node4, 30053, null, '10.1.0.12'],
        ['node port v6', plan.node6, 30053, null, 'fd00:1::12'],
        ['remote pod', plan.remotePod4, 5353, '10.1.0.11', plan.remotePod4],
        ['remote pod v6', plan.remotePod6, 5353, 'fd00:1::11', plan.remotePod6],
        ['node-local address', '169.254.20.10', 5353, '10.1.0.11', '169.254.20.10'],
        ['upstream, masqueraded', '203.0.113.77', 5353, plan.nodeUpstream4, '203.0.113.77'],
        ['upstream v6, masqueraded', '2001:db8:5::77', 5353, plan.nodeUpstream6, '2001:db8:5::77'],
      ];
      for (const [name, to, port, peer, local] of rows) {
        test(`${protocol}: ${name}`, async () => {
          const seen = await who(a, protocol, to, port);
          assert.equal(seen.local, local);
          if (peer !== null) assert.equal(seen.peer, peer);
        });
      }

      test(`${protocol}: one bridge, and hairpin through the service`, async () => {
        assert.equal((await who(c, protocol, '10.1.2.12', 5353)).peer, '10.1.2.11');
        assert.equal((await who(servers[0] ?? c, protocol, '10.96.0.10', 53)).local, '10.1.0.12');
      });

      test(`${protocol}: a service without backends refuses`, async () => {
        for (const to of ['10.96.0.30', 'fd96::30']) {
          await assert.rejects(
            who(a, protocol, to, 80),
            (error) => codeOf(error) === 'ECONNREFUSED',
          );
        }
      });
    }

    test('several backends share the connections', async () => {
      const seen = new Set<string>();
      for (let i = 0; i < 64 && seen.size < 2; i++)
        seen.add((await who(a, 'tcp', '10.96.0.20', 80)).local);
      assert.deepEqual([...seen].toSorted(), ['10.1.0.12', '10.1.2.12']);
    });

    test('ping', async () => {
      for (const to of ['10.1.2.12', 'fd00:1:2::12', '203.0.113.5', '2001:db8::5', '169.254.1.1']) {
        assert.equal((await a.ping(to)).replies[0]?.from, to);
      }
    });

    test('services change while the node runs', async () => {
      await node.setServices([
        {
          clusterIp: '10.96.0.99',
          port: 1,
          protocol: 'tcp',
          backends: [{ address: '10.1.2.12', port: 5353 }],
        },
      ]);
      assert.equal((await who(a, 'tcp', '10.96.0.99', 1)).local, '10.1.2.12');
    });

    test('a pod comes and goes', async () => {
      const pod = await node.addPod({ name: 'late' });
      assert.equal(pod.ipv4, '10.1.0.13');
      const late = Probe.start(pod.namespace);
      assert.equal((await late.ping('10.1.0.12')).replies.length, 1);
      await late[Symbol.asyncDispose]();
      await node.removePod('late');
      assert.equal(node.pods.length, pods.length);
    });

    test('disposing leaves nothing', async () => {
      await node[Symbol.asyncDispose]();
      const mark = `-${kubeProxy.slice(0, 3)}`;
      assert.deepEqual(
        ownNamespaces().filter((name) => name.includes(mark)),
        [],
      );
    });
  });
}

test('options of the node reach the kernel', async () => {
  await using node = await createNode({
    pods: [],
    kubeProxy: 'none',
    reversePathFilter: 1,
    srcValidMark: 1,
    bridgeNetfilter: 0,
  });
  const read = async (key: string): Promise<string> =>
    (await node.node.run('sysctl', ['-n', key])).trim();
  assert.equal(await read('net.ipv4.conf.up1.rp_filter'), '1');
  assert.equal(await read('net.ipv4.conf.all.src_valid_mark'), '1');
  assert.equal(await read('net.bridge.bridge-nf-call-iptables'), '0');
  assert.equal(await node.node.run('nft', ['list', 'ruleset']), '');
});

test('what a dead process left is removed', async () => {
  const { stdout } = await (await import('./process.ts')).run(process.execPath, [
    '-p',
    'process.pid',
  ]);
  const name = `td${Number(stdout).toString(36)}-0-left`;
  await runShort('ip', ['netns', 'add', name]);
  assert.ok((await cleanupLeftovers()).includes(name));
});
