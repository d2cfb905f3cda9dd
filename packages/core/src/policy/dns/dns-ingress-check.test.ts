// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Ingress policy of the cluster's DNS that pods of other nodes ask through their node (gardener#3274, cilium#19045). */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  ccnp,
  cnp,
  codes,
  compileObjects,
  dnsPorts,
  dnsRule,
  kubeDns,
  namespace,
  nodeObject,
  pod,
  type Raw,
  service,
} from '../../../test/cluster-fixture.ts';

const dnsLabels = { matchLabels: { 'k8s-app': 'kube-dns' } };
const ports = [
  { protocol: 'UDP', port: 53 },
  { protocol: 'TCP', port: 53 },
];

const networkPolicy = (...from: readonly Raw[]): Raw => ({
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { namespace: 'kube-system', name: 'allow-dns' },
  spec: { podSelector: dnsLabels, policyTypes: ['Ingress'], ingress: [{ from, ports }] },
});

const asking = cnp('shop/web', {
  endpointSelector: { matchLabels: { app: 'web' } },
  egress: [{ toEndpoints: [kubeDns], toPorts: dnsRule('*.example') }],
});

function clusterWith(...objects: readonly Raw[]): readonly Raw[] {
  return [
    namespace('shop'),
    namespace('kube-system'),
    nodeObject('one', '192.168.0.1', '10.244.0.0/24'),
    nodeObject('two', '192.168.0.2', '10.244.1.0/24'),
    pod('kube-system/dns', { 'k8s-app': 'kube-dns' }, 'one', '10.244.0.53'),
    pod('kube-system/dns-of-two', { 'k8s-app': 'kube-dns' }, 'two', '10.244.1.53'),
    pod('shop/web', { app: 'web' }, 'two', '10.244.1.5'),
    ...service('kube-system/kube-dns', '10.96.0.10', dnsPorts, '10.244.0.53', '10.244.1.53'),
    ...objects,
  ];
}

const anyPod = { namespaceSelector: {} };
const warned = ['dns-ingress-nodes Pod/kube-system/dns'];

const cases: Readonly<Record<string, { objects: readonly Raw[]; says: readonly string[] }>> = {
  'pods alone are admitted': { objects: [asking, networkPolicy(anyPod)], says: warned },
  'nobody has DNS rules': { objects: [networkPolicy(anyPod)], says: [] },
  'no policy selects the DNS pods': { objects: [asking], says: [] },
  'everybody is admitted': { objects: [asking, networkPolicy()], says: [] },
  'an ipBlock of the nodes': {
    objects: [asking, networkPolicy(anyPod, { ipBlock: { cidr: '192.168.0.0/24' } })],
    says: [],
  },
  'an ipBlock of other addresses': {
    objects: [asking, networkPolicy(anyPod, { ipBlock: { cidr: '10.0.0.0/8' } })],
    says: warned,
  },
  'remote-node in a second policy': {
    objects: [
      asking,
      networkPolicy(anyPod),
      cnp('kube-system/nodes', {
        endpointSelector: dnsLabels,
        ingress: [{ fromEntities: ['remote-node'] }],
      }),
    ],
    says: [],
  },
  'a deny rule for nodes': {
    objects: [
      asking,
      networkPolicy(),
      ccnp('no-nodes', {
        endpointSelector: dnsLabels,
        ingressDeny: [{ fromEntities: ['remote-node'] }],
      }),
    ],
    says: warned,
  },
};

for (const [name, { objects, says }] of Object.entries(cases)) {
  test(`ingress of the cluster's DNS: ${name}`, () => {
    assert.deepEqual(codes(compileObjects(clusterWith(...objects))), says);
  });
}

test('on a cluster of one node nobody asks from another', () => {
  const objects = clusterWith(asking, networkPolicy(anyPod)).filter(
    ({ metadata }) => !/two/.test((metadata as Raw)['name'] as string),
  );
  const [slice] = objects.filter(({ kind }) => kind === 'EndpointSlice');
  assert.ok(slice !== undefined);
  assert.deepEqual(codes(compileObjects(objects)), []);
});

test('the message names a node, the port and the rule to add', () => {
  const { diagnostics } = compileObjects(clusterWith(asking, networkPolicy(anyPod)));
  assert.match(diagnostics[0]?.message ?? '', /192\.168\.0\.2 of node two to port 53.*remote-node/);
});
