// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Verdict } from './kernel-numbers.ts';
import { compareTiered, deciding, type RuleVerdict, type Tier } from './tiers.ts';

const rule = (
  tier: Tier,
  verdict: RuleVerdict,
  order = '',
): { readonly tier: Tier; readonly verdict: RuleVerdict; readonly order: string } => ({
  ...{ tier, verdict, order },
});
const { allow, deny } = Verdict;

test('the first rule of the Admin tier decides', () => {
  const accept = rule('admin', allow, '1');
  assert.deepEqual(deciding([accept, rule('admin', deny, '2'), rule('network', deny)]), [accept]);
});

test('Pass ends its tier, and the next one decides', () => {
  const pass = rule('admin', 'pass', '1');
  const network = rule('network', allow);
  assert.deepEqual(deciding([pass, rule('admin', deny, '2'), network]), [network]);
  const open = rule('default', allow);
  assert.deepEqual(
    deciding([pass, rule('baseline', 'pass', '1'), rule('baseline', deny, '2'), open]),
    [open],
  );
  assert.deepEqual(deciding([pass]), []);
});

test('all rules without an order decide together; Baseline yields to them', () => {
  const both = [rule('network', allow), rule('network', deny)];
  assert.deepEqual(deciding([...both, rule('baseline', deny, '1'), rule('default', allow)]), both);
});

test('order: tier, then priority, object and place', () => {
  const ordered = [
    rule('admin', deny, '00000 ClusterNetworkPolicy/b 00001'),
    rule('admin', deny, '00005 ClusterNetworkPolicy/a 00002'),
    rule('admin', deny, '00005 ClusterNetworkPolicy/a 00010'),
    rule('admin', deny, '01000 ClusterNetworkPolicy/a 00000'),
    rule('network', deny),
    rule('baseline', deny, '00000 ClusterNetworkPolicy/a 00000'),
    rule('default', allow),
  ];
  assert.deepEqual(ordered.toReversed().sort(compareTiered), ordered);
});
