// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The Service of the cluster's DNS has another name in some distributions: its pods' label tells it. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  address,
  basicObjects,
  cnp,
  codes,
  compileObjects,
  dnsPorts,
  dnsRule,
  kubeDns,
  type Raw,
  serversOf,
  service,
} from '../../../test/cluster-fixture.ts';
import { formatAddress } from '../../net/ip.ts';

const policy = cnp('shop/p', {
  endpointSelector: { matchLabels: { app: 'web' } },
  egress: [{ toEndpoints: [kubeDns], toPorts: dnsRule('*.example') }],
});
const withoutKubeDns = basicObjects.filter(
  ({ kind, metadata }) =>
    kind !== 'EndpointSlice' && !(kind === 'Service' && (metadata as Raw)['name'] === 'kube-dns'),
);

/** A Service to the pod of kube-dns, on `ports`, and its slice. */
function dnsService(path: string, labels: Raw, ports = dnsPorts): readonly Raw[] {
  return service(path, '10.96.0.11', ports, '10.244.1.53').map((object) =>
    object['kind'] === 'Service'
      ? { ...object, spec: { ...(object['spec'] as Raw), selector: labels } }
      : object,
  );
}

const dnsLabels = { 'k8s-app': 'kube-dns' };
const nodeLocalDns = [address('169.254.25.10')];
const trustedOf = (objects: readonly Raw[]): readonly string[] =>
  compileObjects([...objects, policy]).members.trustedServers.map((each) => formatAddress(each));

for (const name of ['coredns', 'rke2-coredns-rke2-coredns']) {
  test(`${name} of Kubespray and RKE2 is the cluster's DNS`, () => {
    const objects = [...withoutKubeDns, ...dnsService(`kube-system/${name}`, dnsLabels)];
    assert.deepEqual(trustedOf(objects), ['10.96.0.11']);
    const compiled = compileObjects([...objects, policy], { node: { nodeLocalDns } });
    assert.deepEqual(codes(compiled), []);
    assert.deepEqual(serversOf(compiled), {
      '10.96.0.11/udp': '*.example.',
      '10.244.1.53/udp': '*.example.',
      '169.254.25.10/udp': '*.example.',
    });
  });
}

test('a Service of its metrics, of other pods or in another namespace is not', () => {
  const metrics = [{ name: 'metrics', port: 9153, target: 9153, protocol: 'TCP' }];
  for (const objects of [
    dnsService('kube-system/coredns-metrics', dnsLabels, metrics),
    dnsService('kube-system/other', { 'k8s-app': 'other' }),
    dnsService('shop/coredns', dnsLabels),
  ]) {
    assert.deepEqual(trustedOf([...withoutKubeDns, ...objects]), []);
  }
});

test('beside kube-dns the upstream Service of a node-local cache counts too', () => {
  const upstream = dnsService('kube-system/kube-dns-upstream', dnsLabels);
  assert.deepEqual(trustedOf([...basicObjects, ...upstream]), ['10.96.0.10', '10.96.0.11']);
});
