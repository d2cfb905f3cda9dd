// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Fields } from '@tandem/core/k8s/shape';
import { boundedText } from './bounded-text.ts';
import { conditionMessageBytesMax, eventNoteBytesMax } from './limits.ts';
import {
  type Condition,
  findingsText,
  foundCondition,
  isSameCondition,
  policyFindings,
  validCondition,
} from './valid-condition.ts';

const policy = (spec: unknown, more: Fields = {}): Fields => ({
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'web', namespace: 'shop', uid: 'u', resourceVersion: '1', managedFields: [] },
  spec,
  ...more,
});
const conditionOf = (object: Fields): Condition => validCondition(policyFindings(object) ?? []);
const rule = { toCIDR: ['192.0.2.0/24'] };

test('a policy without a fault has the condition that Cilium writes', () => {
  assert.deepEqual(conditionOf(policy({ endpointSelector: {}, egress: [rule] })), {
    type: 'Valid',
    status: 'True',
    message: 'Policy validation succeeded',
  });
});

test("in Kubernetes' own form a condition has a reason and the generation that was read", () => {
  const findings = (spec: object): ReturnType<typeof policyFindings> =>
    policyFindings({
      ...{ apiVersion: 'policy.networking.k8s.io/v1beta1', kind: 'ClusterNetworkPolicy' },
      ...{ metadata: { name: 'p' }, spec: { priority: 1, subject: { namespaces: {} }, ...spec } },
    });
  const ingress = [{ action: 'Deny', from: [{ namespaces: {} }] }];
  const rows = [
    [{ tier: 'Admin', ingress }, 'True PolicyValid'],
    [{ tier: 'Admin' }, 'True PolicyWarning'],
    [{ tier: 'x' }, 'False PolicyInvalid'],
  ] as const;
  for (const [spec, expected] of rows) {
    const condition = validCondition(findings(spec) ?? [], 7);
    assert.equal(`${condition.status} ${condition.reason}`, expected);
    assert.equal(condition.observedGeneration, 7);
    const has = foundCondition({ status: { conditions: [condition] } });
    assert.ok(isSameCondition(has, condition));
    // The next generation is another condition, though it says the same.
    assert.ok(!isSameCondition(has, { ...condition, observedGeneration: 8 }));
  }
});

test('a fault is named with its field and the fix', () => {
  const { status, message } = conditionOf(policy({ endpointSelector: {}, ingress: [] }));
  assert.equal(status, 'False');
  assert.match(message, /^spec: .*\[\{\}\]/);
});

test('a warning leaves the policy valid, and is told', () => {
  const egress = [{ toEntities: ['ingress'] }];
  const { status, message } = conditionOf(policy({ endpointSelector: {}, egress }));
  assert.equal(status, 'True');
  assert.match(message, /^Policy validation succeeded, with warnings: spec\.egress\[0\]/);
});

test('a thousand faults, and names of a megabyte, make a bounded message that says how many are left out', () => {
  const long = 'ü'.repeat(1 << 19);
  const egress = Array.from({ length: 1000 }, (_, index) => ({
    toCIDR: [`${index}${long.slice(0, 1000)}`],
    [`nope${index}${long.slice(0, 500)}`]: true,
  }));
  const { status, message } = conditionOf(
    policy({ endpointSelector: {}, egress, [`x${long}`]: 1 }),
  );
  assert.equal(status, 'False');
  assert.ok(Buffer.byteLength(message) <= conditionMessageBytesMax, String(message.length));
  assert.match(message, /and \d+ more$/);
  const note = findingsText(policyFindings(policy({ egress })) ?? [], eventNoteBytesMax);
  assert.ok(Buffer.byteLength(note) <= eventNoteBytesMax);
  assert.match(note, /and \d+ more$/);
});

test('text is cut between characters, and what steers a terminal is not in it', () => {
  for (let bytes = 3; bytes < 12; bytes++) {
    const cut = boundedText('aüü𝄞𝄞', bytes);
    assert.ok(Buffer.byteLength(cut) <= bytes, `${bytes}: ${cut}`);
    assert.doesNotMatch(cut, /\ufffd/);
  }
  assert.equal(boundedText('short', 5), 'short');
  assert.equal(boundedText('a\u001b[2Jb\u202ec', 100), 'a\\u001b[2Jb\\u202ec');
  assert.equal(boundedText('aüü', 5), 'aüü');
});

test('a condition is found whatever else stands in the status', () => {
  const valid = { type: 'Valid', status: 'True', message: 'm', lastTransitionTime: 't' };
  const none = { reason: '', observedGeneration: undefined };
  const found = { status: 'True', message: 'm', lastTransitionTime: 't', ...none };
  const cases: readonly (readonly [unknown, object | null])[] = [
    [undefined, null],
    [null, null],
    ['text', null],
    [{ conditions: null }, null],
    [{ conditions: {} }, null],
    [{ conditions: [null, 1, [], 'x', { type: 5 }] }, null],
    [{ conditions: [{ type: 'Other' }, valid], nodes: {} }, found],
    [
      { conditions: [{ type: 'Valid', status: 1 }] },
      { status: '', message: '', lastTransitionTime: '', ...none },
    ],
  ];
  for (const [status, expected] of cases) {
    assert.deepEqual(foundCondition({ status }), expected, JSON.stringify(status));
  }
});

test('what is no policy of ours has no findings', () => {
  assert.equal(policyFindings({ apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p' } }), null);
  assert.equal(policyFindings({}), null);
});

test('odd shapes are findings, never a throw', () => {
  const shapes = [null, 1, 'x', [], {}, [null], { egress: null }, { egress: [null] }, { specs: 1 }];
  for (const spec of shapes) {
    for (const object of [
      policy(spec),
      policy(undefined, { specs: spec }),
      policy({ ingress: spec }),
    ]) {
      assert.notEqual(policyFindings(object), null, JSON.stringify(object));
    }
  }
});
