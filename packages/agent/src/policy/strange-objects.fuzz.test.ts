// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Objects that are no policy (Pods, Services, EndpointSlices, Nodes, Namespaces, redirects) with any value in any place: the API
 * server checks most of them, a directory of files none. No value keeps a revision from being compiled and written, and the pods
 * of other objects are enforced as if it were not there.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { FakeNode, podOf, policyOf, type Raw, specOf } from '../../test/node-fixture.ts';

type Path = readonly (string | number)[];

const podCount = 3;
const policies: readonly Raw[] = Array.from({ length: podCount }, (_, i) => {
  const dns = ['a.test', '*.a.test'];
  return policyOf(
    i,
    specOf(i, { cidrs: ['203.0.113.0/24'], port: 443, dns, denies: i === 1, opens: i === 2 }),
  );
});
const inKubeSystem = { namespace: 'kube-system' };
const dnsLabels = { 'k8s-app': 'kube-dns' };
const dnsPod: Raw = {
  ...{ apiVersion: 'v1', kind: 'Pod' },
  metadata: { ...inKubeSystem, name: 'dns', uid: 'd', labels: dnsLabels },
  spec: {
    nodeName: 'two',
    containers: [{ name: 'dns', ports: [{ name: 'dns', containerPort: 53, protocol: 'UDP' }] }],
  },
  status: {
    podIP: '10.1.1.2',
    podIPs: [{ ip: '10.1.1.2' }, { ip: 'fd00:1::2' }],
    conditions: [{ type: 'Ready', status: 'True' }],
  },
};
const service: Raw = {
  ...{ apiVersion: 'v1', kind: 'Service', metadata: { ...inKubeSystem, name: 'kube-dns' } },
  spec: {
    ...{ clusterIP: '10.96.0.10', clusterIPs: ['10.96.0.10'], selector: dnsLabels },
    ports: [{ name: 'dns', port: 53, protocol: 'UDP', targetPort: 'dns' }],
  },
};
const slice: Raw = {
  ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4' },
  metadata: {
    ...inKubeSystem,
    name: 'kube-dns-1',
    labels: { 'kubernetes.io/service-name': 'kube-dns' },
  },
  endpoints: [{ addresses: ['10.1.1.2'], conditions: { ready: true }, nodeName: 'two' }],
  ports: [{ name: 'dns', port: 53, protocol: 'UDP' }],
};
const nodeOf = (name: string, last: number): Raw => ({
  ...{ apiVersion: 'v1', kind: 'Node' },
  metadata: { name, labels: { zone: 'a' }, annotations: { a: 'b' } },
  spec: { podCIDR: `10.1.${last}.0/24`, podCIDRs: [`10.1.${last}.0/24`, `fd00:${last}::/64`] },
  status: { addresses: [{ type: 'InternalIP', address: `192.0.2.${last + 1}` }] },
});
const namespace: Raw = {
  ...{ apiVersion: 'v1', kind: 'Namespace' },
  metadata: { name: 'kube-system', labels: { 'kubernetes.io/metadata.name': 'kube-system' } },
};
const redirect: Raw = {
  ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumLocalRedirectPolicy' },
  metadata: { ...inKubeSystem, name: 'local' },
  spec: {
    redirectFrontend: { serviceMatcher: { serviceName: 'kube-dns', ...inKubeSystem } },
    redirectBackend: {
      localEndpointSelector: { matchLabels: dnsLabels },
      toPorts: [{ name: 'dns', port: '53', protocol: 'UDP' }],
    },
  },
};
const pods = Array.from({ length: podCount }, (_, i) => podOf(i));
/** One of each is changed at a time; of `pods` the first. */
const objects: readonly Raw[] = [
  ...[dnsPod, service, slice, nodeOf('one', 0), nodeOf('two', 1), namespace, redirect],
  ...pods,
];
const firstPod = objects.length - podCount;

function placesOf(value: unknown, path: Path = []): readonly Path[] {
  const here = path.length === 0 ? [] : [path];
  if (typeof value !== 'object' || value === null) return here;
  return [
    ...here,
    ...Object.entries(value).flatMap(([name, inner]) =>
      placesOf(inner, [...path, Array.isArray(value) ? Number(name) : name]),
    ),
  ];
}

function withValue(object: unknown, [name, ...rest]: Path, value: unknown): unknown {
  if (name === undefined) return value;
  const fields = object as Readonly<Record<string | number, unknown>>;
  const inner = withValue(fields[name], rest, value);
  return Array.isArray(object)
    ? object.map((each: unknown, i) => (i === name ? inner : each))
    : { ...fields, [name]: inner };
}

const deep = (levels: number): unknown => (levels === 0 ? 1 : [deep(levels - 1)]);
/** None is an address that a pod here has, or a peer that the fixture asks about. */
const values: fc.Arbitrary<unknown> = fc.oneof(
  fc.constantFrom<unknown>(
    ...[null, undefined, '', 0, -1, 53.5, 1e308, Number.NaN, true, [], {}, [null], [[]], [{}]],
    ...['x', '::', '0.0.0.0', '0.0.0.0/0', '::/0', '10.1.0.999', 'fe80::1', '127.0.0.1', '300'],
    ...['__proto__', 'constructor', 'k8s:', 'a'.repeat(100_000), '\u0000', '\ud800', deep(200)],
    ...[JSON.parse('{"__proto__": {"ready": true}}'), { toString: 1, length: 1 }, 2 ** 53],
  ),
  fc.jsonValue({ maxDepth: 3 }),
);

const expected = (() => {
  const node = new FakeNode();
  node.apply([...objects, ...policies], null, -1);
  return pods.map((_, pod) => node.answers(pod));
})();

test('any value anywhere in an object that is no policy: policy of the other objects is in force', () => {
  const changes = fc.nat(firstPod).chain((index) =>
    fc.record({
      index: fc.constant(index),
      path: fc.constantFrom(...placesOf(objects[index])),
      value: values,
      isLater: fc.boolean(),
    }),
  );
  fc.assert(
    fc.property(changes, ({ index, path, value, isLater }) => {
      const strange = withValue(objects[index], path, value) as Raw;
      const node = new FakeNode();
      if (isLater) node.apply([...objects, ...policies], null, -1);
      node.apply([...objects.with(index, strange), ...policies], null, -1);
      for (let pod = index === firstPod ? 1 : 0; pod < podCount; pod++) {
        assert.deepEqual(node.answers(pod), expected[pod], `pod ${pod}`);
      }
      node.apply([...objects, ...policies], null, -1);
      for (const pod of pods.keys()) {
        assert.deepEqual(node.answers(pod), expected[pod], `pod ${pod}, healed`);
      }
    }),
    { seed: 20261130, numRuns: 1000 },
  );
});
