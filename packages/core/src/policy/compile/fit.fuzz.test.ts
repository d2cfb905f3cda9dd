// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which objects are left out depends on the cluster alone: not on the order in which they came, nor on what was there before. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  basicObjects,
  ccnp,
  clusterOf,
  cnp,
  node,
  pod,
  type Raw,
} from '../../../test/cluster-fixture.ts';
import type { ClusterState } from '../model/cluster-state.ts';
import type { Compiled } from '../model/desired.ts';
import { StableIds } from '../model/stable-ids.ts';
import { FittingCompiler } from './fit.ts';
import { type Budgets, nodeBudgets } from './fit-costs.ts';

const options = { node, revision: 1 };
const spaces = ['shop', 'bank', 'mill'];
const apps = ['a', 'b', 'c', 'd'];
const pods = spaces.flatMap((space, i) =>
  apps.map((app, j) =>
    pod(
      `${space}/${app}`,
      { app },
      j < 2 ? 'one' : 'two',
      `10.244.${j < 2 ? 0 : 1}.${20 + 4 * i + j}`,
    ),
  ),
);

const peer: fc.Arbitrary<Raw> = fc.oneof(
  fc.integer({ min: 0, max: 12 }).map((count) => ({
    toCIDR: Array.from({ length: count + 1 }, (_, i) => `100.${count}.${i}.0/24`),
  })),
  fc.constantFrom(...apps).map((app) => ({ toEndpoints: [{ matchLabels: { app } }] })),
  fc.constantFrom('world', 'cluster', 'host', 'all').map((entity) => ({ toEntities: [entity] })),
  fc.constant({}),
);
const rule = fc
  .record({ peer, ports: fc.integer({ min: 0, max: 6 }) })
  .map(({ peer: to, ports }) => ({
    ...to,
    ...(ports === 0
      ? {}
      : {
          toPorts: [
            {
              ports: Array.from({ length: ports }, (_, i) => ({
                port: String(80 + 2 * i),
                protocol: 'TCP',
              })),
            },
          ],
        }),
  }));
const policy = fc.record({
  space: fc.constantFrom(...spaces, ''),
  app: fc.option(fc.constantFrom(...apps)),
  rules: fc.array(rule, { maxLength: 4 }),
  tier: fc.option(fc.constantFrom('Admin', 'Baseline'), { freq: 4 }),
});
const policies = fc.array(policy, { minLength: 1, maxLength: 10 });
const budgets = fc.record({
  classes: fc.integer({ min: 8, max: 60 }),
  policy: fc.integer({ min: 5, max: 120 }),
});

type Drawn = typeof policy extends fc.Arbitrary<infer T> ? T : never;

function objectOf({ space, app, rules, tier }: Drawn, index: number): Raw {
  const name = `p${index}`;
  if (tier !== null)
    return {
      ...{ apiVersion: 'policy.networking.k8s.io/v1beta1', kind: 'ClusterNetworkPolicy' },
      metadata: { name },
      spec: {
        ...{ tier, priority: index, subject: { namespaces: {} } },
        egress: rules.map((_, i) => ({
          action: i % 2 === 0 ? 'Deny' : 'Accept',
          to: [{ pods: { podSelector: { matchLabels: { app: apps[i % 4] } } } }],
        })),
      },
    };
  const endpointSelector = app === null ? {} : { matchLabels: { app } };
  const spec = { endpointSelector, egress: rules.length === 0 ? [{}] : rules };
  return space === '' ? ccnp(name, spec) : cnp(`${space}/${name}`, spec);
}

const leftOut = ({ diagnostics }: Compiled): readonly string[] =>
  diagnostics.flatMap(({ code, subject }) => (code === 'policy-left-out' ? [subject] : [])).sort();

function shuffled<T>(items: readonly T[], keys: readonly number[]): readonly T[] {
  return items
    .map((item, i) => ({ item, key: keys[i % keys.length] ?? 0 }))
    .toSorted((one, two) => one.key - two.key)
    .map(({ item }) => item);
}

const fitting = (cluster: ClusterState, limits: Partial<Budgets>): Compiled =>
  new FittingCompiler({ ...nodeBudgets, ...limits }).compile(cluster, options, StableIds.empty());

test('the same objects in any order, at once or one after the other, leave the same out', () => {
  fc.assert(
    fc.property(
      policies,
      budgets,
      fc.array(fc.nat(), { minLength: 30, maxLength: 30 }),
      (drawn, limits, keys) => {
        const objects = [...basicObjects, ...pods, ...drawn.map(objectOf)];
        const want = fitting(clusterOf(objects), limits);
        const other = fitting(clusterOf(shuffled(objects, keys)), limits);
        assert.deepEqual(leftOut(other), leftOut(want));
        const compiler = new FittingCompiler({ ...nodeBudgets, ...limits });
        let last = want;
        const ordered = shuffled(drawn.map(objectOf), keys);
        for (let count = 0; count <= ordered.length; count++) {
          const some = [...basicObjects, ...pods, ...ordered.slice(0, count)];
          last = compiler.compile(clusterOf(some), options, StableIds.empty());
        }
        assert.deepEqual(leftOut(last), leftOut(want), 'one after the other');
      },
    ),
    { numRuns: 100 },
  );
});

test('an object that takes no entries is left out for none', () => {
  const nobody = { endpointSelector: { matchLabels: { app: 'nobody' } } };
  const idle = [
    cnp('shop/a-idle', { ...nobody, egress: [{ toCIDR: ['100.1.0.0/16'] }] }),
    ccnp('z-idle', { ...nobody, ingress: [{ fromEndpoints: [{ matchLabels: { app: 'a' } }] }] }),
  ];
  fc.assert(
    fc.property(policies, budgets, (drawn, limits) => {
      const objects = [...basicObjects, ...pods, ...drawn.map(objectOf), ...idle];
      const left = leftOut(fitting(clusterOf(objects), { policy: limits.policy }));
      assert.deepEqual(
        left.filter((each) => each.endsWith('idle')),
        [],
      );
    }),
    { numRuns: 200 },
  );
});
