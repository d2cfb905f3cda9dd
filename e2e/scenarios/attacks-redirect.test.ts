// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Power of a tenant with CiliumLocalRedirectPolicies and with pods of its own: nothing to the traffic of others, and nothing
 * that lets its own pass policy.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket } from '@tandem/testing/packet';
import { Probe } from '@tandem/testing/probe';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { dnsPolicy, type PodObject, podObject, redirectPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  type StandardNode,
  standardPolicy,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

const labels = { 'k8s-app': 'node-local-dns' };
const dnsObject = { namespace: 'kube-system', labels: { 'k8s-app': 'kube-dns' } };
/** A backend of the tenant's, which answers every name with its own address: what it would do to others. */
const evilObject = { namespace: 'shop', labels, isReady: true };
const outside = '203.0.113.53';
const dnsPorts = [
  { port: '53', name: 'dns', protocol: 'UDP' },
  { port: '53', name: 'dns-tcp', protocol: 'TCP' },
];
let nextNumber = 1;
const nextName = (): string => `n-${nextNumber++}.allowed.test`;

describe('a tenant with redirect policies of its own', () => {
  let standard: StandardNode;
  let evil: DnsServer;
  let free: Probe;
  let tenant: Probe;
  const table = async (): Promise<string> =>
    (await tryRun(...standard.node.node.enter('nft', ['list', 'table', 'inet', 'tandem_redirect'])))
      .stdout;
  /** As `status` says it. */
  const says = (code: string, name: string): Promise<unknown> =>
    waitFor(
      () =>
        standard.tandem
          .process('agent')
          .stderr()
          .split('\n')
          .some((line) => line.includes(`code=${code}`) && line.includes(name)),
      { what: `${code} of ${name}` },
    );

  before(async () => {
    standard = await startStandardNode({
      kubeProxy: 'iptables',
      pods: [{ name: 'evil' }, { name: 'free', kind: 'bridge' }, { name: 'cache' }],
      podObjects: { evil: evilObject, cache: { ...dnsObject, labels: { app: 'none' } } },
      policies: [
        standardPolicy,
        dnsPolicy({
          name: 'outside',
          selects: { app: 'client' },
          dns: [{ matchPattern: '*.allowed.test' }],
          fqdns: [],
          dnsPeers: { toCIDR: [`${outside}/32`] },
        }),
      ],
    });
    const { node } = standard;
    const addresses = [node.pod('evil').ipv4 as string];
    evil = node.own(
      await DnsServer.start(node.pod('evil').namespace, { addresses, rules: standardRules }),
    );
    node.own(await DnsServer.start(node.upstream, { addresses: [outside], rules: standardRules }));
    free = node.own(Probe.start(node.pod('free').namespace));
    tenant = node.own(Probe.start(node.pod('evil').namespace));
  });
  after(() => standard[Symbol.asyncDispose]());

  /** Nothing of others' DNS comes to the tenant's pod. */
  const nothingTaken = async (): Promise<void> => {
    for (const server of [clusterDns4, outside, plan.upstream4]) {
      for (const from of [standard.client, free]) {
        const name = nextName();
        await askDns(from, { server, name, timeoutMs: 500 }).catch(() => null);
        assert.deepEqual(await evil.queries(name), [], `${server}: ${name}`);
      }
    }
  };
  const attempts: readonly (readonly [name: string, code: string, frontend: object])[] = [
    [
      'foreign-service',
      'object-invalid',
      { serviceMatcher: { serviceName: 'kube-dns', namespace: 'kube-system' } },
    ],
    [
      'own-service',
      'redirect-refused',
      { serviceMatcher: { serviceName: 'kube-dns', namespace: 'shop' } },
    ],
    ['cluster-ip', 'redirect-refused', { addressMatcher: { ip: clusterDns4, toPorts: dnsPorts } }],
    ['outside', 'redirect-refused', { addressMatcher: { ip: outside, toPorts: dnsPorts } }],
    [
      'metadata',
      'redirect-refused',
      {
        addressMatcher: {
          ip: '169.254.169.254',
          toPorts: [{ port: '80', name: 'dns-tcp', protocol: 'TCP' }],
        },
      },
    ],
    ['node', 'redirect-refused', { addressMatcher: { ip: plan.node4, toPorts: dnsPorts } }],
  ];
  for (const [name, code, frontend] of attempts) {
    test(`${name}: its policy takes nothing, and says why`, async () => {
      standard.tandem.write('attack.yaml', [redirectPolicy({ name, namespace: 'shop', frontend })]);
      await says(code, name);
      assert.equal(await table(), '');
      await nothingTaken();
    });
  }

  test('a pod with the labels of the cache, in another namespace, is no backend of it', async () => {
    const { node, tandem } = standard;
    const objects: Readonly<Record<string, PodObject>> = {
      evil: evilObject,
      dns: dnsObject,
      cache: { namespace: 'kube-system', labels, isReady: true },
    };
    tandem.write('attack.yaml', [redirectPolicy()]);
    tandem.write(
      'pods.yaml',
      node.pods.map((pod) => podObject(pod, objects[pod.name])),
    );
    await waitFor(async () => (await table()).includes('dnat'), { what: 'the redirect' });
    assert.match(await table(), new RegExp(`0 : ${node.pod('cache').ipv4} `));
    assert.ok(!(await table()).includes(node.pod('evil').ipv4 as string));
  });

  test('a pod that claims the address of a backend gets past no redirect', async () => {
    const { node, tandem } = standard;
    const { mac, gatewayMac } = node.pod('evil');
    const before_ = tandem.counters()['drop_spoofed'] ?? 0;
    await tenant.frame(
      buildPacket({
        ethernet: { source: mac, destination: gatewayMac },
        ip: { source: node.pod('cache').ipv4 as string, destination: clusterDns4 },
        udp: { sourcePort: 4000, destinationPort: 53 },
      }),
    );
    await waitFor(() => (tandem.counters()['drop_spoofed'] ?? 0) > before_, {
      what: 'its packet to be dropped',
    });
  });
});
