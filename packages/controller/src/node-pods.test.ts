// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Fields } from '@tandem/core/k8s/shape';
import { NodePods } from './node-pods.ts';

function pod(daemonSet: string, isReady: boolean, metadata: Fields = {}, node = 'n1'): Fields {
  const owner = { apiVersion: 'apps/v1', kind: 'DaemonSet', name: daemonSet, controller: true };
  return {
    metadata: { name: 'p', namespace: 'tandem', ownerReferences: [owner], ...metadata },
    spec: { nodeName: node },
    status: { conditions: [{ type: 'Ready', status: isReady ? 'True' : 'False' }] },
  };
}

function nodePods(): { readonly pods: NodePods; readonly changed: string[] } {
  const changed: string[] = [];
  const daemonSets = { agents: 'agent', proxies: 'dns-proxy' } as const;
  const pods = new NodePods(
    daemonSets,
    (node) => changed.push(node),
    () => undefined,
  );
  return { pods, changed };
}

test('a node is ready when a pod of each DaemonSet is', () => {
  const { pods, changed } = nodePods();
  pods.set('t/a', pod('agents', true));
  assert.equal(pods.isReady('n1'), false);
  pods.set('t/p', pod('proxies', false));
  assert.equal(pods.isReady('n1'), false);
  pods.set('t/p', pod('proxies', true));
  assert.equal(pods.isReady('n1'), true);
  assert.equal(pods.isReady('n2'), false);
  assert.ok(changed.every((node) => node === 'n1') && changed.length >= 3);
  // The next one of an upgrade stands by: the node has one that is ready.
  pods.set('t/a2', pod('agents', false));
  assert.equal(pods.isReady('n1'), true);
  pods.delete('t/a');
  assert.equal(pods.isReady('n1'), false);
  assert.equal(pods.isAgentUnready('n1'), true);
  pods.retain(new Set());
  assert.equal(pods.isAgentUnready('n1'), false, 'without an agent nothing is said of it');
});

test('labels and names make no pod ours, its owner does', () => {
  const labels = { 'app.kubernetes.io/name': 'tandem-agent' };
  const owner = { apiVersion: 'apps/v1', kind: 'DaemonSet', name: 'agents', controller: true };
  for (const ownerReferences of [
    ...[undefined, null, [], {}, [null], 'agents'],
    [{ ...owner, controller: false }],
    [{ ...owner, kind: 'ReplicaSet' }],
    [{ ...owner, apiVersion: 'evil/v1' }],
    [{ ...owner, name: 'toString' }],
    [{ ...owner, name: '__proto__' }],
  ]) {
    const { pods } = nodePods();
    pods.set('t/a', pod('agents', true, { labels, ownerReferences }));
    pods.set('t/p', pod('proxies', true));
    assert.equal(pods.isReady('n1'), false, JSON.stringify(ownerReferences));
  }
});

test('a pod that goes, has no node, or has no readable status is not ready', () => {
  const { pods } = nodePods();
  pods.set('t/p', pod('proxies', true));
  for (const each of [
    pod('agents', true, { deletionTimestamp: '2026-01-01T00:00:00Z' }),
    pod('agents', true, {}, ''),
    { ...pod('agents', true), status: null },
    { ...pod('agents', true), status: { conditions: 'Ready' } },
    { ...pod('agents', true), spec: [] },
  ]) {
    pods.set('t/a', each);
    assert.equal(pods.isReady('n1'), false, JSON.stringify(each));
  }
});
