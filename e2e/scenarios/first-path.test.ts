// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The thin path end to end: one pod, one allowed and one refused name, real packets through the
 * datapath, both processes on the shared socket with the privileges that are shipped, an address learned before the
 * pod hears of it.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { createNode } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';

import {
  dnsPolicy,
  namespaceObject,
  nodeObjects,
  podObject,
  serviceObjects,
} from '../kit/objects.ts';
import { assertPrivileges, shippedPrivileges } from '../kit/shipped-privileges.ts';
import { TandemNode } from '../kit/tandem-node.ts';

const clusterDns = '10.96.0.10';
const allowed = '203.0.113.10';
const other = '203.0.113.20';

test('an allowed name is reached, another one refused, its address dropped', async () => {
  const services = (['udp', 'tcp'] as const).map((protocol) => ({
    clusterIp: clusterDns,
    port: 53,
    protocol,
    backends: [{ address: '10.1.0.12', port: 53 }],
  }));
  await using node = await createNode({
    pods: [{ name: 'client' }, { name: 'dns' }],
    services,
  });
  const client = node.own(await Probe.start(node.pod('client').namespace));
  const internet = node.own(await Probe.start(node.upstream));
  await internet.listen({ protocol: 'tcp', address: '0.0.0.0', port: 80 });
  const server = node.own(
    await DnsServer.start(node.pod('dns').namespace, {
      addresses: ['10.1.0.12'],
      rules: [
        { name: 'www.example.test', type: 'A', answers: [{ type: 'A', data: allowed, ttl: 60 }] },
        { name: 'other.example.test', type: 'A', answers: [{ type: 'A', data: other, ttl: 60 }] },
      ],
    }),
  );
  const tandem = await TandemNode.create(node);
  tandem.write('cluster.yaml', [
    namespaceObject('default'),
    namespaceObject('kube-system'),
    ...nodeObjects(),
    podObject(node.pod('client')),
    podObject(node.pod('dns'), { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } }),
    ...serviceObjects('kube-dns', 'kube-system', services),
  ]);
  tandem.write('policy.yaml', [
    dnsPolicy({
      selects: { app: 'client' },
      dns: [{ matchName: 'www.example.test' }],
      fqdns: [{ matchName: 'www.example.test' }],
    }),
  ]);
  await tandem.start();
  assertPrivileges(tandem.process('agent').pid, shippedPrivileges.agent);
  assertPrivileges(tandem.process('proxy').pid, shippedPrivileges['dns-proxy']);

  const answer = await askDns(client, { server: clusterDns, name: 'www.example.test' });
  assert.deepEqual(answer.addresses, [allowed]);
  const stream = await client.tcp({ to: allowed, port: 80, data: 'x', want: 1 });
  assert.equal(stream.retransmits, 0, 'the first SYN passed');

  const refused = await askDns(client, { server: clusterDns, name: 'other.example.test' });
  assert.equal(refused.rcode, 'REFUSED');
  await assert.rejects(
    client.tcp({ to: other, port: 80, data: 'x', want: 1, timeoutMs: 1200 }),
    'direct access is dropped',
  );
  const seen = await server.queries();
  assert.equal(seen.filter(({ name }) => name === 'other.example.test').length, 0);
});
