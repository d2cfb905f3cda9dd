// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Whatever stands in a file: parsing ends in a value, and an object is valid only if nothing was skipped. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { parseObject } from '../../k8s/parse-object.ts';
import { parseCiliumPolicy } from './parse-cilium.ts';

const options = { seed: 20261121, numRuns: 3_000 };

const known = fc.constantFrom(
  'endpointSelector',
  'egress',
  'egressDeny',
  'ingress',
  'ingressDeny',
  'toEndpoints',
  'toCIDR',
  'toCIDRSet',
  'toEntities',
  'toFQDNs',
  'toPorts',
  'ports',
  'port',
  'endPort',
  'protocol',
  'rules',
  'dns',
  'matchName',
  'matchPattern',
  'matchLabels',
  'matchExpressions',
  'key',
  'operator',
  'values',
  'cidr',
  'except',
  'enableDefaultDeny',
  '__proto__',
  'x',
);
const leaf = fc.oneof(
  fc.constantFrom<unknown>(
    null,
    true,
    53,
    -1,
    0.5,
    '',
    '53',
    'In',
    'UDP',
    '10.0.0.0/8',
    '*.a',
    'world',
  ),
  fc.string({ maxLength: 8 }),
);
const { tree } = fc.letrec<{ tree: unknown }>((tie) => ({
  tree: fc.oneof(
    { maxDepth: 6, withCrossShrink: true },
    leaf,
    fc.array(tie('tree'), { maxLength: 3 }),
    fc.dictionary(known, tie('tree'), { maxKeys: 4 }),
  ),
}));

test('no body makes the parser throw', () => {
  fc.assert(
    fc.property(tree, tree, (spec, specs) => {
      const metadata = { name: 'p', namespace: 'n' };
      const object = parseObject({
        apiVersion: 'cilium.io/v2',
        kind: 'CiliumNetworkPolicy',
        metadata,
        spec,
        specs: [specs],
      });
      assert(object.ok && object.value.kind === 'CiliumNetworkPolicy');
      const parsed = parseCiliumPolicy(object.value);
      if (!parsed.ok) assert(parsed.error.errors.length > 0);
      else assert.equal(parsed.value.specs.length, 2);
    }),
    options,
  );
});

test('no object makes the reader throw', () => {
  const kinds = fc.constantFrom(
    'Pod',
    'Node',
    'Service',
    'Namespace',
    'EndpointSlice',
    'CiliumNetworkPolicy',
  );
  const versions = fc.constantFrom('v1', 'discovery.k8s.io/v1', 'cilium.io/v2');
  fc.assert(
    fc.property(versions, kinds, tree, tree, tree, (apiVersion, kind, metadata, spec, status) => {
      const parsed = parseObject({ apiVersion, kind, metadata, spec, status, endpoints: spec });
      if (!parsed.ok) assert(parsed.error.issues.length > 0);
    }),
    options,
  );
});

test('one unknown field anywhere makes a valid policy invalid', () => {
  const valid = {
    endpointSelector: { matchExpressions: [{ key: 'a', operator: 'Exists' }] },
    egress: [
      {
        toEndpoints: [{ matchLabels: {} }],
        toPorts: [{ ports: [{ port: '53' }], rules: { dns: [{ matchName: 'a' }] } }],
      },
      { toFQDNs: [{ matchName: 'a' }] },
      { toCIDRSet: [{ cidr: '10.0.0.0/8', except: [] }] },
    ],
    enableDefaultDeny: { egress: true },
  };
  const places = mappingsOf(valid);
  for (const place of places) {
    const copy: unknown = structuredClone(valid);
    const target = place.reduce<unknown>(
      (value, key) => (value as Record<string, unknown>)[key],
      copy,
    );
    (target as Record<string, unknown>)['surprise'] = 1;
    const metadata = { name: 'p', namespace: 'n' };
    const object = parseObject({
      apiVersion: 'cilium.io/v2',
      kind: 'CiliumNetworkPolicy',
      metadata,
      spec: copy,
    });
    assert(object.ok && object.value.kind === 'CiliumNetworkPolicy');
    const parsed = parseCiliumPolicy(object.value);
    // Labels are free: a new one is a stricter selector, but its value must be a text.
    assert.equal(parsed.ok, false, place.join('.'));
  }
  assert(places.length >= 12);
});

/** Paths of all mappings inside a value. */
function mappingsOf(value: unknown): readonly (readonly string[])[] {
  if (typeof value !== 'object' || value === null) return [];
  const inner = Object.entries(value).flatMap(([key, child]) =>
    mappingsOf(child).map((path) => [key, ...path]),
  );
  return Array.isArray(value) ? inner : [[], ...inner];
}
