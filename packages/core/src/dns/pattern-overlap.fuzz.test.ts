// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { anchoredExpression } from '../../test/pattern-oracle.ts';
import { type Pattern, parseMatchPattern } from './pattern.ts';
import { patternsOverlap } from './pattern-overlap.ts';

function pattern(text: string): Pattern {
  const parsed = parseMatchPattern(text, 'toFQDNs');
  assert.ok(parsed.ok, text);
  return parsed.value;
}

test('a table', () => {
  const rows: readonly (readonly [one: string, other: string, overlap: boolean])[] = [
    ['example.com', 'example.com', true],
    ['example.com', 'EXAMPLE.com.', true],
    ['example.com', 'example.org', false],
    ['*.example.com', 'api.example.com', true],
    ['*.example.com', 'example.com', false],
    ['*.example.com', 'a.b.example.com', false],
    ['**.example.com', 'a.b.example.com', true],
    ['**.example.com', 'example.com', false],
    ['*', 'example.com', true],
    ['a*.example.com', '*b.example.com', true],
    ['a*c.example.com', '*b*.example.com', true],
    ['a*.example.com', 'b*.example.com', false],
    ['*.*.com', '**.example.com', true],
    ['*.com', '**.example.com', false],
    ['a.*', '*.b', true],
    ['api.*.com', '*.example.*', true],
    ['api.*.com', 'www.example.*', false],
  ];
  for (const [one, other, overlap] of rows) {
    assert.equal(patternsOverlap(pattern(one), pattern(other)), overlap, `${one} ${other}`);
    assert.equal(patternsOverlap(pattern(other), pattern(one)), overlap, `${other} ${one}`);
  }
});

/** All names of up to three labels of up to three of two letters: what the patterns below can share, they share there. */
const labels = ['', 'a', 'b'].flatMap((first) =>
  ['', 'a', 'b'].flatMap((second) => ['a', 'b'].map((third) => first + second + third)),
);
const distinct = [...new Set(labels)];
const names = [
  ...distinct,
  ...distinct.flatMap((first) => distinct.map((second) => `${first}.${second}`)),
  ...distinct.flatMap((first) =>
    distinct.flatMap((second) => distinct.map((third) => `${first}.${second}.${third}`)),
  ),
].map((name) => `${name}.`);
const part = fc.string({ unit: fc.constantFrom('a', 'b', '*'), minLength: 1, maxLength: 2 });
const text = fc
  .tuple(fc.constantFrom('', '**.'), fc.array(part, { minLength: 1, maxLength: 2 }))
  .map(([head, parts]) => head + parts.join('.'))
  .filter((each) => !/^\*+$/.test(each));

test('patterns overlap where a name matches both, and nowhere else', () => {
  fc.assert(
    fc.property(text, text, (one, other) => {
      const [a, b] = [anchoredExpression(one), anchoredExpression(other)];
      const shared = names.find((name) => a.test(name) && b.test(name));
      assert.equal(patternsOverlap(pattern(one), pattern(other)), shared !== undefined, shared);
    }),
    { numRuns: 1500 },
  );
});
