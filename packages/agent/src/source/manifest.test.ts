// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Objects of a file. For what kubectl reads in it see e2e/policy-oracle/network-policies.test.ts. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LineCounter } from 'yaml';
import { decodeManifest, isManifest, itemsOf, parseManifest } from './manifest.ts';
import { readDocuments } from './read-documents.ts';

const valuesOf = (text: string): unknown[] =>
  readDocuments('f.yaml', text).map(({ raw, damage }) => damage ?? raw);

test('names of files', () => {
  for (const name of ['a.yaml', 'a.yml', 'a.json']) assert.ok(isManifest(name), name);
  for (const name of ['.a.yaml', 'a.yaml~', 'a.txt', 'yaml']) assert.ok(!isManifest(name), name);
});

test('UTF-8 and UTF-16, with or without a mark of the byte order, also of a later document', () => {
  const text = 'a: ü\n';
  const little = Buffer.from(`\ufeff${text}`, 'utf16le');
  const big = Buffer.from(little).swap16();
  for (const bytes of [Buffer.from(text), Buffer.from(`\ufeff${text}`), little, big]) {
    assert.equal(decodeManifest(bytes), text);
  }
  assert.deepEqual(valuesOf('a: 1\r\n---\r\n\ufeffb: 2\r\n'), [{ a: 1 }, { b: 2 }]);
});

test('values are those of YAML 1.1, as for kubectl', () => {
  const text = 'a: yes\nb: 0120\nc: 8_080\nd: 2024-01-01\ne: 12:30\nf: "no"\n';
  const [value] = valuesOf(text);
  assert.deepEqual(value, { a: true, b: 80, c: 8080, d: '2024-01-01', e: '12:30', f: 'no' });
  assert.deepEqual(valuesOf('a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3\n'), [
    { a: { b: 1, c: 2 }, d: { b: 3, c: 2 } },
  ]);
});

test('what only looks like YAML is none', () => {
  const rows: readonly (readonly [text: string, problem: RegExp])[] = [
    ['a: 1\nname: {{ .Values.name }}\n', /^line 2 is no YAML: A key must be a text/],
    [
      'a: 1\nname: *.example.com\n',
      /^line 2 is no YAML: \*\.example\.com is an alias .* needs quotes$/,
    ],
    ['a: 1\nb: {c: 1, d: 2, c: 3}\n', /^line 2 is no YAML: Map keys must be unique/],
    [`a: ${'['.repeat(9_000)}${']'.repeat(9_000)}\n`, /it is nested too deeply$/],
    ['a: *x\nb: &x 1\n', /^line 1 is no YAML: \*x is an alias without its anchor/],
  ];
  for (const [text, problem] of rows) assert.match(String(valuesOf(text)[0]), problem);
});

test('lists are taken apart: empty, in each other, of a type, and once', () => {
  const policy = { metadata: { name: 'p' } };
  const items = (document: unknown): unknown[] => itemsOf(document).map(({ raw }) => raw);
  assert.deepEqual(items({ kind: 'List', items: null }), []);
  assert.deepEqual(items({ kind: 'List', items: [{ kind: 'List', items: [policy] }] }), [policy]);
  const list = { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicyList', items: [policy] };
  assert.deepEqual(items(list), [
    { apiVersion: 'networking.k8s.io/v1', kind: 'NetworkPolicy', ...policy },
  ]);
  assert.deepEqual(itemsOf({ kind: 'List', items: [1, list] })[1]?.path, ['items', 1, 'items', 0]);
  const nine = Array(9).fill('*b').join();
  const many = `kind: List\nitems:\n- &a {kind: List, items: [x]}\n- &b {kind: List, items: [*a, *a]}\n- {kind: List, items: [${nine}]}`;
  assert.deepEqual(valuesOf(many), ['x']);
  const own = `&a {kind: List, items: [x, ${Array(9).fill('*a').join()}]}`;
  assert.deepEqual(valuesOf(own), ['x']);
});

test('a document of very many levels costs itself alone, and what is read of it can be compared', () => {
  const policy = 'kind: NetworkPolicy\nmetadata: {name: p}\nspec: {podSelector: {}, x: ';
  for (const levels of [300, 600, 1_000, 1_500, 1_800, 1_900, 2_000, 2_100, 3_000, 20_000]) {
    for (const [open, close] of [
      ['[', ']'],
      ['{a: ', '}'],
    ] as const) {
      const deep = `${policy}${open.repeat(levels)}1${close.repeat(levels)}}\n---\na: 1\n`;
      const [first, second] = readDocuments('f.yaml', deep);
      const isDeep = levels > 512 || (levels > 256 && open !== '[');
      const what = `${levels} ${open}`;
      assert.equal(/it is nested too deeply$/.test(first?.damage ?? ''), isDeep, what);
      assert.deepEqual(second?.raw, { a: 1 }, what);
      assert.deepEqual(first, readDocuments('f.yaml', deep)[0], what);
    }
  }
});

test('whatever has items is a list, as to kubectl', () => {
  const policy = {
    apiVersion: 'cilium.io/v2',
    kind: 'CiliumNetworkPolicy',
    metadata: { name: 'p' },
  };
  const items = (document: unknown): unknown[] => itemsOf(document).map(({ raw }) => raw);
  assert.deepEqual(items({ kind: 'list', items: [policy] }), [policy]);
  for (const kind of ['Bundle', '', undefined]) {
    const bundle = { kind, metadata: { name: 'b' }, items: [policy] };
    assert.deepEqual(items(bundle), [bundle, policy], String(kind));
  }
  // A stray field must not take the policy itself away.
  const stray = { ...policy, items: [] };
  assert.deepEqual(items(stray), [stray]);
});

test('a mapping of very many keys costs no more than its length', () => {
  const keys = Array.from({ length: 100_000 }, (_, index) => `k${index}: 1`);
  const before = performance.now();
  const [document] = parseManifest(`a: {${keys.join(', ')}}\n`, new LineCounter());
  const ms = performance.now() - before;
  assert.deepEqual(document?.errors, []);
  // Compared with each other they take minutes.
  assert.ok(ms < 30_000, `${ms} ms`);
});

test('merges are bounded as aliases are', () => {
  const levels = Array.from(
    { length: 30 },
    (_, index) => `a${index + 1}: &a${index + 1}\n  <<: [*a${index}, *a${index}]\n  k${index}: 1`,
  );
  const [document] = parseManifest(`a0: &a0 {x: 1}\n${levels.join('\n')}\n`, new LineCounter());
  assert.deepEqual(document?.errors, []);
  assert.match(String(valuesOf(`a0: &a0 {x: 1}\n${levels.join('\n')}\n`)[0]), /alias/i);
});
