// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { PolicyObject } from '@tandem/core/k8s/objects';
import { parseObject } from '@tandem/core/k8s/parse-object';
import { TierHints } from './tier-hints.ts';

type Body = Readonly<Record<string, unknown>>;

const all = { namespaces: {} };
const of = (name: string): Body => ({
  namespaces: { matchLabels: { 'kubernetes.io/metadata.name': name } },
});
const rules = [{ action: 'Deny', to: [all] }];

function policy(name: string, spec: Body = {}): PolicyObject {
  const usual = { tier: 'Admin', priority: 5, subject: all, egress: rules };
  const parsed = parseObject({
    ...{ apiVersion: 'policy.networking.k8s.io/v1alpha2', kind: 'ClusterNetworkPolicy' },
    ...{ metadata: { name }, spec: { ...usual, ...spec } },
  });
  assert.ok(parsed.ok && parsed.value.kind === 'ClusterNetworkPolicy');
  return parsed.value;
}

const cases: Readonly<Record<string, { objects: readonly PolicyObject[]; isTold: boolean }>> = {
  'one tier and priority': { objects: [policy('a'), policy('b')], isTold: true },
  'one of all pods, one of a namespace': {
    objects: [policy('a'), policy('b', { subject: of('shop') })],
    isTold: true,
  },
  'other priorities': { objects: [policy('a'), policy('b', { priority: 6 })], isTold: false },
  'other tiers': { objects: [policy('a'), policy('b', { tier: 'Baseline' })], isTold: false },
  'other namespaces': {
    objects: [policy('a', { subject: of('bank') }), policy('b', { subject: of('shop') })],
    isTold: false,
  },
  'other directions': {
    objects: [policy('a'), policy('b', { egress: [], ingress: [{ action: 'Deny', from: [all] }] })],
    isTold: false,
  },
};

for (const [name, { objects, isTold }] of Object.entries(cases)) {
  test(name, () => {
    const hints = new TierHints(objects);
    const found = objects.map((object) =>
      hints.of(object).map(({ path, message }) => `${path} ${message}`),
    );
    assert.deepEqual(found[0], []);
    if (isTold) assert.match(found[1]?.[0] ?? '', /^spec.priority is also that of a in the same/);
    else assert.deepEqual(found[1], []);
  });
}
