// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { K8sObject, PolicyObject } from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { DnsIngressHints } from './dns-ingress-hints.ts';

type Body = Readonly<Record<string, unknown>>;

function parsed(raw: Body): K8sObject {
  const result = parseObject(raw);
  assert.ok(result.ok);
  return result.value;
}

const dns = { matchLabels: { 'k8s-app': 'kube-dns' } };
const ports = [
  { protocol: 'UDP', port: 53 },
  { protocol: 'TCP', port: 53 },
];
const networkPolicy = (from: readonly Body[], namespace = 'kube-system', rule: Body = { ports }) =>
  parsed({
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
    metadata: { namespace, name: 'allow-dns' },
    spec: { podSelector: dns, policyTypes: ['Ingress'], ingress: [{ from, ...rule }] },
  });
const cilium = (namespace: string, spec: Body): K8sObject =>
  parsed({
    ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy' },
    ...{ metadata: { namespace, name: 'p' }, spec },
  });
const withDnsRule = cilium('shop', {
  endpointSelector: {},
  egress: [
    {
      toEndpoints: [
        {
          matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', 'k8s-app': 'kube-dns' },
        },
      ],
      toPorts: [
        { ports: [{ port: '53', protocol: 'UDP' }], rules: { dns: [{ matchPattern: '*' }] } },
      ],
    },
  ],
});
const anyPod = { namespaceSelector: {} };

const cases: Readonly<Record<string, { objects: readonly K8sObject[]; paths: readonly string[] }>> =
  {
    'pods alone (gardener#3274)': {
      objects: [networkPolicy([anyPod]), withDnsRule],
      paths: ['spec.ingress[0]'],
    },
    'without a DNS rule in the files': { objects: [networkPolicy([anyPod])], paths: [] },
    'in another namespace': {
      objects: [networkPolicy([anyPod], 'shop'), withDnsRule],
      paths: [],
    },
    'an ipBlock beside the pods': {
      objects: [networkPolicy([anyPod, { ipBlock: { cidr: '10.250.0.0/16' } }]), withDnsRule],
      paths: [],
    },
    everybody: { objects: [networkPolicy([]), withDnsRule], paths: [] },
    'another port': {
      objects: [networkPolicy([anyPod], 'kube-system', { ports: [{ port: 9153 }] }), withDnsRule],
      paths: [],
    },
    'entity cluster': {
      objects: [
        cilium('kube-system', { endpointSelector: dns, ingress: [{ fromEntities: ['cluster'] }] }),
        withDnsRule,
      ],
      paths: [],
    },
    'fromEndpoints alone': {
      objects: [
        cilium('kube-system', { endpointSelector: dns, ingress: [{ fromEndpoints: [{}] }] }),
        withDnsRule,
      ],
      paths: ['spec.ingress[0]'],
    },
    'nodes in a second policy': {
      objects: [
        networkPolicy([anyPod]),
        cilium('kube-system', {
          endpointSelector: dns,
          ingress: [{ fromEntities: ['remote-node'] }],
        }),
        withDnsRule,
      ],
      paths: [],
    },
  };

for (const [name, { objects, paths }] of Object.entries(cases)) {
  test(`a policy of the DNS pods: ${name}`, () => {
    const hints = new DnsIngressHints(objects).of(objects[0] as PolicyObject);
    assert.deepEqual(
      hints.map(({ path }) => path),
      paths,
    );
    for (const { message } of hints) assert.match(message, /not the nodes.*remote-node/);
  });
}
