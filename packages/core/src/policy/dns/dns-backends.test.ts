// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** When the number that stands for a DNS server's ready backends changes, and when it must not. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  basicObjects,
  cnp,
  compileObjects,
  dnsPorts,
  dnsRule,
  kubeDns,
  pod,
  type Raw,
  service,
} from '../../../test/cluster-fixture.ts';
import { formatAddress } from '../../net/ip.ts';

const toDns = cnp('shop/p', {
  endpointSelector: {},
  egress: [{ toEndpoints: [kubeDns], toPorts: dnsRule('*') }],
});
const toEverybody = cnp('shop/p', { endpointSelector: {}, egress: [{ toPorts: dnsRule('*') }] });
const dnsPods = ['10.244.1.53', '10.244.1.54', '10.244.1.55'].map((ip, index) =>
  pod(`kube-system/dns-${index}`, { 'k8s-app': 'kube-dns' }, 'two', ip),
);
/** Service 10.96.0.10 and its slice, with conditions per backend. */
function clusterDns(endpoints: Readonly<Record<string, Raw>>, target = 53): readonly Raw[] {
  const ports = dnsPorts.map((port) => ({ ...port, target }));
  const [object, slice] = service('kube-system/kube-dns', '10.96.0.10', ports);
  const listed = Object.entries(endpoints).map(([ip, conditions]) => {
    return { addresses: [ip], conditions };
  });
  return [object as Raw, { ...slice, endpoints: listed }];
}

function digests(objects: readonly Raw[], nodeLocalDns: readonly Uint8Array[] = []) {
  const all = [...basicObjects, ...dnsPods, ...objects];
  const { members } = compileObjects(all, { node: { nodeLocalDns } });
  return new Map(members.backendDigests.map((each) => [formatAddress(each.address), each.digest]));
}
const digestOf = (...objects: readonly Raw[]): number | undefined =>
  digests([toEverybody, ...objects]).get('10.96.0.10');

const ready = { ready: true };
const terminating = { ready: false, serving: true, terminating: true };
const two = clusterDns({ '10.244.1.53': ready, '10.244.1.54': ready });

const same: Readonly<Record<string, readonly Raw[]>> = {
  'the order of the endpoints': clusterDns({ '10.244.1.54': ready, '10.244.1.53': ready }),
  'conditions that are absent': clusterDns({ '10.244.1.53': {}, '10.244.1.54': {} }),
  'a backend that is not ready': clusterDns({
    ...{ '10.244.1.53': ready, '10.244.1.54': ready },
    '10.244.1.55': { ready: false },
  }),
  'a backend that serves while it terminates, beside ready ones': clusterDns({
    ...{ '10.244.1.53': ready, '10.244.1.54': ready },
    '10.244.1.55': terminating,
  }),
  'the same backends in two slices': [
    ...two,
    sliceOf('kube-dns-b', '10.244.1.53', dnsPorts[0]?.name as string),
  ],
  'a slice of another port': [...two, sliceOf('kube-dns-metrics', '10.244.1.55', 'metrics')],
  'a backend of the other address family': [...two, sliceOf('kube-dns-v6', 'fd00:244::53', 'dns')],
};
const changed: Readonly<Record<string, readonly Raw[]>> = {
  'a backend less': clusterDns({ '10.244.1.53': ready }),
  'a backend more': clusterDns({
    ...{ '10.244.1.53': ready, '10.244.1.54': ready, '10.244.1.55': ready },
  }),
  'another backend': clusterDns({ '10.244.1.53': ready, '10.244.1.55': ready }),
  'a backend that is no longer ready': clusterDns({
    '10.244.1.53': ready,
    '10.244.1.54': { ready: false },
  }),
  'a backend that begins to terminate': clusterDns({
    '10.244.1.53': ready,
    '10.244.1.54': terminating,
  }),
  'no backend': clusterDns({}),
  'another port of the backends': clusterDns({ '10.244.1.53': ready, '10.244.1.54': ready }, 1053),
};

function sliceOf(name: string, ip: string, portName: string): Raw {
  const [, slice] = service('kube-system/kube-dns', ip, dnsPorts, ip);
  return {
    ...slice,
    metadata: {
      namespace: 'kube-system',
      name,
      labels: { 'kubernetes.io/service-name': 'kube-dns' },
    },
    ports: [{ name: portName, port: 53, protocol: 'UDP' }],
  };
}

for (const [what, objects] of Object.entries(same)) {
  test(`the digest stays: ${what}`, () => assert.equal(digestOf(...objects), digestOf(...two)));
}

for (const [what, objects] of Object.entries(changed)) {
  test(`the digest changes: ${what}`, () => {
    const digest = digestOf(...objects);
    assert.ok(digest !== undefined && digest !== 0);
    assert.notEqual(digest, digestOf(...two));
  });
}

test('without ready backends those that serve while they terminate count', () => {
  const old = digestOf(...clusterDns({ '10.244.1.53': terminating, '10.244.1.54': terminating }));
  assert.equal(old, digestOf(...two));
  assert.notEqual(old, digestOf(...clusterDns({ '10.244.1.53': terminating })));
});

test('only ClusterIPs that a policy of the node judges by name have a digest', () => {
  const other = service('shop/dns', '10.96.0.99', dnsPorts, '10.244.1.5');
  const web = service('shop/web', '10.96.0.80', [
    { name: 'dns', port: 5353, target: 53, protocol: 'UDP' },
  ]);
  const objects = [...two, ...other, ...web];
  assert.deepEqual([...digests(objects).keys()], []);
  assert.deepEqual([...digests([toDns, ...objects]).keys()], ['10.96.0.10']);
  assert.deepEqual(
    [...digests([toEverybody, ...objects]).keys()],
    ['10.96.0.10', '10.96.0.99'],
    'a rule for every peer judges every server',
  );
});

test('a Service without EndpointSlices and a node-local cache have none', () => {
  const [onlyService] = service('shop/dns', '10.96.0.99', dnsPorts);
  const objects = [toEverybody, ...two, onlyService as Raw];
  const nodeLocal = [Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 169, 254, 20, 10)];
  assert.deepEqual([...digests(objects, nodeLocal).keys()], ['10.96.0.10']);
});

test('both families of a Service have a digest of their own backends', () => {
  const [object, slice] = service('kube-system/kube-dns', '10.96.0.10', dnsPorts, '10.244.1.53');
  const spec = { ...(object as { spec: Raw }).spec, clusterIPs: ['10.96.0.10', 'fd00:96::10'] };
  const dual = [{ ...object, spec }, slice as Raw];
  const before = digests([toEverybody, ...dual]);
  const after = digests([toEverybody, ...dual, sliceOf('kube-dns-v6', 'fd00:244::53', 'dns')]);
  assert.equal(before.get('10.96.0.10'), after.get('10.96.0.10'));
  assert.notEqual(before.get('fd00:96::10'), after.get('fd00:96::10'));
});
