// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { basicObjects, cnp, compileObjects, pod, type Raw } from '../../../test/cluster-fixture.ts';
import type { EndpointId, NamespaceId, PolicyId } from '../../ids.ts';
import { policyPredecessorsMax } from '../../limits.ts';
import type { Compiled, MemberPolicy, MemberServer } from '../model/desired.ts';
import { withPredecessors } from './succession.ts';

const outside = '198.51.100.53/32';

/** Pods of `app` may ask an outside server for `names`, and connect to what it answers. */
function policy(app: string, names: readonly string[], others: readonly Raw[] = []): Raw {
  const patterns = names.map((matchPattern) => ({ matchPattern }));
  return cnp(`shop/${app}`, {
    endpointSelector: { matchLabels: { app } },
    egress: [
      {
        toCIDR: [outside],
        toPorts: [{ ports: [{ port: '53', protocol: 'ANY' }], rules: { dns: patterns } }],
      },
      { toFQDNs: patterns },
      ...others,
    ],
  });
}

const front = pod('shop/front', { app: 'front' }, 'one', '10.244.0.21');
const api = pod('shop/api', { app: 'api' }, 'one', '10.244.0.22');

const idOf = (compiled: Compiled, name: string): number =>
  compiled.endpoints.find((endpoint) => endpoint.pod.name === name)?.policyId ?? 0;
const predecessors = (compiled: Compiled, name: string): readonly number[] =>
  compiled.members.policies.find(({ id }) => id === idOf(compiled, name))?.predecessors ?? [];

function change(before: Compiled, objects: readonly Raw[]): Compiled {
  return compileObjects([...basicObjects, ...objects], { retain: [before] }, before.ids);
}

const more: Raw = { toCIDR: ['192.0.2.0/24'] };

test('a policy follows the one that all its pods have left, and those that one followed', () => {
  const first = compileObjects([...basicObjects, front, policy('front', ['*.a.test'])]);
  assert.deepEqual(predecessors(first, 'front'), []);
  const second = change(first, [front, policy('front', ['*.a.test'], [more])]);
  assert.deepEqual(predecessors(second, 'front'), [idOf(first, 'front')]);
  const third = change(second, [front, policy('front', ['*.a.test', '*.b.test'], [more])]);
  assert.deepEqual(predecessors(third, 'front'), [idOf(second, 'front'), idOf(first, 'front')]);
  const same = change(third, [front, policy('front', ['*.a.test', '*.b.test'], [more])]);
  assert.deepEqual(predecessors(same, 'front'), predecessors(third, 'front'));
  // Back to the first: it is its own predecessor no more.
  const back = change(first, [front, policy('front', ['*.a.test'])]);
  assert.deepEqual(predecessors(back, 'front'), []);
});

test('an agent that starts anew goes on from what members serve', () => {
  const first = compileObjects([...basicObjects, front, policy('front', ['*.a.test'])]);
  const objects = [...basicObjects, front, policy('front', ['*.a.test'], [more])];
  const second = compileObjects(objects, { served: first.members }, first.ids);
  assert.deepEqual(predecessors(second, 'front'), [idOf(first, 'front')]);
});

test('what other pods still hear counts for them alone', () => {
  const both = [
    pod('shop/front', { app: 'front' }, 'one', '10.244.0.21'),
    pod('shop/other', { app: 'front' }, 'one', '10.244.0.23'),
  ];
  const first = compileObjects([...basicObjects, ...both, policy('front', ['*.a.test'])]);
  assert.equal(idOf(first, 'front'), idOf(first, 'other'));
  const moved = pod('shop/front', { app: 'api' }, 'one', '10.244.0.21');
  const second = change(first, [
    moved,
    both[1] as Raw,
    policy('front', ['*.a.test']),
    policy('api', ['*.a.test'], [more]),
  ]);
  assert.notEqual(idOf(second, 'front'), idOf(first, 'front'));
  assert.deepEqual(predecessors(second, 'front'), []);
});

for (const [what, names, isFollowed] of [
  ['for more names', ['*.a.test', '*.b.test', '*.c.test'], true],
  ['for fewer names', ['*.a.test'], false],
  ['for other names', ['*.a.test', '*.c.test'], false],
] as const) {
  test(`a successor that asks the same server ${what}`, () => {
    const first = compileObjects([...basicObjects, api, policy('api', ['*.a.test', '*.b.test'])]);
    const second = change(first, [api, policy('api', names, [more])]);
    assert.deepEqual(predecessors(second, 'api'), isFollowed ? [idOf(first, 'api')] : []);
  });
}

test('a successor that asks another server starts with nothing', () => {
  const first = compileObjects([...basicObjects, api, policy('api', ['*.a.test'])]);
  const text = JSON.stringify(policy('api', ['*.a.test'])).replace(outside, '198.51.100.54/32');
  const second = change(first, [api, JSON.parse(text) as Raw]);
  assert.deepEqual(predecessors(second, 'api'), []);
});

test('many servers, names and pods of one policy are compared once', () => {
  const numbers = Array.from({ length: 4096 }, (_, i) => i);
  const membersOf = (policyId: number, names: number): MemberPolicy => ({
    ...compileObjects([]).members,
    patterns: numbers.slice(0, names).map((i) => ({ text: `n${i}.test.`, context: 'rules.dns' })),
    ruleSets: [{ id: policyId + 1, matchAll: false, patternIndexes: numbers.slice(0, names) }],
    endpoints: numbers.slice(0, 50).map((i) => ({
      ...{ address: new Uint8Array(16).fill(i), endpointId: (i + 2) as EndpointId },
      ...{ policyId: policyId as PolicyId, namespaceId: 2 as NamespaceId, namespace: 'shop' },
      pod: `p${i}`,
    })),
    policies: [
      {
        ...{ id: policyId as PolicyId, predecessors: [], fqdnPatterns: [] },
        servers: numbers.map((i): MemberServer => {
          const server = Uint8Array.from({ length: 16 }, (_, at) => (i >> (15 - at)) & 1);
          return { server, protocol: 17, ruleSetId: policyId + 1 };
        }),
      },
    ],
  });
  const before = membersOf(10, 4000);
  const longer = withPredecessors(membersOf(20, 4096), [before]).members.policies[0];
  assert.deepEqual(longer?.predecessors, [10]);
  const shorter = withPredecessors(membersOf(30, 3999), [before]).members.policies[0];
  assert.deepEqual(shorter?.predecessors, []);
});

test('only so many are remembered', () => {
  let compiled = compileObjects([...basicObjects, front, policy('front', ['*.a.test'])]);
  for (let i = 0; i <= policyPredecessorsMax; i++) {
    const other: Raw = { toCIDR: [`192.0.2.${i}/32`] };
    compiled = change(compiled, [front, policy('front', ['*.a.test'], [other])]);
  }
  assert.equal(predecessors(compiled, 'front').length, policyPredecessorsMax);
  assert.equal(compiled.predecessorsForgotten, 1, 'and the others counted');
});
