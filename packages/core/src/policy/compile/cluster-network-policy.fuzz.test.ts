// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A ClusterNetworkPolicy with anything in the place of a part of it: an error with a hold, a warning, or the same as before. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseObject } from '../../k8s/parse-object.ts';
import { isFields } from '../../k8s/shape.ts';
import { parsePolicy } from '../parse/parse-policy.ts';

const shop = { namespaces: { matchLabels: { 'kubernetes.io/metadata.name': 'shop' } } };
const pods = {
  pods: {
    namespaceSelector: {},
    podSelector: { matchExpressions: [{ key: 'a', operator: 'Exists' }] },
  },
};
const spec = {
  ...{ tier: 'Admin', priority: 5, subject: shop },
  ingress: [{ name: 'x', action: 'Deny', from: [shop, pods] }],
  egress: [
    {
      ...{ action: 'Pass', to: [pods] },
      protocols: [
        { tcp: { destinationPort: { number: 1 } } },
        { udp: { destinationPort: { range: { start: 1, end: 2 } } } },
        { destinationNamedPort: 'web' },
      ],
    },
    { action: 'Deny', to: [{ networks: ['10.0.0.0/8'] }] },
  ],
};

/** `value` with something else at the place that `steps` lead to, as far as they lead. */
function replaced(value: unknown, steps: readonly number[], other: unknown): unknown {
  const [step, ...rest] = steps;
  if (step === undefined) return other;
  if (Array.isArray(value)) {
    const place = step % (value.length + 1);
    return place === value.length
      ? [...(value as unknown[]), other]
      : (value as unknown[]).with(place, replaced(value[place], rest, other));
  }
  if (!isFields(value)) return other;
  const keys = [...Object.keys(value), 'more'];
  const key = keys[step % keys.length] ?? '';
  return { ...value, [key]: key in value ? replaced(value[key], rest, other) : other };
}

test('anything at any place', () => {
  const steps = fc.array(fc.nat(20), { maxLength: 8 });
  const other = fc.oneof(
    fc.constantFrom<unknown>(null, {}, [], '', 'Accept', 0, -1, 1001, 65_536, 1e308, true),
    fc.constantFrom<unknown>({ __proto__: null }, { constructor: 1 }, [null], [{}], { tcp: {} }),
    fc.jsonValue({ maxDepth: 3 }),
  );
  fc.assert(
    fc.property(steps, other, (at, value) => {
      const object = parseObject({
        ...{ apiVersion: 'policy.networking.k8s.io/v1beta1', kind: 'ClusterNetworkPolicy' },
        ...{ metadata: { name: 'p' }, spec: replaced(spec, at, value) },
      });
      assert.ok(object.ok && object.value.kind === 'ClusterNetworkPolicy');
      const parsed = parsePolicy(object.value);
      if (parsed.ok) {
        assert.equal(parsed.value.specs.length, 1);
        return;
      }
      const { errors, hold, holdScope } = parsed.error;
      assert.ok(errors.length > 0);
      const isHeld = holdScope === 'selected' || holdScope === 'superset';
      assert.equal(hold.length, isHeld ? 1 : 0);
      for (const { rules, denyIngress, denyEgress } of hold) {
        assert.ok(rules.length > 0 && !denyIngress && !denyEgress);
        assert.ok(rules.every(({ action, peers }) => action === 'deny' && peers === 'any'));
      }
      // A fault outside of the subject, in rules that deny, is held for the very pods.
      if (isFields(object.value.spec) && object.value.spec['subject'] === spec.subject) {
        const { ingress, egress } = object.value.spec;
        const isGiven = ingress === spec.ingress || egress === spec.egress;
        if (isGiven) assert.equal(holdScope, 'selected');
      }
    }),
    { numRuns: 5_000 },
  );
});
