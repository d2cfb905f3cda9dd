// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** A change of policy in maps that have room for either policy, and hardly for both. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { FakeNode, fixtures, podOf, policyOf, type Raw, specOf } from '../../test/node-fixture.ts';
import type { Capacities } from './apply.ts';

const resources = ['policy', 'dns_servers', 'classes'] as const;

const bulky = fc.record({ object: fixtures, bulk: fc.nat(30), from: fc.nat(3) });

function rawOf(
  i: number,
  {
    object,
    bulk,
    from,
  }: {
    readonly object: Parameters<typeof specOf>[1];
    readonly bulk: number;
    readonly from: number;
  },
): Raw {
  const toCIDR = Array.from({ length: bulk }, (_, n) => `100.${from}.${n}.0/24`);
  const spec = specOf(i, object);
  const egress = [...(spec['egress'] as readonly Raw[]), ...(bulk === 0 ? [] : [{ toCIDR }])];
  return policyOf(i, { ...spec, egress });
}

const allowed = (lines: readonly string[]): readonly string[] =>
  lines.filter((line) => / (allowed|dns)$/.test(line));

test('whatever room the maps have beyond the larger policy, no step allows more than both do', () => {
  fc.assert(
    fc.property(
      fc.array(fc.record({ before: bulky, after: fc.option(bulky) }), {
        minLength: 1,
        maxLength: 3,
      }),
      fc.constantFrom(0, 3, 20, 1000),
      (objects, slack) => {
        const pods = objects.map((_, i) => podOf(i));
        const before = objects.map((object, i) => rawOf(i, object.before));
        const after = objects.map((object, i) => rawOf(i, object.after ?? object.before));
        const nodes = [before, after].map((policies) => {
          const alone = new FakeNode();
          alone.apply([...pods, ...policies]);
          return alone;
        });
        const wanted = objects.map((_, pod) => nodes.map((each) => each.answers(pod)));
        const capacity = (what: (typeof resources)[number]): number =>
          Math.max(...nodes.map(({ sizes }) => sizes[what])) + slack;
        const entries = resources.map((what) => [what, capacity(what)] as const);
        const tested = new FakeNode(Object.fromEntries(entries) as unknown as Capacities);
        tested.apply([...pods, ...before]);
        tested.onWrite = () => {
          for (const [pod, either] of wanted.entries()) {
            const may = new Set(either.flatMap(allowed));
            const more = allowed(tested.answers(pod)).filter((line) => !may.has(line));
            assert.deepEqual(more, [], `pod ${pod}, room for ${slack} more`);
          }
        };
        assert.equal(tested.apply([...pods, ...after]), '');
        tested.onWrite = () => undefined;
        for (const [pod, [, want]] of wanted.entries()) {
          assert.deepEqual(tested.answers(pod), want, `pod ${pod}`);
        }
      },
    ),
    { seed: 20261128, numRuns: 60 },
  );
});
