// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Resolvers of clouds at link-local addresses, with policy by name on top: AKS LocalDNS on the node (169.254.10.10 and .11), GKE's
 * and AWS' outside of it (169.254.169.254, .253). The metadata server behind such an address stays closed.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { plan } from '@tandem/testing/node-plan';
import { Probe } from '@tandem/testing/probe';
import { learnedAddresses } from '../kit/learned.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { type StandardNode, standardRules, startStandardNode } from '../kit/standard-node.ts';

const onNode = ['169.254.10.10', '169.254.10.11'];
const outside = ['169.254.169.254', '169.254.169.253'];
const metadata = '169.254.169.254';
const resolvers = [...onNode, ...outside];
const transports = ['udp', 'tcp'] as const;
const names = {
  dns: [{ matchPattern: '*.allowed.test' }],
  fqdns: [{ matchPattern: '*.allowed.test' }],
};
const byAddress = (name: string): object =>
  dnsPolicy({
    ...names,
    name,
    selects: { app: name },
    dnsPeers: { toCIDR: resolvers.map((address) => `${address}/32`) },
  });
let nextNumber = 1;
const nextName = (suffix: string): string => `n-${nextNumber++}.${suffix}`;

describe('resolvers of clouds at link-local addresses', () => {
  let standard: StandardNode;
  let own: DnsServer;
  let cloud: DnsServer;
  const probes = new Map<string, Probe>();

  before(async () => {
    standard = await startStandardNode({
      node: { nodeLocal: onNode.map((address) => ({ address })) },
      pods: [{ name: 'ptp' }, { name: 'bridge', kind: 'bridge' }, { name: 'other' }],
      policies: [
        byAddress('ptp'),
        byAddress('bridge'),
        dnsPolicy({ ...names, name: 'other', selects: { app: 'other' } }),
      ],
      // As an operator sets it: names of the cloud's resolver count for every policy.
      agentOptions: { 'cluster-resolvers': resolvers.join(',') },
      prepare: (node) =>
        node.upstream.ip(outside.map((address) => `addr add ${address}/32 dev lo`)),
    });
    const { node } = standard;
    // Of the cloud it is the router that knows them: without a route they would be taken for neighbours.
    await node.node.ip(outside.map((address) => `route add ${address} via ${plan.upstream4}`));
    const rules = [
      { name: 'metadata.allowed.test', answers: [{ type: 'A' as const, data: metadata }] },
      ...standardRules,
    ];
    own = node.own(await DnsServer.start(node.node, { addresses: onNode, rules }));
    cloud = node.own(await DnsServer.start(node.upstream, { addresses: outside, rules }));
    for (const name of ['ptp', 'bridge', 'other']) {
      probes.set(name, node.own(Probe.start(node.pod(name).namespace)));
    }
  });
  after(() => standard[Symbol.asyncDispose]());
  const probe = (name: string): Probe => probes.get(name) as Probe;

  for (const pod of ['ptp', 'bridge']) {
    for (const server of resolvers) {
      test(`${pod} pod, ${server}: names are judged, and what it answers is reachable`, async () => {
        const asked = onNode.includes(server) ? own : cloud;
        for (const transport of transports) {
          const name = nextName('allowed.test');
          const allowed = await askDns(probe(pod), { server, transport, name });
          assert.equal(allowed.rcode, 'NOERROR');
          assert.equal(allowed.from, server);
          assert.equal((await asked.queries(name)).length, 1);
          const [to] = allowed.addresses;
          assert.ok(to !== undefined);
          const stream = await probe(pod).tcp({ to, port: 80, data: 'x', want: 1 });
          assert.equal(stream.retransmits, 0, 'the first SYN passed');
          const denied = nextName('denied.test');
          const refused = await askDns(probe(pod), { server, transport, name: denied });
          assert.equal(refused.rcode, 'REFUSED');
          assert.deepEqual(await asked.queries(denied), []);
        }
      });
    }
  }

  test('the metadata server at a resolver’s address stays closed, also by a name that leads to it', async () => {
    const reply = await askDns(probe('ptp'), { server: metadata, name: 'metadata.allowed.test' });
    assert.deepEqual(reply.addresses, [metadata], 'the answer is passed on');
    assert.equal(learnedAddresses(standard.tandem).has(metadata), false);
    await assert.rejects(probe('ptp').tcp({ to: metadata, port: 80, timeoutMs: 300 }), /ETIMEDOUT/);
  });

  test('a pod whose rules name kube-dns alone does not reach them', async () => {
    for (const server of resolvers) {
      const query = { server, name: nextName('allowed.test'), timeoutMs: 300 };
      await assert.rejects(askDns(probe('other'), query), /ETIMEDOUT/, server);
    }
  });
});
