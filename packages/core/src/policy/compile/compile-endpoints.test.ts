// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  basicObjects,
  ccnp,
  clusterOf,
  cnp,
  codes,
  compileObjects,
  dnsRule,
  endpointAt,
  kubeDns,
  namespace,
  node,
  pod,
  type Raw,
  toWorld,
  web,
} from '../../../test/cluster-fixture.ts';
import { EndpointFlag } from '../model/kernel-numbers.ts';
import { StableIds } from '../model/stable-ids.ts';
import { compile } from './compile.ts';

test('endpoints: one per address, equal ids per pod, new ids for a new pod of the same name', () => {
  const compiled = compileObjects(basicObjects);
  const [first, second] = compiled.endpoints;
  assert(first !== undefined && second !== undefined);
  assert.equal(first.endpointId, second.endpointId);
  assert.equal(first.namespaceId, second.namespaceId);
  assert.deepEqual(first.pod, { namespace: 'shop', name: 'web', uid: 'uid-shop/web' });
  const again = basicObjects.map((raw) => {
    const metadata = raw['metadata'] as Raw;
    return metadata['name'] === 'web' ? { ...raw, metadata: { ...metadata, uid: 'other' } } : raw;
  });
  const recreated = endpointAt(compileObjects(again, {}, compiled.ids), '10.244.0.5');
  assert.notEqual(recreated.endpointId, first.endpointId);
  assert.equal(recreated.namespaceId, first.namespaceId);
});

test('flags of endpoints', () => {
  const { enforceIngress, enforceEgress, wildIngress, wildEgress, fqdn, dns } = EndpointFlag;
  const port = [{ ports: [{ port: '80' }] }];
  const rows: [name: string, spec: Raw, want: number][] = [
    ['peers', toWorld, enforceEgress],
    ['default deny', { ingress: [{}], egress: [{}] }, enforceIngress | enforceEgress],
    ['any peer', { egress: [{ toPorts: port }] }, enforceEgress | wildEgress],
    ['any peer in', { ingress: [{ fromEntities: ['all'] }] }, enforceIngress | wildIngress],
    ['FQDN', { egress: [{ toFQDNs: [{ matchName: 'a.b' }] }] }, enforceEgress | fqdn],
    ['empty FQDN', { egress: [{ toFQDNs: [] }] }, enforceEgress],
    ['DNS', { egress: [{ toEndpoints: [kubeDns], toPorts: dnsRule('*') }] }, enforceEgress | dns],
    [
      'no default deny',
      { ...toWorld, enableDefaultDeny: { egress: false } },
      enforceEgress | wildEgress,
    ],
  ];
  for (const [name, spec, want] of rows) {
    const policy = cnp('shop/p', { endpointSelector: web, ...spec });
    const compiled = compileObjects([...basicObjects, policy]);
    assert.equal(endpointAt(compiled, '10.244.0.5').flags, want, name);
  }
  const elsewhere = cnp('kube-system/p', { endpointSelector: {}, ...toWorld });
  assert.equal(endpointAt(compileObjects([...basicObjects, elsewhere]), '10.244.0.5').flags, 0);
  const everywhere = ccnp('p', { endpointSelector: {}, ...toWorld });
  const compiled = compileObjects([...basicObjects, everywhere]);
  assert.equal(endpointAt(compiled, '10.244.0.5').flags, enforceEgress);
});

test('the last good version stays in force', () => {
  const good = clusterOf([...basicObjects, cnp('shop/p', { endpointSelector: web, ...toWorld })]);
  const bad = clusterOf([cnp('shop/p', { endpointSelector: web, egress: [{ x: 1 }] })]);
  const ref = 'CiliumNetworkPolicy/shop/p';
  const [inForce, invalid] = [good.policies.get(ref)?.inForce, bad.policies.get(ref)?.invalid];
  assert(inForce && invalid);
  const both = { ...good, policies: new Map([[ref, { inForce, invalid }]]) };
  const options = { node, revision: 1 };
  const [before, after] = [good, both].map((cluster) =>
    compile(cluster, options, StableIds.empty()),
  );
  assert(before && after);
  assert.deepEqual(after.policies, before.policies);
  assert.match(after.diagnostics[0]?.message ?? '', /last valid version stays in force/);
});

test('pods that are no endpoints', () => {
  const finished = {
    ...pod('shop/job', {}, 'one', '10.244.0.9'),
    status: { phase: 'Succeeded', podIPs: [{ ip: '10.244.0.9' }] },
  };
  const host = {
    ...pod('shop/agent', {}, 'one', '192.168.0.1'),
    spec: { nodeName: 'one', hostNetwork: true },
  };
  const liar = pod('shop/liar', {}, 'one', '192.168.0.2');
  const pending = pod('shop/new', {}, 'one');
  const compiled = compileObjects([...basicObjects, finished, host, liar, pending]);
  assert.equal(compiled.endpoints.length, 2);
  assert.deepEqual(codes(compiled), ['pod-address Pod/shop/liar']);
});

function aged(raw: Raw, creationTimestamp: string, deletionTimestamp?: string): Raw {
  const metadata = raw['metadata'] as Raw;
  const deleting = deletionTimestamp === undefined ? {} : { deletionTimestamp };
  return { ...raw, metadata: { ...metadata, creationTimestamp, ...deleting } };
}

test('a reused address belongs to the pod that stays, then to the younger one', () => {
  const ip = '10.244.0.9';
  const [early, late] = ['2026-01-01T00:00:00Z', '2026-01-01T00:00:01Z'];
  const older = pod('shop/older', {}, 'one', ip);
  const newer = pod('shop/newer', {}, 'one', ip);
  const rows: [name: string, objects: readonly Raw[], owner: string, flags: number][] = [
    ['younger', [aged(newer, late), aged(older, early)], 'newer', 0],
    ['staying', [aged(newer, late, late), aged(older, early)], 'older', 0],
    ['equal', [aged(newer, early), aged(older, early)], 'older', EndpointFlag.hold],
  ];
  for (const [name, objects, owner, flags] of rows) {
    for (const order of [objects, objects.toReversed()]) {
      const endpoint = endpointAt(compileObjects([...basicObjects, ...order]), ip);
      assert.equal(endpoint.pod.name, owner, name);
      assert.equal(endpoint.flags, flags, name);
      if (flags === EndpointFlag.hold) assert.equal(endpoint.policyId, 0);
    }
  }
});

test('an address that CNI gave on this node belongs to its pod, whatever a status says', () => {
  const ip = '10.244.0.9';
  const own = aged(pod('shop/own', {}, 'one', ip), '2026-01-01T00:00:00Z', '2026-01-02T00:00:00Z');
  const cluster = clusterOf([...basicObjects, own]);
  const [key, given] = [...cluster.pods].find(([, { name }]) => name === 'own') ?? [];
  assert(key !== undefined && given !== undefined);
  const others = {
    'a younger one of this node': pod('evil/here', {}, 'one', ip),
    'one of another node': pod('evil/there', {}, 'two', ip),
    'one of a node that does not exist': pod('evil/nowhere', {}, 'three', ip),
  };
  for (const [name, other] of Object.entries(others)) {
    const claiming = clusterOf([...basicObjects, own, aged(other, '2026-01-01T00:00:01Z')]);
    const pods = new Map(claiming.pods).set(key, { ...given, sandboxId: 's1' });
    const compiled = compile({ ...claiming, pods }, { node, revision: 1 }, StableIds.empty());
    const endpoint = endpointAt(compiled, ip);
    assert.deepEqual([endpoint.pod.name, endpoint.flags], ['own', 0], name);
    assert.equal(endpoint.sandboxId, 's1');
  }
});

test('a pod of an unknown namespace is held when policy reads labels of namespaces', () => {
  const stranger = pod('new/p', { app: 'web' }, 'one', '10.244.0.9');
  const reading = ccnp('p', {
    endpointSelector: { matchLabels: { 'io.cilium.k8s.namespace.labels.team': 'red' } },
    ...toWorld,
  });
  assert.equal(endpointAt(compileObjects([...basicObjects, stranger]), '10.244.0.9').flags, 0);
  const held = compileObjects([...basicObjects, stranger, reading]);
  assert.equal(endpointAt(held, '10.244.0.9').flags, EndpointFlag.hold);
  assert.deepEqual(codes(held), ['namespace-unknown Pod/new/p']);
  const known = compileObjects([
    ...basicObjects,
    stranger,
    reading,
    namespace('new', { team: 'red' }),
  ]);
  assert.equal(endpointAt(known, '10.244.0.9').flags, EndpointFlag.enforceEgress);
});
