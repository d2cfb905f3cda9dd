// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** ClusterNetworkPolicies in a cluster: whom they select, named ports, warnings, and what holds in place of an invalid one. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  basicObjects,
  compileObjects,
  endpointAt,
  namespace,
  pod,
  type Raw,
} from '../../../test/cluster-fixture.ts';
import { Kernel } from '../../../test/kernel-fixture.ts';
import type { Packet } from '../../../test/random-policy.ts';
import type { Compiled } from '../model/desired.ts';
import { EndpointFlag } from '../model/kernel-numbers.ts';

const all = { namespaces: {} };

function tiered(name: string, spec: Raw): Raw {
  const kind = 'ClusterNetworkPolicy';
  const apiVersion = 'policy.networking.k8s.io/v1beta1';
  const usual = { tier: 'Admin', priority: 10, subject: all };
  return { apiVersion, kind, metadata: { name }, spec: { ...usual, ...spec } };
}

const egress = (action: string, peer: Raw, more: Raw = {}): Raw => ({
  egress: [{ action, to: [peer], ...more }],
});
const isEnforced = (objects: readonly Raw[]): boolean => {
  const { flags } = endpointAt(compileObjects(objects), '10.244.0.5');
  return (flags & EndpointFlag.enforceEgress) !== 0;
};

const judged = (compiled: Compiled, packet: Omit<Packet, 'pod'>): string =>
  new Kernel(compiled, [compiled]).judge('10.244.0.5', packet, compiled);

test('subjects read labels of pods and namespaces that identities of Cilium lack', () => {
  const label = 'beta.kubernetes.io/zone';
  const selects = (subject: Raw): boolean =>
    isEnforced([
      ...basicObjects.filter(({ kind }) => kind !== 'Namespace'),
      ...[namespace('shop', { [label]: 'a' }), namespace('kube-system')],
      tiered('p', { ...egress('Deny', all), subject }),
    ]);
  const zone = (value: string): Raw => ({ matchLabels: { [label]: value } });
  assert.ok(selects({ namespaces: zone('a') }));
  assert.ok(!selects({ namespaces: zone('b') }));
  const both = { namespaceSelector: zone('a'), podSelector: { matchLabels: { app: 'web' } } };
  assert.ok(selects({ pods: both }));
  assert.ok(!selects({ pods: { ...both, podSelector: { matchLabels: { app: 'db' } } } }));
});

test('a pod whose Namespace is not known is held while a subject reads labels of namespaces, whatever their names', () => {
  const isHeld = (label: string): boolean => {
    const objects = basicObjects.filter(({ kind }) => kind !== 'Namespace');
    const subject = { namespaces: { matchLabels: { [label]: 'a' } } };
    const compiled = compileObjects([...objects, tiered('p', { ...egress('Deny', all), subject })]);
    return (endpointAt(compiled, '10.244.0.5').flags & EndpointFlag.hold) !== 0;
  };
  assert.ok(isHeld('team'));
  assert.ok(isHeld('beta.kubernetes.io/zone'));
});

test('a peer of which labels are not known is denied by what may mean it, and accepted by nothing that asks for them', () => {
  const stranger = pod('new/p', { app: 'web' }, 'two', '10.244.1.9');
  const team = (operator: string, ...values: string[]): Raw => ({
    namespaces: { matchExpressions: [{ key: 'team', operator, values }] },
  });
  const port = { protocols: [{ tcp: { destinationPort: { number: 80 } } }] };
  const verdicts = (...rules: readonly Raw[]): readonly string[] => {
    const policy = tiered('p', { egress: rules });
    const compiled = compileObjects([...basicObjects, stranger, policy]);
    return [80, 81].map((each) =>
      judged(compiled, { direction: 'egress', peer: '10.244.1.9', protocol: 6, port: each }),
    );
  };
  const rule = (action: string, peer: Raw): Raw => ({ action, to: [peer], ...port });
  const rest = { action: 'Deny', to: [all] };
  for (const peer of [team('In', 'red'), team('NotIn', 'red'), team('DoesNotExist')]) {
    assert.deepEqual(verdicts(rule('Deny', peer)), ['deny', 'allow']);
    assert.deepEqual(verdicts(rule('Accept', peer), rest), ['deny', 'deny']);
    assert.deepEqual(verdicts(rule('Pass', peer)), ['deny', 'allow']);
    assert.deepEqual(verdicts(rule('Accept', all), rule('Deny', peer)), ['allow', 'allow']);
  }
  const byName = { namespaces: { matchLabels: { 'kubernetes.io/metadata.name': 'new' } } };
  assert.deepEqual(verdicts(rule('Accept', byName), rest), ['allow', 'deny'], 'the name is known');
  const ofOthers = { namespaces: { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } } };
  assert.deepEqual(verdicts(rule('Deny', ofOthers)), ['allow', 'allow']);
});

test('a named port is the number of the pod that the packet goes to, of any protocol', () => {
  const db = pod('shop/db', { app: 'db' }, 'two', '10.244.1.5');
  const ports = [
    { name: 'sql', containerPort: 5432 },
    { name: 'sql', containerPort: 5433, protocol: 'UDP' },
  ];
  const spec = { ...(db['spec'] as Raw), containers: [{ ports }] };
  const objects = [
    ...basicObjects.filter((each) => (each['metadata'] as Raw)['name'] !== 'db'),
    { ...db, spec },
    tiered('p', egress('Deny', all, { protocols: [{ destinationNamedPort: 'sql' }] })),
  ];
  const compiled = compileObjects(objects);
  const ask = (protocol: Packet['protocol'], port: number): string =>
    judged(compiled, { direction: 'egress', peer: '10.244.1.5', protocol, port });
  assert.deepEqual(
    [ask(6, 5432), ask(17, 5433), ask(6, 5433), ask(17, 5432)],
    ['deny', 'deny', 'allow', 'allow'],
  );
});

test('two of one tier and priority that select one pod are named, others are not', () => {
  const warnings = (...others: readonly Raw[]): readonly string[] =>
    compileObjects([...basicObjects, tiered('a', egress('Deny', all)), ...others])
      .diagnostics.filter(({ code }) => code === 'policy-warning')
      .map(({ subject, message }) => `${subject} ${message}`);
  const [warning, ...more] = warnings(tiered('b', egress('Accept', all)));
  assert.match(
    warning ?? '',
    /^ClusterNetworkPolicy\/b spec.priority 10 is also that of ClusterNetworkPolicy\/a/,
  );
  assert.deepEqual(more, []);
  const ofOthers = {
    namespaces: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } },
  };
  assert.deepEqual(
    warnings(
      tiered('c', { ...egress('Deny', all), priority: 11 }),
      tiered('d', { ...egress('Deny', all), tier: 'Baseline' }),
      tiered('e', { ...egress('Deny', all), subject: ofOthers }),
    ),
    [],
  );
});

test('a rule is known by its object, its place and its tier', () => {
  const compiled = compileObjects([
    ...basicObjects,
    tiered('a', { ...egress('Deny', all), tier: 'Baseline', priority: 7 }),
  ]);
  assert.deepEqual(
    [...compiled.rules.all().values()].map(({ text, tier }) => [text, tier]),
    [['ClusterNetworkPolicy/a: spec.egress[0]', 'Baseline tier, priority 7']],
  );
});

test('an invalid object denies in its tier alone', () => {
  const networkPolicy = {
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
    metadata: { name: 'p', namespace: 'shop' },
    spec: { podSelector: {}, policyTypes: ['Egress'], egress: [{}] },
  };
  const answer = (...objects: readonly Raw[]): string => {
    const compiled = compileObjects([...basicObjects, ...objects]);
    const packet = { direction: 'egress', peer: '10.244.1.5', protocol: 6, port: 80 } as const;
    return judged(compiled, packet);
  };
  const bad = (tier: string): Raw => tiered('bad', { tier, ...egress('Drop', all) });
  const accept = tiered('accept', { ...egress('Accept', all), priority: 9 });
  assert.equal(answer(bad('Admin')), 'deny');
  assert.equal(answer(bad('Admin'), networkPolicy), 'deny');
  assert.equal(answer(bad('Admin'), accept), 'allow');
  assert.equal(answer(bad('Baseline')), 'deny');
  assert.equal(answer(bad('Baseline'), networkPolicy), 'allow');
});
