// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseObject } from '../../k8s/parse-object.ts';
import { identityKey, isIdentityLabel, podIdentity, reservedIdentity } from './labels.ts';
import { type LabelRequirement, makeSelector, selectorKey, selectorMatches } from './selector.ts';

test('the default filter of identity labels', () => {
  const rows: [name: string, want: boolean][] = [
    ['app', true],
    ['app.kubernetes.io/name', true],
    ['io.kubernetes.pod.namespace', true],
    ['io.cilium.k8s.namespace.labels.team', true],
    ['io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name', true],
    ['io.cilium.k8s.policy.serviceaccount', true],
    ['io.cilium.k8s.policy.cluster', true],
    ['batch.kubernetes.io/job-name', true],
    ['io.kubernetes.container.name', false],
    ['kubernetes.io/os', false],
    ['k8s.io/cluster', false],
    ['statefulset.kubernetes.io/pod-name', false],
    ['apps.kubernetes.io/pod-index', false],
    ['batch.kubernetes.io/job-completion-index', false],
    ['beta.kubernetes.io/arch', false],
    ['failure-domain.beta.kubernetes.io/zone', false],
    ['pod-template-generation', false],
    ['pod-template-hash', false],
    ['controller-revision-hash', false],
    ['annotation.foo', false],
    ['etcd_node', false],
    ['controller-uid', false],
    ['batch.kubernetes.io/controller-uid', false],
    ['topology.kubernetes.io/zone', false],
  ];
  for (const [name, want] of rows) assert.equal(isIdentityLabel(name), want, name);
});

function podOf(labels: Readonly<Record<string, string>>) {
  const parsed = parseObject({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace: 'shop', name: 'web', labels },
    spec: { serviceAccountName: 'runner' },
  });
  assert(parsed.ok && parsed.value.kind === 'Pod');
  return parsed.value;
}

function namespaceOf(labels: Readonly<Record<string, string>>) {
  const metadata = { name: 'shop', labels };
  const parsed = parseObject({ apiVersion: 'v1', kind: 'Namespace', metadata });
  assert(parsed.ok && parsed.value.kind === 'Namespace');
  return parsed.value;
}

test('a pod cannot give itself what the cluster says about it', () => {
  const forged = {
    app: 'web',
    'pod-template-hash': 'x',
    'io.kubernetes.pod.namespace': 'kube-system',
    'io.cilium.k8s.policy.serviceaccount': 'admin',
    'io.cilium.k8s.policy.cluster': 'other',
    'io.cilium.k8s.namespace.labels.team': 'root',
    'io.cilium.k8s.anything': 'x',
  };
  const namespace = namespaceOf({ tier: 'gold', 'kubernetes.io/metadata.name': 'forged' });
  const { labels, reserved } = podIdentity(podOf(forged), namespace, 'default');
  assert.deepEqual(Object.fromEntries([...labels].sort()), {
    app: 'web',
    'io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name': 'shop',
    'io.cilium.k8s.namespace.labels.tier': 'gold',
    'io.cilium.k8s.policy.cluster': 'default',
    'io.cilium.k8s.policy.serviceaccount': 'runner',
    'io.kubernetes.pod.namespace': 'shop',
  });
  assert.equal(reserved.size, 0);
});

test('identityKey tells identities apart, not the order of labels', () => {
  const key = (labels: Readonly<Record<string, string>>): string =>
    identityKey(podIdentity(podOf(labels), undefined, 'default'));
  assert.equal(key({ a: '1', b: '2' }), key({ b: '2', a: '1' }));
  assert.notEqual(key({ a: '1' }), key({ a: '2' }));
  assert.notEqual(
    identityKey(reservedIdentity(['host'])),
    identityKey(reservedIdentity(['world'])),
  );
});

test('operators', () => {
  const identity = podIdentity(podOf({ app: 'web', empty: '' }), undefined, 'default');
  const host = reservedIdentity(['host']);
  const rows: [text: string, want: boolean, onHost: boolean][] = [
    ['k8s:app In web,db', true, false],
    ['k8s:app In db', false, false],
    ['k8s:app NotIn db', true, true],
    ['k8s:app NotIn web', false, true],
    ['k8s:none NotIn web', true, true],
    ['k8s:app Exists', true, false],
    ['k8s:none Exists', false, false],
    ['k8s:app DoesNotExist', false, true],
    ['k8s:empty Exists', true, false],
    ['any:app In web', true, false],
    ['any:host Exists', false, true],
    ['k8s:host Exists', false, false],
    ['reserved:host Exists', false, true],
    ['reserved:app Exists', false, false],
  ];
  for (const [text, want, onHost] of rows) {
    const match = /^(\w+):(\w+) (\w+) ?(.*)$/.exec(text);
    assert(match !== null);
    const [, source, name, operator, values] = match;
    const requirement = {
      source,
      name,
      operator,
      values: values === '' ? [] : values?.split(','),
    } as LabelRequirement;
    const selector = makeSelector([requirement]);
    assert.equal(selectorMatches(selector, identity), want, text);
    assert.equal(selectorMatches(selector, host), onHost, `${text} on the host`);
  }
  assert.equal(selectorMatches(makeSelector([]), identity), true);
});

test('selectors have one canonical form', () => {
  const web: LabelRequirement = {
    source: 'k8s',
    name: 'app',
    operator: 'In',
    values: ['b', 'a', 'b'],
  };
  const tier: LabelRequirement = { source: 'k8s', name: 'tier', operator: 'Exists', values: [] };
  const key = 'k8s:app In ["a","b"],k8s:tier Exists []';
  assert.equal(selectorKey(makeSelector([web, tier])), key);
  assert.equal(selectorKey(makeSelector([tier, web, tier])), key);
});
