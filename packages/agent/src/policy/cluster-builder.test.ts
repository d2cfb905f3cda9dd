// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyState } from '@tandem/core/policy/cluster-state';
import type { SourceObject, SourceProblem } from '../source/directory.ts';
import { ClusterBuilder } from './cluster-builder.ts';

const objectsOf = (...raws: readonly object[]): SourceObject[] =>
  raws.map((raw, i) => ({ file: 'f.yaml', document: i + 1, raw }));

const policy = (name: string, spec: object): object => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { namespace: 'shop', name },
  spec,
});
const selects = { matchLabels: { app: 'web' } };
const good = policy('p', { endpointSelector: selects, egress: [{ toCIDR: ['192.0.2.0/24'] }] });
const bad = policy('p', { endpointSelector: selects, egress: [{ toServices: [{}] }] });

function build(
  builder: ClusterBuilder,
  objects: readonly SourceObject[],
  problems: readonly SourceProblem[] = [],
): ReturnType<ClusterBuilder['build']> {
  return builder.build({ objects, problems });
}

function only(policies: ReadonlyMap<string, PolicyState>): PolicyState {
  const [state, ...others] = policies.values();
  assert.ok(state !== undefined && others.length === 0);
  return state;
}

test('objects go where they belong, by their keys', () => {
  const meta = { namespace: 'shop', name: 'x' };
  const state = build(
    new ClusterBuilder(),
    objectsOf(
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'shop' } },
      { apiVersion: 'v1', kind: 'Node', metadata: { name: 'one' }, spec: {}, status: {} },
      { apiVersion: 'v1', kind: 'Pod', metadata: { ...meta, uid: 'u' }, spec: {}, status: {} },
      { apiVersion: 'v1', kind: 'Service', metadata: meta, spec: { ports: [] } },
      good,
    ),
  );
  assert.deepEqual([...state.namespaces.keys()], ['/shop']);
  assert.deepEqual([...state.nodes.keys()], ['/one']);
  assert.deepEqual([...state.pods.keys()], ['shop/x']);
  assert.deepEqual([...state.services.keys()], ['shop/x']);
  assert.equal(only(state.policies).invalid, null);
  assert.deepEqual(state.diagnostics, []);
});

test('the last good version of a policy stays until it is mended or removed', () => {
  const builder = new ClusterBuilder();
  const first = only(build(builder, objectsOf(good)).policies);
  assert.ok(first.inForce !== null);
  for (let i = 0; i < 3; i++) {
    const broken = only(build(builder, objectsOf(bad)).policies);
    assert.equal(broken.inForce, first.inForce, 'also a second and third time');
    assert.match(JSON.stringify(broken.invalid?.errors), /toServices/);
  }
  assert.equal(build(builder, []).policies.size, 0, 'removed');
  const again = only(build(builder, objectsOf(bad)).policies);
  assert.equal(again.inForce, null, 'what was removed is not remembered');
  assert.ok(again.invalid !== null && again.invalid.hold.length > 0, 'its pods are held');
  const mended = only(build(builder, objectsOf(good)).policies);
  assert.ok(mended.inForce !== null && mended.invalid === null);
});

test('what cannot be read is named with its file, document and field', () => {
  const { diagnostics, pods } = build(
    new ClusterBuilder(),
    objectsOf(
      { kind: 'Pod', apiVersion: 'v1', metadata: { name: 5 } },
      { apiVersion: 'v1', kind: 'Pod', metadata: { namespace: 'a', name: 'b', uid: 'u' }, spec: 7 },
    ),
    [{ file: 'g.yaml', message: 'not YAML (the last good content stays in force)' }],
  );
  assert.equal(pods.size, 0);
  const said = diagnostics.map(({ code, subject }) => `${code} ${subject}`).join('\n');
  assert.match(said, /^file-unreadable g\.yaml$/m);
  assert.match(said, /^object-invalid .*f\.yaml, document 1\): metadata\.name/m);
  assert.match(said, /^object-invalid .*f\.yaml, document 2\): spec/m);
  assert.ok(diagnostics.every(({ severity }) => severity === 'error'));
});

test('kinds that are not read: policies are errors, the rest warnings', () => {
  const { diagnostics } = build(
    new ClusterBuilder(),
    objectsOf(
      {
        apiVersion: 'networking.k8s.io/v1',
        kind: 'NetworkPolicy',
        metadata: { namespace: 'a', name: 'np' },
        spec: { podSelector: {} },
      },
      { apiVersion: 'apps/v1', kind: 'Deployment', metadata: { namespace: 'a', name: 'd' } },
    ),
  );
  assert.deepEqual(
    diagnostics.map(({ code, severity }) => `${code} ${severity}`),
    ['kind-unsupported error', 'kind-unsupported warning'],
  );
  assert.match(diagnostics[0]?.message ?? '', /not enforced/);
});
