// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseObject } from './parse-object.ts';
import { kindAdvice } from './unsupported-kind.ts';

test('a kind of policy that is not enforced names the kind to write in its place', () => {
  const group = 'policy.networking.k8s.io';
  const rows: readonly (readonly [apiVersion: string, kind: string, advice: RegExp])[] = [
    [`${group}/v1alpha1`, 'AdminNetworkPolicy', /v1beta1 with tier: Admin, Accept for Allow/],
    [`${group}/v1alpha1`, 'BaselineAdminNetworkPolicy', /tier: Baseline and a priority, Accept/],
    [`${group}/v1alpha1`, 'AdminNetworkPolicyList', /^put the objects of the list under items/],
    ['networking.k8s.aws/v1alpha1', 'ClusterNetworkPolicy', /a ClusterNetworkPolicy of policy/],
    ['projectcalico.org/v3', 'GlobalNetworkPolicy', /or a CiliumClusterwideNetworkPolicy/],
    ['projectcalico.org/v3', 'NetworkPolicy', /^write it as a NetworkPolicy or CiliumNetworkP/],
    ['example.com/v1', 'AdminNetworkPolicy', /^write it as a NetworkPolicy or CiliumNetworkP/],
  ];
  for (const [apiVersion, kind, advice] of rows) {
    const parsed = parseObject({ apiVersion, kind, metadata: { name: 'x' } });
    assert.ok(parsed.ok && parsed.value.kind === 'unsupported', kind);
    assert.match(kindAdvice(parsed.value), advice, kind);
  }
});
