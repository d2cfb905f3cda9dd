// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Fields } from '@tandem/core/k8s/shape';
import { stateOf } from './definition-keeper.ts';
import { type Definition, definitions, definitionVersion, versionLabel } from './definitions.ts';

const [definition] = definitions as readonly [Definition];
const unmarked = {
  versions: [{ name: 'v2', schema: { openAPIV3Schema: definition.unmarkedSchema } }],
};
const state = (labels: unknown, spec: Fields = definition.spec): string =>
  stateOf(definition, { metadata: { name: definition.name, labels }, spec });

test('whose a definition is, and of which version', () => {
  assert.equal(state({ [versionLabel]: String(definitionVersion) }), 'current');
  assert.equal(state({ [versionLabel]: String(definitionVersion + 1) }), 'newer');
  assert.equal(state({ [versionLabel]: '999999999' }), 'newer');
  assert.equal(state({ [versionLabel]: '1' }), 'older');
  assert.equal(state(undefined, unmarked), 'older', 'of a chart before there was a controller');
});

test('what is not known to be ours is not ours', () => {
  for (const labels of [
    undefined,
    null,
    {},
    { app: 'x' },
    { [versionLabel]: 'v1' },
    { [versionLabel]: 1 },
  ]) {
    assert.equal(state(labels), 'foreign', JSON.stringify(labels));
  }
  // Cilium took it over: it writes labels and spec as a whole, and by its label it would know it again.
  assert.equal(
    state({ [versionLabel]: '1', 'io.cilium.k8s.crd.schema.version': '1.32.9' }),
    'foreign',
  );
  const [version] = unmarked.versions;
  for (const versions of [
    [],
    'x',
    [null],
    [version, version],
    [{ ...version, schema: { openAPIV3Schema: { type: 'object' } } }],
  ]) {
    assert.equal(state(undefined, { versions }), 'foreign', JSON.stringify(versions));
  }
});

test("names of the kinds are Cilium's", () => {
  assert.deepEqual(
    definitions.map(({ name }) => name),
    [
      'ciliumnetworkpolicies.cilium.io',
      'ciliumclusterwidenetworkpolicies.cilium.io',
      'ciliumlocalredirectpolicies.cilium.io',
    ],
  );
});
