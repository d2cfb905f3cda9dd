// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { policyDiagnostics } from '@tandem/core/policy/compile/compile-diagnostics';
import type { PolicyState } from '@tandem/core/policy/model/cluster-state';
import { selectorKey } from '@tandem/core/policy/model/selector';
import type { SourceProblem } from '../source/directory.ts';
import { readDocuments, type SourceObject } from '../source/read-documents.ts';
import { ClusterBuilder } from './cluster-builder.ts';

const objectsOf = (...raws: readonly object[]): SourceObject[] =>
  raws.map((raw, i) => ({ file: 'f.yaml', document: i + 1, line: 10 * i + 1, raw, damage: null }));

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
  assert.match(said, /^object-invalid .*f\.yaml:1, document 1\): metadata\.name/m);
  assert.match(said, /^object-invalid .*f\.yaml:11, document 2\): spec/m);
  assert.ok(diagnostics.every(({ severity }) => severity === 'error'));
});

test('kinds that are not read: policies are errors, the rest warnings', () => {
  const { diagnostics } = build(
    new ClusterBuilder(),
    objectsOf(
      {
        apiVersion: 'crd.antrea.io/v1beta1',
        kind: 'NetworkPolicy',
        metadata: { namespace: 'a', name: 'np' },
        spec: { appliedTo: [{ podSelector: {} }] },
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

const said = (state: ReturnType<typeof build>): string =>
  [...state.diagnostics, ...[...state.policies.values()].flatMap(policyDiagnostics)]
    .map(({ severity, code, subject, message }) => `${severity} ${code} ${subject}: ${message}`)
    .join('\n');
const appsHeld = (state: PolicyState): string =>
  (state.invalid?.hold ?? []).map(({ subject }) => selectorKey(subject)).join(' | ');

test('a NetworkPolicy of a misspelt group is named, and its pods are held', () => {
  const metadata = { namespace: 'shop', name: 'np' };
  const spec = { podSelector: { matchLabels: { app: 'web' } } };
  const misspelt = { apiVersion: 'network.k8s.io/v1', kind: 'NetworkPolicy', metadata, spec };
  const state = build(new ClusterBuilder(), objectsOf(misspelt));
  assert.match(said(state), /^error policy-invalid NetworkPolicy\/shop\/np.*apiVersion/m);
  assert.match([...state.policies.values()].map(appsHeld).join(), /app In \["web"\]/);
});

test('a fault beside the body: the policy is named with file and line, and its pods are held', () => {
  const own = 'k8s:io.kubernetes.pod.namespace In ["shop"]';
  const app = 'k8s:app In ["web"]';
  const metadata = { namespace: 'shop' };
  const rows: readonly (readonly [what: string, raw: object, issue: RegExp, held: string])[] = [
    ['no name', { ...good, metadata }, /metadata\.name is missing.*\(f\.yaml:1\)/, `${app},${own}`],
    [
      'namespace',
      { ...good, metadata: { name: 'p', namespace: 1 } },
      /metadata\.namespace.*quotes/,
      app,
    ],
    ['no metadata', { ...good, metadata: [] }, /metadata is a list/, app],
    [
      'a misspelt namespace',
      { ...good, metadata: { name: 'p', namspace: 'shop' } },
      /metadata\.namspace is no known field here: give name and namespace/,
      app,
    ],
    [
      'a field of metadata too many',
      { ...good, metadata: { name: 'p', namespace: 'shop', lables: {} } },
      /metadata\.lables is no known field/,
      `${app},${own}`,
    ],
    [
      'a section beside spec',
      { ...good, egressDeny: [{}] },
      /egressDeny stands beside/,
      `${app},${own}`,
    ],
    ['version', { ...good, apiVersion: 'cilium.io/v1' }, /must be cilium\.io\/v2/, `${app},${own}`],
  ];
  for (const [what, raw, issue, held] of rows) {
    const state = build(new ClusterBuilder(), objectsOf(raw));
    const found = only(state.policies);
    assert.equal(found.inForce, null, what);
    assert.equal(appsHeld(found), held, what);
    assert.match(said(state), issue, what);
    assert.match(said(state), /denied everything/, what);
  }
  for (const labels of [null, { version: 1 }]) {
    const state = build(
      new ClusterBuilder(),
      objectsOf({ ...good, metadata: { ...metadata, name: 'p', labels } }),
    );
    assert.equal(only(state.policies).invalid, null);
    assert.equal(said(state), '');
  }
});

test('a policy whose document is no YAML: its pods are held, as far as the rest of it tells', () => {
  const text = (...lines: readonly string[]): string =>
    ['apiVersion: cilium.io/v2', 'kind: CiliumNetworkPolicy', ...lines].join('\n');
  const meta = 'metadata: {name: p, namespace: shop}';
  const web = 'spec: {endpointSelector: {matchLabels: {app: web}}, ingress: [{}]';
  const own = 'k8s:io.kubernetes.pod.namespace In ["shop"]';
  const rows: readonly (readonly [what: string, text: string, held: string])[] = [
    ['a section twice', text(meta, `${web}, ingress: [{}]}`), `k8s:app In ["web"],${own}`],
    [
      'a label twice',
      text(meta, web.replace('web', 'web, app: db}').slice(0, -1)),
      `k8s:app Exists [],${own}`,
    ],
    ['spec twice', text(meta, `${web}}`, `${web}}`), own],
    ['namespace lost', text('metadata: {name: p}', `${web}, ingress: [{}]}`), 'k8s:app In ["web"]'],
    [
      'a tab',
      text(meta, 'spec:', '\tendpointSelector: {matchLabels: {app: web}}', '  ingress: [{}]'),
      `k8s:app In ["web"],${own}`,
    ],
    ['an anchor that is missing', text(meta, 'spec: {endpointSelector: *web, ingress: [{}]}'), own],
  ];
  for (const [what, yaml, held] of rows) {
    const intact = JSON.stringify(policy('good', { endpointSelector: {}, egress: [{}] }));
    const objects = readDocuments('f.yaml', `${yaml}\n---\n${intact}\n`);
    const { policies } = build(new ClusterBuilder(), objects);
    const [broken, beside] = [...policies.values()];
    assert.ok(broken !== undefined && beside !== undefined && policies.size === 2, what);
    assert.equal(broken.inForce, null, what);
    assert.equal(appsHeld(broken), held, what);
    assert.equal(broken.place, 'f.yaml:1', what);
    assert.ok(
      broken.invalid?.hold.every(
        ({ denyIngress, denyEgress, rules }) => denyIngress && denyEgress && rules.length === 2,
      ),
      what,
    );
    assert.equal(beside.invalid, null, what);
  }
  const everywhere = `${text(`${web}, ingress: [{}]}`).replace('NetworkPolicy', 'ClusterwideNetworkPolicy').replace('matchLabels: {app: web}', '')}\nmetadata: {name: p}`;
  const found = only(build(new ClusterBuilder(), readDocuments('f.yaml', everywhere)).policies);
  assert.equal(found.invalid?.holdScope, 'unknown', 'a selector may have been lost: not every pod');
  const last = new ClusterBuilder();
  build(last, objectsOf(good));
  const spoiled = readDocuments('f.yaml', text(meta, `${web}, ingress: [{}]}`));
  assert.ok(only(build(last, spoiled).policies).inForce !== null, 'the last good version');
});

test('a policy that loses its name, its kind or its namespace stays in force as it was', () => {
  const spoiled = [
    { ...good, metadata: { namespace: 'shop' } },
    { ...good, metadata: { name: 'p', namespace: 5 } },
    { ...good, kind: undefined },
    { ...good, egress: [{}] },
  ];
  for (const raw of spoiled) {
    const builder = new ClusterBuilder();
    const first = only(build(builder, objectsOf(good)).policies);
    for (let i = 0; i < 2; i++) {
      const state = build(builder, objectsOf(raw));
      assert.equal(only(state.policies).inForce, first.inForce);
      assert.match(said(state), /last valid version stays in force/);
    }
    assert.equal(build(builder, objectsOf(good, raw)).policies.size, 2 - Number('egress' in raw));
  }
});

test('of two policies of one name none wins: pods of both are held until one is gone', () => {
  const builder = new ClusterBuilder();
  const other = policy('p', { endpointSelector: { matchLabels: { app: 'db' } }, ingress: [{}] });
  const before = only(build(builder, objectsOf(good)).policies);
  for (const pair of [
    [good, other],
    [other, good],
  ]) {
    const state = build(builder, objectsOf(...pair));
    const held = only(state.policies);
    assert.equal(held.inForce, null);
    assert.match(appsHeld(held), /app In \["web"\]/);
    assert.match(appsHeld(held), /app In \["db"\]/);
    assert.match(
      said(state),
      /CiliumNetworkPolicy\/shop\/p: metadata.name is defined in f\.yaml:1 and f\.yaml:11/,
    );
    assert.match(said(state), /remove all but one/);
  }
  const after = only(build(builder, objectsOf(good)).policies);
  assert.deepEqual(after.inForce, before.inForce);
  const copies = build(builder, objectsOf(good, { ...good }));
  assert.equal(only(copies.policies).invalid, null);
  assert.match(
    said(copies),
    /^warning duplicate CiliumNetworkPolicy\/shop\/p: is defined in .* same contents/,
  );
});

test('of two other objects of one name none wins', () => {
  const meta = { namespace: 'shop', name: 'x', uid: 'u' };
  const podOf = (labels: object): object => ({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { ...meta, labels },
    spec: {},
    status: { podIP: '10.1.0.2' },
  });
  const pods = build(new ClusterBuilder(), objectsOf(podOf({ app: 'a' }), podOf({ app: 'b' })));
  assert.equal(pods.pods.size, 2, 'so that compilation holds the pod');
  assert.match(
    said(pods),
    /^error duplicate Pod\/shop\/x: is defined in f\.yaml:1 and f\.yaml:11 with different/,
  );
  const namespaceOf = (team: string): object => ({
    apiVersion: 'v1',
    kind: 'Namespace',
    metadata: { name: 'shop', labels: { team } },
  });
  const namespaces = build(new ClusterBuilder(), objectsOf(namespaceOf('a'), namespaceOf('b')));
  assert.equal(namespaces.namespaces.size, 0, 'its labels are not known');
  const same = build(new ClusterBuilder(), objectsOf(namespaceOf('a'), namespaceOf('a')));
  assert.equal(same.namespaces.size, 1);
  assert.match(said(same), /^warning duplicate Namespace\/shop/);
});

test('an object that the parser fails on is named, its pods are held, and the others are read', () => {
  const spec = { endpointSelector: selects, egress: [{}] };
  const trap = Object.defineProperty({ ...spec }, 'ingress', {
    enumerable: true,
    get: () => [new Proxy({}, { ownKeys: () => assert.fail('a bug') })],
  });
  const state = build(new ClusterBuilder(), objectsOf(policy('trap', trap), good));
  assert.equal(state.policies.get('CiliumNetworkPolicy/shop/p')?.invalid, null);
  const trapped = state.policies.get('CiliumNetworkPolicy/shop/trap');
  assert.ok(trapped?.invalid !== undefined && trapped.invalid !== null);
  assert.match(appsHeld(trapped), /app In \["web"\]/);
  assert.match(
    said(state),
    /policy-invalid CiliumNetworkPolicy\/shop\/trap: .*a bug of this version \(a bug\)/,
  );
});

test('a Node or Service with one bad address is known by its others from the start', () => {
  const state = build(
    new ClusterBuilder(),
    objectsOf(
      {
        apiVersion: 'v1',
        kind: 'Node',
        metadata: { name: 'one' },
        spec: { podCIDRs: ['10.1.0.0/24', 'x'] },
        status: { addresses: [{ type: 'InternalIP', address: '192.168.0.1' }] },
      },
      {
        apiVersion: 'v1',
        kind: 'Service',
        metadata: { namespace: 'shop', name: 's' },
        spec: { clusterIPs: ['10.96.0.7', 'y'], ports: [] },
      },
    ),
  );
  assert.equal(state.nodes.get('/one')?.addresses.length, 1);
  assert.equal(state.nodes.get('/one')?.podCidrs.length, 1);
  assert.equal(state.services.get('shop/s')?.clusterIps.length, 1);
  assert.equal(state.diagnostics.filter(({ code }) => code === 'object-invalid').length, 2);
});

test('a fault in metadata takes no Pod, Node or Service away: what can be read of it counts', () => {
  const metadata = { namespace: 'shop', name: 'x', labels: { version: 1 } };
  const rows: readonly object[] = [
    { apiVersion: 'v1', kind: 'Pod', metadata, spec: {}, status: { podIP: '10.1.0.2' } },
    {
      apiVersion: 'v1',
      kind: 'Node',
      metadata,
      status: { addresses: [{ type: 'InternalIP', address: '192.168.0.1' }] },
    },
    { apiVersion: 'v1', kind: 'Service', metadata, spec: { clusterIP: '10.96.0.7' } },
  ];
  const state = build(new ClusterBuilder(), objectsOf(...rows));
  assert.deepEqual(
    [...state.pods.values()].map(({ addresses, isPartial }) => [addresses.length, isPartial]),
    [[1, true]],
  );
  assert.deepEqual(
    [...state.nodes.values()].map(({ addresses }) => addresses.length),
    [1],
  );
  assert.deepEqual(
    [...state.services.values()].map(({ clusterIps }) => clusterIps.length),
    [1],
  );
  assert.equal(state.diagnostics.filter(({ code }) => code === 'object-invalid').length, 3);
});
