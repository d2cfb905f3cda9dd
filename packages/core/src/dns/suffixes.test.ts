// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { labels } from '../../test/dns-message.ts';
import { nameSuffixesMax } from '../limits.ts';
import { nameFromText } from './name.ts';
import { loadName, QueryView } from './query.ts';
import { NameSuffixes } from './suffixes.ts';

const seed = 20251121;
const view = new QueryView({ low: 1, high: 2 });
const load = (wire: ArrayLike<number>): QueryView => {
  const bytes = Uint8Array.from(wire);
  assert.ok(loadName(view, bytes, 0, bytes.length));
  return view;
};
const wireOf = (text: string): Uint8Array => {
  const wire = nameFromText(text);
  assert.ok(wire !== null);
  return wire;
};

test('a name lies in a suffix when its last labels are those of the suffix', () => {
  const suffixes = new NameSuffixes([wireOf('cluster.local'), wireOf('corp.example.com.')]);
  assert.equal(suffixes.size, 2);
  const table: [string, boolean][] = [
    ['www.allowed.test.default.svc.cluster.local', true],
    ['cluster.local', true],
    ['CLUSTER.Local', true],
    ['xcluster.local', false],
    ['local', false],
    ['cluster.local.test', false],
    ['a.corp.example.com', true],
    ['a.example.com', false],
    ['.', false],
  ];
  for (const [name, want] of table) {
    assert.equal(suffixes.matches(load(wireOf(name))), want, name);
  }
});

test('the octets of a suffix inside of a label are no suffix', () => {
  const suffixes = new NameSuffixes([wireOf('cluster.local')]);
  const inside = [120, 7, ...Array.from('cluster', (c) => c.charCodeAt(0))];
  assert.equal(suffixes.matches(load(labels(inside, 'local'))), false);
});

test('the root, what is no name and what is over the limit are left out', () => {
  assert.equal(new NameSuffixes([]).matches(load(wireOf('a.b'))), false);
  const broken = [Uint8Array.of(0), Uint8Array.of(), Uint8Array.of(1, 97), Uint8Array.of(0, 0)];
  assert.equal(new NameSuffixes(broken).size, 0);
  const many = Array.from({ length: nameSuffixesMax + 1 }, (_, i) => wireOf(`s${i}.test`));
  const suffixes = new NameSuffixes(many);
  assert.equal(suffixes.size, nameSuffixesMax);
  assert.equal(suffixes.matches(load(wireOf(`s${nameSuffixesMax - 1}.test`))), true);
  assert.equal(suffixes.matches(load(wireOf(`s${nameSuffixesMax}.test`))), false);
});

test('labels are compared, as an oracle over lists of labels does', () => {
  // Few labels, some of which look like the wire form of others.
  const label = fc.constantFrom<number[]>([97], [98], [97, 1, 98], [1, 98], [97, 97]);
  const name = fc.array(label, { minLength: 1, maxLength: 4 });
  const wire = (parts: readonly (readonly number[])[]): Uint8Array =>
    Uint8Array.from(labels(...parts));
  const text = (parts: readonly (readonly number[])[]): string => JSON.stringify(parts);
  const check = (asked: number[][], given: number[][][]): void => {
    const want = given.some((suffix) => text(asked.slice(-suffix.length)) === text(suffix));
    assert.equal(new NameSuffixes(given.map(wire)).matches(load(wire(asked))), want);
  };
  fc.assert(fc.property(name, fc.array(name, { maxLength: 3 }), check), { seed, numRuns: 5000 });
});
