// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isPolicyObject, type PolicyObject } from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { LiftedNameHints } from './lifted-name-hints.ts';

type Body = Readonly<Record<string, unknown>>;

function read(raw: Body): PolicyObject {
  const parsed = parseObject(raw);
  assert.ok(parsed.ok && isPolicyObject(parsed.value), JSON.stringify(parsed));
  return parsed.value;
}

const kubeDns = {
  matchLabels: { 'k8s:io.kubernetes.pod.namespace': 'kube-system', 'k8s:k8s-app': 'kube-dns' },
};
const udp = { port: '53', protocol: 'UDP' };
const filtered = (dns: readonly Body[] = [{ matchName: 'api.example.com' }]): Body => ({
  toEndpoints: [kubeDns],
  toPorts: [{ ports: [udp], rules: { dns } }],
});
const cilium = (egress: readonly Body[], { app = 'client', name = 'names' } = {}): PolicyObject =>
  read({
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name, namespace: 'shop' },
    spec: { endpointSelector: app === '' ? {} : { matchLabels: { app } }, egress },
  });
const dnsPods = {
  namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'kube-system' } },
  podSelector: { matchLabels: { 'k8s-app': 'kube-dns' } },
};
const port = { port: 53, protocol: 'UDP' };
const kubernetes = (rule: Body, podSelector: Body = {}, namespace = 'shop'): PolicyObject =>
  read({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name: 'plain', namespace },
    spec: { podSelector, policyTypes: ['Egress'], egress: [rule] },
  });
const cluster = (tier: string, destinationPort: Body | null): PolicyObject =>
  read({
    apiVersion: 'policy.networking.k8s.io/v1beta1',
    kind: 'ClusterNetworkPolicy',
    metadata: { name: 'administrators' },
    spec: {
      ...{ tier, priority: 1, subject: { namespaces: {} } },
      egress: [
        {
          action: 'Accept',
          to: [{ pods: dnsPods }],
          ...(destinationPort === null ? {} : { protocols: [{ udp: { destinationPort } }] }),
        },
      ],
    },
  });
const notClient = { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['client'] }] };
const lifted: Readonly<Record<string, PolicyObject>> = {
  'a NetworkPolicy of all pods': kubernetes({ to: [dnsPods], ports: [port] }),
  'without to': kubernetes({ ports: [port] }),
  'of the same pods': kubernetes({ ports: [port] }, { matchLabels: { app: 'client' } }),
  'of all pods but others': kubernetes(
    { ports: [port] },
    { matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['other'] }] },
  ),
  'of one of several apps': kubernetes(
    { ports: [port] },
    { matchExpressions: [{ key: 'app', operator: 'In', values: ['client', 'other'] }] },
  ),
  'a CiliumNetworkPolicy': cilium([{ toEndpoints: [kubeDns], toPorts: [{ ports: [udp] }] }], {
    app: '',
    name: 'plain',
  }),
  'in the Admin tier': cluster('Admin', { number: 53 }),
  'in the Admin tier, a range': cluster('Admin', { range: { start: 1, end: 100 } }),
  'in the Admin tier, no ports': cluster('Admin', null),
};
const kept: Readonly<Record<string, PolicyObject>> = {
  'no ports': kubernetes({ to: [dnsPods] }),
  'a range': kubernetes({ ports: [{ ...port, endPort: 100 }] }),
  'another protocol': kubernetes({ ports: [{ ...port, protocol: 'TCP' }] }),
  'another port': kubernetes({ ports: [{ ...port, port: 54 }] }),
  'other pods': kubernetes({ ports: [port] }, notClient),
  'some of the pods': kubernetes(
    { ports: [port] },
    { matchLabels: { app: 'client', tier: 'ops' } },
  ),
  'another namespace': kubernetes({ ports: [port] }, {}, 'bank'),
  'other servers': kubernetes({ to: [{ podSelector: {} }], ports: [port] }),
  'in the Baseline tier': cluster('Baseline', { number: 53 }),
  'names of its own': cilium([filtered([{ matchName: 'b.example.com' }])], { app: '', name: 'b' }),
};

const names = cilium([filtered()]);

for (const [name, plain] of Object.entries(lifted)) {
  test(`${name}: the names are lifted`, () => {
    const hints = new LiftedNameHints([names, plain]);
    assert.deepEqual(hints.of(names), []);
    const [hint, ...more] = hints.of(plain);
    assert.equal(hint?.path, 'spec.egress[0]');
    assert.match(
      hint.message,
      /every name, which rules\.dns of CiliumNetworkPolicy\/shop\/names is/,
    );
    assert.deepEqual(more, []);
  });
}

for (const [name, plain] of Object.entries(kept)) {
  test(`${name}: nothing is lifted`, () => {
    assert.deepEqual(new LiftedNameHints([names, plain]).of(plain), []);
  });
}

test('where every name is allowed already nothing is lifted', () => {
  const all = cilium([filtered([{ matchPattern: '*' }])]);
  const plain = kubernetes({ ports: [port] });
  assert.deepEqual(new LiftedNameHints([all, plain]).of(plain), []);
});

test('a rule of the same policy lifts the names too', () => {
  const both = cilium([filtered(), { toEndpoints: [kubeDns], toPorts: [{ ports: [udp] }] }]);
  const hints = new LiftedNameHints([both]).of(both);
  assert.deepEqual(
    hints.map(({ path }) => path),
    ['spec.egress[1]'],
  );
});
