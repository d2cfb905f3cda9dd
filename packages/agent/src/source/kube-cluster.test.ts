// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Fields } from '@tandem/core/k8s/shape';
import { formatAddress, parseAddress } from '@tandem/core/net/ip';
import type { Sandbox } from '../gate/sandboxes.ts';
import { KubeCluster } from './kube-cluster.ts';

const local = 'pods of this node';
const remote = 'pods of other nodes';
const policies = 'ciliumnetworkpolicies';

/** Pods that were told gone. */
const gone: string[] = [];

function clusterWith(...sandboxes: readonly Sandbox[]): KubeCluster {
  return new KubeCluster({
    nodeName: 'node-1',
    podGone: (podKey, uids) => gone.push(`${podKey} ${uids.join()}`),
    sandboxOf: (podKey, uids) =>
      sandboxes.find((each) => each.podKey === podKey && uids.includes(each.uid)),
  });
}

function pod(
  name: string,
  changes: { readonly metadata?: object; readonly spec?: object; readonly status?: object } = {},
): Fields {
  return {
    ...{ apiVersion: 'v1', kind: 'Pod' },
    metadata: { name, namespace: 'shop', uid: `uid-${name}`, ...changes.metadata },
    spec: { nodeName: 'node-1', ...changes.spec },
    status: { podIPs: [{ ip: '10.1.0.5' }], ...changes.status },
  };
}

function policy(name: string, spec: object): Fields {
  return {
    ...{ apiVersion: 'cilium.io/v2', kind: 'CiliumNetworkPolicy' },
    metadata: { name, namespace: 'shop' },
    spec,
  };
}

function sandbox(changes: Partial<Sandbox> = {}): Sandbox {
  const address = parseAddress('10.1.0.9');
  assert.ok(address !== null);
  return {
    ...{ podKey: 'shop/web', uid: 'uid-web', containerId: 's1', interfaceName: 'veth1' },
    addresses: [address],
    ...changes,
  };
}

const addressesOf = (cluster: KubeCluster, key: string): readonly string[] =>
  (cluster.state().pods.get(key)?.addresses ?? []).map((each) => formatAddress(each));

test('a pod of this node has the addresses and the interface that CNI gave it', () => {
  const cluster = clusterWith(sandbox());
  const annotations = { 'tandem.dev/interface': 'veth-of-another' };
  cluster.set(local, 'shop/web', pod('web', { status: { podIPs: [] }, metadata: { annotations } }));
  assert.deepEqual(addressesOf(cluster, 'shop/web'), ['10.1.0.9']);
  assert.equal(cluster.state().pods.get('shop/web')?.interfaceName, 'veth1');
  assert.equal(cluster.state().pods.get('shop/web')?.sandboxId, 's1');
});

test('its annotation counts for nothing, nor does the sandbox of a pod before it', () => {
  const cluster = clusterWith(sandbox({ uid: 'uid-of-before' }));
  const annotations = { 'tandem.dev/interface': 'veth-of-another' };
  cluster.set(local, 'shop/web', pod('web', { metadata: { annotations } }));
  assert.deepEqual(addressesOf(cluster, 'shop/web'), ['10.1.0.5']);
  assert.equal(cluster.state().pods.get('shop/web')?.interfaceName, undefined);
  assert.equal(cluster.state().pods.get('shop/web')?.sandboxId, undefined);
});

test('a static pod is told to CNI by the hash of its file', () => {
  const cluster = clusterWith(sandbox({ uid: 'hash' }));
  const annotations = { 'kubernetes.io/config.hash': 'hash' };
  cluster.set(local, 'shop/web', pod('web', { metadata: { annotations } }));
  assert.deepEqual(addressesOf(cluster, 'shop/web'), ['10.1.0.9']);
});

test('a pod of the host’s network has the host’s interface', () => {
  const cluster = clusterWith(sandbox());
  cluster.set(local, 'shop/web', pod('web', { spec: { hostNetwork: true } }));
  assert.deepEqual(addressesOf(cluster, 'shop/web'), ['10.1.0.5']);
});

test('a pod that is scheduled here leaves one list and joins the other, in either order', () => {
  const cluster = clusterWith();
  const pending = pod('web', { spec: { nodeName: '' }, status: { podIPs: [] } });
  cluster.set(remote, 'shop/web', pending);
  cluster.set(local, 'shop/web', pod('web'));
  cluster.delete(remote, 'shop/web');
  assert.deepEqual(addressesOf(cluster, 'shop/web'), ['10.1.0.5']);
});

test('what a new list does not have is gone, of that list alone', () => {
  const cluster = clusterWith();
  cluster.set(local, 'shop/a', pod('a'));
  cluster.set(local, 'shop/b', pod('b'));
  cluster.set(remote, 'shop/c', pod('c'));
  cluster.set(policies, 'shop/p', policy('p', { endpointSelector: {}, egress: [{}] }));
  cluster.retain(local, new Set(['shop/b']));
  assert.deepEqual([...cluster.state().pods.keys()].sort(), ['shop/b', 'shop/c']);
  assert.equal(cluster.state().policies.size, 1);
  cluster.retain(policies, new Set());
  assert.equal(cluster.state().policies.size, 0);
});

test('what cannot be read stays as it was, is named, and is forgotten when it goes', () => {
  const cluster = clusterWith();
  const node = (address: string): Fields => ({
    ...{ apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' } },
    status: { addresses: [{ type: 'InternalIP', address }] },
  });
  cluster.set('nodes', '/n', node('192.0.2.1'));
  cluster.set('nodes', '/n', node('nonsense'));
  const { nodes, diagnostics } = cluster.state();
  assert.equal(formatAddress(nodes.get('/n')?.addresses[0] ?? new Uint8Array(16)), '192.0.2.1');
  assert.match(JSON.stringify(diagnostics), /Node n: status.addresses\[0\].*nonsense/);
  cluster.delete('nodes', '/n');
  assert.deepEqual(cluster.state().diagnostics, []);
});

test('a policy that cannot be read keeps its last good version in force', () => {
  const cluster = clusterWith();
  const ref = 'CiliumNetworkPolicy/shop/p';
  cluster.set(policies, 'shop/p', policy('p', { endpointSelector: {}, egress: [{}] }));
  const [good] = cluster.state().policies.values();
  assert.ok(good?.inForce !== null && good?.invalid === null, ref);
  cluster.set(policies, 'shop/p', policy('p', { endpointSelector: 'all' }));
  const [bad] = cluster.state().policies.values();
  assert.ok(bad?.invalid !== null);
  assert.deepEqual(bad?.inForce, good?.inForce);
  assert.equal(bad?.place, 'CiliumNetworkPolicy shop/p');
});

test('what changes no field that is read is no change', () => {
  const cluster = clusterWith();
  const heartbeat = { conditions: [{ type: 'Ready', lastHeartbeatTime: 'now' }] };
  const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n' } };
  assert.ok(cluster.set('nodes', '/n', node));
  assert.ok(!cluster.set('nodes', '/n', { ...node, status: heartbeat }));
  for (const list of [local, remote] as const) {
    const version = (resourceVersion: string): Fields =>
      pod('a', { metadata: { resourceVersion } });
    assert.ok(cluster.set(list, 'shop/a', version('1')), list);
    assert.ok(!cluster.set(list, 'shop/a', version('2')), list);
    assert.ok(
      cluster.set(list, 'shop/a', pod('a', { metadata: { labels: { app: 'web' } } })),
      list,
    );
    assert.ok(cluster.delete(list, 'shop/a'), list);
    assert.ok(!cluster.delete(list, 'shop/a'), list);
  }
  const body = policy('p', { endpointSelector: {} });
  assert.ok(cluster.set(policies, 'shop/p', body));
  assert.ok(!cluster.set(policies, 'shop/p', { ...body, status: { conditions: [] } }));
  assert.ok(!cluster.retain(policies, new Set(['shop/p'])));
  assert.ok(cluster.retain(policies, new Set()));
});

test('a NetworkPolicy is a policy beside a CiliumNetworkPolicy of its name', () => {
  const cluster = clusterWith();
  const raw = {
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
    metadata: { name: 'p', namespace: 'shop' },
    spec: { podSelector: {}, policyTypes: ['Egress'] },
  };
  assert.ok(cluster.set('networkpolicies', 'shop/p', raw));
  cluster.set(policies, 'shop/p', policy('p', { endpointSelector: {}, egress: [{}] }));
  const built = [...cluster.state().policies.values()];
  assert.deepEqual(
    built.map(({ inForce, invalid }) => [inForce !== null, invalid]),
    [
      [true, null],
      [true, null],
    ],
  );
  assert.ok(cluster.delete('networkpolicies', 'shop/p'));
  assert.equal(cluster.state().policies.size, 1);
});

test('a ClusterNetworkPolicy keeps its tier and its rules, and another version of the API is no news', () => {
  const cluster = clusterWith();
  const raw = (version: string, priority: number): Fields => ({
    ...{ apiVersion: `policy.networking.k8s.io/${version}`, kind: 'ClusterNetworkPolicy' },
    metadata: { name: 'p' },
    spec: {
      ...{ tier: 'Baseline', priority, subject: { namespaces: {} } },
      egress: [{ action: 'Deny', to: [{ namespaces: {} }] }],
    },
  });
  assert.ok(cluster.set('clusternetworkpolicies', '/p', raw('v1alpha2', 3)));
  assert.ok(!cluster.set('clusternetworkpolicies', '/p', raw('v1beta1', 3)));
  assert.ok(cluster.set('clusternetworkpolicies', '/p', raw('v1beta1', 4)));
  const state = cluster.state().policies.get('ClusterNetworkPolicy/p');
  const [spec] = state?.inForce?.specs ?? [];
  assert.deepEqual(spec?.tier, { name: 'baseline', priority: 4 });
  assert.deepEqual(
    spec?.rules.map(({ action }) => action),
    ['deny'],
  );
  // An invalid version: the last valid one stays.
  assert.ok(cluster.set('clusternetworkpolicies', '/p', raw('v1beta1', -1)));
  const changed = cluster.state().policies.get('ClusterNetworkPolicy/p');
  assert.ok(changed?.invalid !== null && changed?.inForce === state?.inForce);
  assert.ok(cluster.delete('clusternetworkpolicies', '/p'));
  assert.equal(cluster.state().policies.size, 0);
});

test('a policy of a kind that is not enforced is named', () => {
  const cluster = clusterWith();
  const raw = {
    apiVersion: 'policy.test/v1',
    kind: 'OtherNetworkPolicy',
    metadata: { name: 'p', namespace: 'shop' },
  };
  assert.ok(cluster.set('networkpolicies', 'shop/p', raw));
  assert.ok(!cluster.set('networkpolicies', 'shop/p', raw));
  assert.match(
    JSON.stringify(cluster.state().diagnostics),
    /OtherNetworkPolicy shop\/p.*not enforced/,
  );
  assert.ok(cluster.retain('networkpolicies', new Set()));
  assert.deepEqual(cluster.state().diagnostics, []);
});

test('pods of other nodes share their labels, as long as one has them', () => {
  const cluster = clusterWith();
  const labels = { app: 'web', tier: 'front' };
  cluster.set(remote, 'shop/a', pod('a', { metadata: { labels } }));
  cluster.set(remote, 'shop/b', pod('b', { metadata: { labels: { ...labels } } }));
  const { pods } = cluster.state();
  assert.ok(pods.get('shop/a')?.labels === pods.get('shop/b')?.labels);
  cluster.set(remote, 'shop/a', pod('a', { metadata: { labels: { app: 'db' } } }));
  assert.deepEqual(cluster.state().pods.get('shop/b')?.labels, new Map(Object.entries(labels)));
  assert.equal(cluster.labelSets, 2);
  cluster.delete(remote, 'shop/b');
  cluster.delete(remote, 'shop/a');
  assert.equal(cluster.labelSets, 0);
});

test('a state that was given does not change any more', () => {
  const cluster = clusterWith();
  cluster.set(local, 'shop/a', pod('a'));
  const before = cluster.state();
  cluster.delete(local, 'shop/a');
  assert.equal(before.pods.size, 1);
});

test('the end of a pod’s object is told with the uids that CNI knows it by', () => {
  const cluster = clusterWith();
  const annotations = { 'kubernetes.io/config.hash': 'hash' };
  cluster.set(local, 'shop/web', pod('web', { metadata: { annotations } }));
  cluster.set(remote, 'shop/far', pod('far'));
  gone.length = 0;
  cluster.delete(remote, 'shop/far');
  cluster.retain(local, new Set());
  assert.deepEqual(gone, ['shop/web uid-web,hash']);
});

test('a pod of the same name says that the former one is gone, whose deletion a list that is read again does not have', () => {
  const cluster = clusterWith();
  const annotations = { 'kubernetes.io/config.hash': 'hash' };
  gone.length = 0;
  cluster.set(local, 'shop/web', pod('web'));
  cluster.set(local, 'shop/web', pod('web', { status: { podIPs: [] } }));
  assert.deepEqual(gone, []);
  cluster.set(local, 'shop/web', pod('web', { metadata: { uid: 'next', annotations } }));
  assert.deepEqual(gone, ['shop/web uid-web']);
  // The mirror of a static pod, which goes on.
  cluster.set(local, 'shop/web', pod('web', { metadata: { uid: 'last', annotations } }));
  assert.deepEqual(gone.slice(1), ['shop/web next']);
});
