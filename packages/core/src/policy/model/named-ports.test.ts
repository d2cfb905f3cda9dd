// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Cost of named ports. Their meaning: network-policy.fuzz.test.ts. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { clusterOf, namespace, pod, type Raw } from '../../../test/cluster-fixture.ts';
import { askedOfPods, namesAsked } from './named-ports.ts';
import { activeSpecs, specsInForce } from './policy-set.ts';
import { PortNumbers } from './port-numbers.ts';

const http = [{ port: 'http' }];

/** `changes`: to spec and status. */
function declaring(raw: Raw, number: number, spec: Raw = {}, status: Raw = {}): Raw {
  const containers = [{ name: 'c', ports: [{ name: 'http', containerPort: number }] }];
  return {
    ...raw,
    spec: { ...(raw['spec'] as Raw), containers, ...spec },
    status: { ...(raw['status'] as Raw), ...status },
  };
}

function policy(spec: Raw): Raw {
  return {
    ...{ apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy' },
    metadata: { name: 'p', namespace: 'shop' },
    spec: { podSelector: {}, ...spec },
  };
}

/** Numbers that the rules of the policy are taken apart by. */
function numbersOf(spec: Raw, ...pods: readonly Raw[]): readonly number[] {
  const objects = [
    namespace('shop', { team: 'red' }),
    namespace('evil', { team: 'blue' }),
    declaring(pod('shop/web', {}, 'one', '10.244.0.5'), 8080),
    ...pods,
    policy(spec),
  ];
  const cluster = clusterOf(objects);
  const numbers = new PortNumbers();
  for (const each of cluster.pods.values()) numbers.count(each, 1);
  const states = [...cluster.policies.values()];
  const asked = askedOfPods(states.flatMap(namesAsked), numbers, cluster.namespaces);
  const specs = states.flatMap((state) => specsInForce(state, asked));
  const found = activeSpecs(specs).flatMap(({ statements }) =>
    statements.flatMap(({ ports }) => (ports === 'any' ? [] : ports.map(({ first }) => first))),
  );
  return [...new Set(found)].sort((left, right) => left - right);
}

const ingress = { ingress: [{ from: [{ namespaceSelector: {} }], ports: http }] };
const egressTo = (...to: readonly Raw[]): Raw => ({
  policyTypes: ['Egress'],
  egress: [{ ...(to.length === 0 ? {} : { to }), ports: http }],
});
const evil = declaring(pod('evil/a', {}, 'two', '10.244.1.5'), 9090);

test('what pods of other namespaces declare costs a rule nothing that does not mean them', () => {
  const rows: readonly (readonly [name: string, spec: Raw, numbers: readonly number[]])[] = [
    ['ingress is of the own pods', ingress, [8080]],
    ['egress to own pods', egressTo({ podSelector: {} }), [8080]],
    ['by labels', egressTo({ namespaceSelector: { matchLabels: { team: 'red' } } }), [8080]],
    [
      'by labels of others',
      egressTo({ namespaceSelector: { matchLabels: { team: 'blue' } } }),
      [9090],
    ],
    [
      'by what they lack',
      egressTo({
        namespaceSelector: {
          matchExpressions: [{ key: 'team', operator: 'NotIn', values: ['blue'] }],
        },
      }),
      [8080],
    ],
    [
      'by name',
      egressTo({ namespaceSelector: { matchLabels: { 'kubernetes.io/metadata.name': 'evil' } } }),
      [9090],
    ],
    ['all namespaces', egressTo({ namespaceSelector: {} }), [8080, 9090]],
    ['everybody', egressTo(), [8080, 9090]],
    ['a block', egressTo({ ipBlock: { cidr: '10.0.0.0/8' } }, { podSelector: {} }), [8080, 9090]],
  ];
  for (const [name, spec, numbers] of rows) assert.deepEqual(numbersOf(spec, evil), numbers, name);
});

test('nor does a pod that no packet can go to', () => {
  const pods = [
    declaring(pod('shop/pending', {}, ''), 1),
    declaring(pod('shop/done', {}, 'two', '10.244.1.6'), 2, {}, { phase: 'Succeeded' }),
    declaring(pod('shop/agent', {}, 'two', '192.168.0.2'), 3, { hostNetwork: true }),
  ];
  assert.deepEqual(numbersOf(egressTo(), ...pods), [8080]);
  assert.deepEqual(numbersOf(ingress, ...pods), [8080]);
});
