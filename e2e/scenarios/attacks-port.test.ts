// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The shared socket's port P (safety rules 1, 8 and 11; threats T10, T11, T28): it is reached only
 * through a pod's steered queries, it hinders no other socket, and no other process joins or leads its group.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { plan } from '@tandem/testing/node-plan';
import { type Listener, Probe, parseWho } from '@tandem/testing/probe';
import { patience, waitFor } from '@tandem/testing/wait';
import { addressOf, assertCounted, assertSilence, silenceMs } from '../kit/attack.ts';
import { startLoad } from '../kit/load.ts';
import { clusterDns4, clusterDns6, startStandardNode } from '../kit/standard-node.ts';

const port = 10_053;
const ownerUid = 65_532;
const redirectMark = 0x1000;

const standard = await startStandardNode({ pods: [{ name: 'plain' }, { name: 'web' }] });
after(() => standard[Symbol.asyncDispose]());
const { client, dns, internet, node, tandem } = standard;
const plain = node.own(Probe.start(node.pod('plain').namespace));
const webPod = node.pod('web');
const web = node.own(Probe.start(webPod.namespace));
const host = node.own(Probe.start(node.node));
const remote = node.own(Probe.start(node.remote));
const protocols = ['udp', 'tcp'] as const;

let next = 1;
const ask = (probe: Probe, server: string, transport: 'udp' | 'tcp', more: object = {}) =>
  askDns(probe, { server, transport, name: `n-${next++}.allowed.test`, ...more });

describe('port P asked directly', () => {
  const { node4, node6, nodeUpstream4, nodeUpstream6, ptpGateway4 } = plan;
  const askers: readonly (readonly [string, Probe, readonly string[], object])[] = [
    ['a pod without policy', plain, [node4, node6, ptpGateway4], {}],
    ['a pod under policy', client, [node4, node6, ptpGateway4], {}],
    ['a pod that sets our mark', plain, [node4, node6], { mark: redirectMark }],
    ['another node', remote, [node4, node6], {}],
    ['the internet', internet, [nodeUpstream4, nodeUpstream6], {}],
    ['the node itself', host, ['127.0.0.1', '::1', node4, node6], {}],
    ['the node itself, with our mark', host, ['127.0.0.1', '::1', node4], { mark: redirectMark }],
  ];
  for (const [who, probe, servers, options] of askers) {
    for (const transport of protocols) {
      test(`by ${who}, ${transport}`, async () => {
        const names = servers.map(() => `direct-${next++}.allowed.test`);
        const asked = servers.map((server, i) => {
          const question = { port, name: names[i], timeoutMs: silenceMs, ...options };
          return () => assertSilence(ask(probe, server, transport, question), server);
        });
        const send = (): Promise<unknown> => Promise.all(asked.map((each) => each()));
        await assertCounted(tandem, 'drop_port', send, servers.length);
        const seen = (await dns.queries()).map(({ name }) => name);
        assert.deepEqual(
          names.filter((name) => seen.includes(name)),
          [],
        );
      });
    }
  }
});

describe("a pod's own port P", () => {
  let listeners: Listener[] = [];
  before(async () => {
    listeners = await Promise.all(
      protocols.flatMap((protocol) =>
        ['0.0.0.0', '::'].map((address) => web.listen({ protocol, address, port })),
      ),
    );
  });
  const datagrams = async (): Promise<number> =>
    (await Promise.all(listeners.map((listener) => listener.served()))).reduce(
      (sum, served) => sum + served.datagrams + served.accepted,
      0,
    );

  for (const family of ['10.', 'fd00::']) {
    test(`is reached as any other, ${family === '10.' ? 'IPv4' : 'IPv6'}`, async () => {
      const to = addressOf(webPod, family);
      const stream = await plain.tcp({ to, port, data: 'x', want: 1 });
      assert.deepEqual(
        [parseWho(stream.data).peer, parseWho(stream.data).localPort],
        [addressOf(node.pod('plain'), family), port],
      );
      const { replies } = await plain.udp({ to, port, data: 'x' });
      assert.deepEqual(
        replies.map(({ from, fromPort }) => [from, fromPort]),
        [[to, port]],
      );
    });
  }

  test('published as a hostPort gets what is meant for it and no query', async () => {
    // The widest rule that a CNI might write: every packet to this port, whatever its address.
    for (const [table, family] of [
      ['ip', '10.'],
      ['ip6', 'fd00::'],
    ] as const) {
      const to = addressOf(webPod, family);
      const target = family === '10.' ? `${to}:${port}` : `[${to}]:${port}`;
      await node.node.run(
        'nft',
        ['-f', '-'],
        `table ${table} hostport {
          chain pre {
            type nat hook prerouting priority -100;
            udp dport ${port} dnat to ${target}
            tcp dport ${port} dnat to ${target}
          }
        }`,
      );
    }
    for (const to of [plan.node4, plan.node6]) {
      const stream = await remote.tcp({ to, port, data: 'x', want: 1 });
      assert.equal(
        parseWho(stream.data).local,
        addressOf(webPod, to === plan.node4 ? '10.' : 'f:'),
      );
    }
    const seen = await datagrams();
    for (const server of [clusterDns4, clusterDns6, addressOf(node.pod('dns'), '10.')]) {
      for (const transport of protocols) {
        for (let i = 0; i < 5; i++) {
          assert.equal((await ask(client, server, transport)).rcode, 'NOERROR');
        }
      }
    }
    assert.equal(await datagrams(), seen, 'the pod got a query');
    for (const table of ['ip', 'ip6']) {
      await node.node.run('nft', ['delete', 'table', table, 'hostport']);
    }
  });
});

describe('another process at port P of the node', () => {
  for (const protocol of protocols) {
    for (const address of ['0.0.0.0', '::', plan.node4]) {
      for (const uid of [0, 1000]) {
        test(`uid ${uid}, ${protocol} ${address}: refused`, async () => {
          const options = { protocol, address, port, reusePort: true, transparent: uid === 0, uid };
          await assertCounted(tandem, 'bind_refused', () =>
            assert.rejects(host.bind(options), /EPERM/),
          );
        });
      }
    }
  }

  test('other ports, and this one in other namespaces, are free', async () => {
    await using _other = await host.bind({ protocol: 'udp', address: '0.0.0.0', port: port + 1 });
    await using _pod = await plain.bind({ protocol: 'udp', address: '0.0.0.0', port, uid: 1000 });
  });
});

describe('a process with the uid of the group that puts its own chooser in', () => {
  for (const [protocol, address, server] of [
    ['udp', '0.0.0.0', clusterDns4],
    ['udp', '::', clusterDns6],
    ['tcp', '0.0.0.0', clusterDns4],
  ] as const) {
    test(`${protocol}, ${address}: queries are ours again within a second`, async () => {
      const isAnswered = (): Promise<boolean> =>
        ask(client, server, protocol, { timeoutMs: 100 }).then(
          () => true,
          () => false,
        );
      // The last of its group, in which each member has two for UDP; the chooser is in place when this resolves.
      const place = protocol === 'udp' ? 4 : 2;
      const steal = (): Promise<Listener> =>
        host.listen({
          ...{ protocol, address, port, mode: 'sink', uid: ownerUid },
          ...{ reusePort: true, reusePortMember: place },
        });
      let thief = await steal();
      let stolenAt = performance.now();
      for (let tries = 0; await isAnswered(); tries++) {
        assert.ok(tries < 5, 'the attack of this test does not work');
        // Ours came back in between: once more.
        await thief.close();
        thief = await steal();
        stolenAt = performance.now();
      }
      await waitFor(isAnswered, { what: 'our chooser to be back' });
      assert.ok(
        performance.now() - stolenAt < 1500 * patience,
        `${performance.now() - stolenAt} ms`,
      );
      const taken = await thief.served();
      const load = { server, rate: 500, seconds: 1, nameFormat: 'n-%u.allowed.test' };
      if (protocol === 'udp') {
        await using running = startLoad(node.pod('client').namespace, load);
        assert.equal((await running.result).lost, 0);
      } else {
        for (let i = 0; i < 20; i++) assert.ok(await isAnswered());
      }
      const { datagrams, accepted } = await thief.served();
      assert.deepEqual([datagrams, accepted], [taken.datagrams, taken.accepted]);
      await thief.close();
    });
  }

  test('is told of, also while it only sits there', async () => {
    const report = 'foreign-socket';
    const told = tandem.logs().split(report).length;
    await using _thief = await host.bind({
      ...{ protocol: 'udp', address: '::', port, uid: ownerUid, reusePort: true },
    });
    // The agent looks every five seconds.
    await waitFor(() => tandem.logs().split(report).length > told, {
      what: 'the agent to tell of it',
      timeoutMs: 10_000,
    });
  });
});

test('no signal opens an inspector in either process', () => {
  const sigusr1 = 1n << 9n;
  for (const name of ['agent', 'proxy'] as const) {
    const { pid } = tandem.process(name);
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const caught = BigInt(`0x${/^SigCgt:\t(\w+)$/m.exec(status)?.[1] ?? ''}`);
    assert.equal(caught & sigusr1, 0n, `${name} handles SIGUSR1: Node's inspector would open`);
  }
});
