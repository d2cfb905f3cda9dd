// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Resolvers on addresses of nodes, named by what they are and not as a stand-in for kube-dns: a cache on an
 * address of its own, the node's own address, another node. Rules name them by address and by entity.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { plan } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { tandemMain } from '../kit/built.ts';
import { learnedAddresses } from '../kit/learned.ts';
import { dnsPolicy, networkPolicy } from '../kit/objects.ts';
import { type StandardNode, standardRules, startStandardNode } from '../kit/standard-node.ts';

const cache4 = '169.254.20.10';
const cache6 = 'fd00:53::10';
/** Comes when the agent runs, on an interface that is down. */
const lateCache = '169.254.25.10';
const ownServers = [cache4, cache6, plan.node4, plan.node6];
const remoteServers = [plan.remoteNode4, plan.remoteNode6];
const transports = ['udp', 'tcp'] as const;
/** Names of the allowed suffix that lead to what must not be opened. */
const poison = {
  'cache.allowed.test': cache4,
  'node.allowed.test': plan.node4,
  'remote.allowed.test': plan.remoteNode4,
};
const hostBits = (address: string): string => `${address}/${address.includes(':') ? 128 : 32}`;

const names = {
  dns: [{ matchPattern: '*.allowed.test' }],
  fqdns: [{ matchPattern: '*.allowed.test' }],
};
const policies = [
  dnsPolicy({
    ...names,
    name: 'by-address',
    selects: { app: 'address' },
    dnsPeers: { toCIDR: [...ownServers, ...remoteServers, lateCache].map(hostBits) },
  }),
  dnsPolicy({
    ...names,
    name: 'by-entity',
    selects: { app: 'entity' },
    dnsPeers: { toEntities: ['host', 'remote-node'] },
  }),
  dnsPolicy({
    ...names,
    name: 'by-range',
    selects: { app: 'range' },
    dnsPeers: { toCIDRSet: [{ cidr: '169.254.20.10/31', except: ['169.254.20.11/32'] }] },
  }),
  networkPolicy({
    name: 'plain',
    selects: { app: 'plain' },
    egress: [
      {
        toCIDR: ownServers.map(hostBits),
        toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }],
      },
    ],
  }),
];

describe('DNS servers on addresses of nodes', () => {
  let standard: StandardNode;
  let own: DnsServer;
  let remote: DnsServer;
  const probes = new Map<string, Probe>();
  let nextNumber = 1;
  const nextName = (suffix: string): string => `n-${nextNumber++}.${suffix}`;
  const probe = (name: string): Probe => probes.get(name) as Probe;

  before(async () => {
    standard = await startStandardNode({
      node: { nodeLocal: [{ address: cache4 }, { address: cache6 }] },
      pods: ['address', 'entity', 'range', 'plain'].map((name) => ({ name })),
      policies,
    });
    const { node } = standard;
    const rules = [
      ...Object.entries(poison).map(([name, data]) => ({
        name,
        answers: [{ type: 'A' as const, data }],
      })),
      ...standardRules,
    ];
    await node.node.ip([`addr add ${lateCache}/32 dev ${plan.nodeLocal}`]);
    const addresses = [...ownServers, lateCache];
    own = node.own(await DnsServer.start(node.node, { addresses, rules }));
    remote = node.own(await DnsServer.start(node.remote, { addresses: remoteServers, rules }));
    for (const name of ['address', 'entity', 'range', 'plain']) {
      probes.set(name, node.own(Probe.start(node.pod(name).namespace)));
    }
  });
  after(() => standard[Symbol.asyncDispose]());

  test('an address of an interface that is down is one of the host as soon as the agent has looked', async () => {
    const ask = async (): Promise<boolean> => {
      const query = { server: lateCache, name: nextName('allowed.test'), timeoutMs: 500 };
      const reply = await askDns(probe('entity'), query).catch(() => null);
      return reply?.rcode === 'NOERROR';
    };
    await waitFor(ask, { what: `${lateCache} as a server by entity host`, timeoutMs: 15_000 });
  });

  for (const by of ['address', 'entity']) {
    for (const server of [...ownServers, lateCache, ...remoteServers]) {
      test(`${server} by ${by}: names are judged, and what it answers is reachable`, async () => {
        const pod = probe(by);
        const asked = remoteServers.some((each) => each === server) ? remote : own;
        for (const transport of transports) {
          const type = server.includes(':') ? 'AAAA' : 'A';
          const name = nextName('allowed.test');
          const allowed = await askDns(pod, { server, transport, type, name });
          assert.equal(allowed.rcode, 'NOERROR');
          assert.equal(allowed.from, server);
          assert.equal((await asked.queries(name)).length, 1);
          const [to] = allowed.addresses;
          assert.ok(to !== undefined);
          const stream = await pod.tcp({ to, port: 80, data: 'x', want: 1 });
          assert.equal(stream.retransmits, 0, 'the first SYN passed');
          const deniedName = nextName('denied.test');
          const denied = await askDns(pod, { server, transport, name: deniedName });
          assert.equal(denied.rcode, 'REFUSED');
          assert.equal((await asked.queries(deniedName)).length, 0);
        }
      });
    }
  }

  test('a server that no rule names is not asked', async () => {
    for (const name of ['address', 'entity']) {
      const query = { server: plan.upstream4, name: nextName('allowed.test'), timeoutMs: 300 };
      await assert.rejects(askDns(probe(name), query), /ETIMEDOUT/);
    }
  });

  test('the address is open to DNS by name alone', async () => {
    await using host = Probe.start(standard.node.node);
    for (const [address, to] of [
      ['0.0.0.0', plan.node4],
      ['::', plan.node6],
    ] as const) {
      const listener = await host.listen({ protocol: 'tcp', address, port: 80 });
      const direct = probe('address').tcp({ to, port: 80, timeoutMs: 300 });
      await assert.rejects(direct, /ETIMEDOUT/);
      assert.equal((await listener.served()).accepted, 0);
    }
  });

  test('addresses of nodes are never learned, not even from a server at such an address', async () => {
    for (const [name, data] of Object.entries(poison)) {
      const reply = await askDns(probe('address'), { server: cache4, name });
      assert.deepEqual(reply.addresses, [data], 'the answer is passed on');
      assert.equal(learnedAddresses(standard.tandem).has(data), false);
      const direct = probe('address').tcp({ to: data, port: 80, timeoutMs: 300 });
      await assert.rejects(direct, /ETIMEDOUT/);
    }
  });

  test('a longer CIDR names no address of a node, and a plain rule none at all', async () => {
    for (const name of ['range', 'plain']) {
      const query = { server: cache4, name: nextName('allowed.test'), timeoutMs: 300 };
      await assert.rejects(askDns(probe(name), query), /ETIMEDOUT/);
    }
  });

  test('tandem status names the rule without a server, and how to write it', async () => {
    const { node, tandem } = standard;
    const { stdout } = await tryRun(
      ...node.node.enter(process.execPath, [
        tandemMain,
        ...['status', `--bpffs-dir=${tandem.pinRoot}`, `--run-dir=${tandem.runDirectory}`],
      ]),
    );
    const said = stdout.replaceAll(/\s+/g, ' ');
    assert.match(said, /CiliumNetworkPolicy\/default\/by-range: spec\.egress\[0\]/);
    assert.match(said, /169\.254\.20\.10\/31 .* of a node.* write it as \/32 or \/128/);
    assert.doesNotMatch(said, /by-address|by-entity/);
  });
});
