// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node-local DNS cache as NodeLocal DNSCache sets itself up: it listens on addresses of its own and on
 * kube-dns' ClusterIP, on an interface that is down and without conntrack, so nothing is translated. Rules
 * for kube-dns hold for it under each of its addresses.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { Probe } from '@tandem/testing/probe';
import {
  clusterDns4,
  clusterDns6,
  type StandardNode,
  standardPolicy,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

const local4 = '169.254.20.10';
const local6 = 'fd00:53::10';
const addresses = [local4, clusterDns4, local6, clusterDns6];
const transports = ['udp', 'tcp'] as const;

const plainPolicy = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'plain', namespace: 'default' },
  spec: {
    endpointSelector: { matchLabels: { app: 'plain' } },
    egress: [
      {
        toEndpoints: [
          {
            matchLabels: {
              'k8s:io.kubernetes.pod.namespace': 'kube-system',
              'k8s:k8s-app': 'kube-dns',
            },
          },
        ],
        toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }] }],
      },
    ],
  },
};

for (const kubeProxy of ['iptables', 'nftables'] as const) {
  describe(`node-local DNS beside kube-proxy in ${kubeProxy} form`, () => {
    let standard: StandardNode;
    let cache: DnsServer;
    let plain: Probe;
    let free: Probe;
    let nextNumber = 1;
    before(async () => {
      standard = await startStandardNode({
        kubeProxy,
        node: { nodeLocal: addresses.map((address) => ({ address, noTrack: true })) },
        pods: [{ name: 'plain' }, { name: 'free' }],
        policies: [standardPolicy, plainPolicy],
        agentOptions: { 'node-local-dns': `${local4},${local6}` },
      });
      const { node } = standard;
      cache = node.own(await DnsServer.start(node.node, { addresses, rules: standardRules }));
      plain = node.own(Probe.start(node.pod('plain').namespace));
      free = node.own(Probe.start(node.pod('free').namespace));
    });
    after(() => standard[Symbol.asyncDispose]());

    for (const server of addresses) {
      test(`${server}: names are judged, and asked of the node's cache`, async () => {
        const { client, dns } = standard;
        for (const transport of transports) {
          const type = server.includes(':') ? 'AAAA' : 'A';
          const name = `n-${nextNumber++}.allowed.test`;
          const allowed = await askDns(client, { server, transport, type, name });
          assert.equal(allowed.rcode, 'NOERROR');
          assert.equal(allowed.from, server);
          assert.equal((await cache.queries(name)).length, 1, 'the cache answered');
          assert.equal((await dns.queries(name)).length, 0, 'not the pod behind the ClusterIP');
          const [to] = allowed.addresses;
          assert.ok(to !== undefined);
          const stream = await client.tcp({ to, port: 80, data: 'x', want: 1 });
          assert.equal(stream.retransmits, 0, 'the first SYN passed');
          const deniedName = `n-${nextNumber++}.denied.test`;
          const denied = await askDns(client, { server, transport, name: deniedName });
          assert.equal(denied.rcode, 'REFUSED');
          assert.equal((await cache.queries(deniedName)).length, 0);
        }
      });

      test(`${server}: pods without DNS rules ask the cache themselves`, async () => {
        for (const transport of transports) {
          for (const [name, pod] of Object.entries({ plain, free })) {
            const asked = `n-${nextNumber++}.denied.test`;
            const reply = await askDns(pod, { server, transport, name: asked });
            assert.equal(reply.rcode, 'NOERROR', name);
            const [query] = await cache.queries(asked);
            const { ipv4, ipv6 } = standard.node.pod(name);
            assert.equal(query?.from, server.includes(':') ? ipv6 : ipv4);
          }
        }
      });
    }
  });
}
