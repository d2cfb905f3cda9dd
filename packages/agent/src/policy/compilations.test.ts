// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyId } from '@tandem/core/ids';
import type { ClusterState } from '@tandem/core/policy/model/cluster-state';
import type { Compiled } from '@tandem/core/policy/model/desired';
import { StableIds } from '@tandem/core/policy/model/stable-ids';
import { bareNode } from '../../test/node-fixture.ts';
import { ClusterBuilder } from './cluster-builder.ts';
import { Compilations } from './compilations.ts';

const pod = {
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { namespace: 'shop', name: 'web', uid: 'u', labels: { app: 'web' } },
  spec: { nodeName: 'one' },
  status: { podIPs: [{ ip: '10.1.0.2' }] },
};

function clusterWith(name: string): ClusterState {
  const policy = {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { namespace: 'shop', name: 'p' },
    spec: { endpointSelector: {}, egress: [{ toFQDNs: [{ matchName: name }] }] },
  };
  const objects = [pod, policy].map((raw, i) => ({
    file: 'f.yaml',
    document: i + 1,
    line: 1,
    raw,
    damage: null,
  }));
  return new ClusterBuilder().build({ objects, problems: [] });
}

function compiled(compilations: Compilations, name: string): Compiled {
  const result = compilations.compile(clusterWith(name), bareNode, 1);
  assert.ok(result !== null);
  return result;
}

const names = ({ members }: Compiled): readonly string[] =>
  members.patterns.map(({ text }) => text);
const ids = ({ policies }: Compiled): ReadonlySet<PolicyId> => new Set(policies.keys());

test('a compilation that failed before it reached the kernel takes no part in the next one', () => {
  const compilations = new Compilations(StableIds.empty(), null);
  const first = compiled(compilations, 'first.test');
  compilations.begin(first);
  compilations.succeeded(first);
  assert.deepEqual(names(compiled(compilations, 'bad.test')), ['bad.test.', 'first.test.']);
  compilations.failed(ids(first));
  assert.deepEqual(names(compiled(compilations, 'second.test')), ['first.test.', 'second.test.']);
});

test('one that endpoints have in part does, until another one is applied whole', () => {
  const compilations = new Compilations(StableIds.empty(), null);
  const partly = compiled(compilations, 'partly.test');
  compilations.begin(partly);
  compilations.failed(ids(partly));
  assert.deepEqual([...compilations.retained.keys()], [...partly.policies.keys()]);
  const next = compiled(compilations, 'next.test');
  assert.deepEqual(names(next), ['next.test.', 'partly.test.']);
  compilations.begin(next);
  compilations.failed(null);
  assert.equal(
    compilations.retained.size,
    2,
    'nothing is known of the kernel, so both may be there',
  );
  compilations.succeeded(next);
  assert.deepEqual([...compilations.retained.keys()], [...next.policies.keys()]);
  compilations.failed(ids(partly));
  assert.deepEqual(names(compiled(compilations, 'next.test')), ['next.test.']);
});

test('what failed is compiled again though nothing changed, what is applied is not', () => {
  const compilations = new Compilations(StableIds.empty(), null);
  const cluster = clusterWith('a.test');
  const first = compilations.compile(cluster, bareNode, 1);
  assert.ok(first !== null);
  compilations.begin(first);
  compilations.succeeded(first);
  assert.equal(compilations.compile(cluster, bareNode, 2), first);
  const other = clusterWith('b.test');
  const second = compilations.compile(other, bareNode, 2);
  assert.notEqual(second, first);
  compilations.failed(ids(first));
  assert.notEqual(compilations.compile(other, bareNode, 2), first);
});
