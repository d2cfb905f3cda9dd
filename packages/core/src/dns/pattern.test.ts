// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMatchName, parseMatchPattern, patternFromCanonical } from './pattern.ts';

test('canonical text', () => {
  const table: [string, string][] = [
    ['example.com', 'example.com.'],
    ['example.com.', 'example.com.'],
    ['EXAMPLE.Com', 'example.com.'],
    ['*', '*'],
    ['*.', '*'],
    ['**', '*'],
    ['***.', '*'],
    ['*.example.com', '*.example.com.'],
    ['**.example.com', '**.example.com.'],
    ['*****.example.com', '**.example.com.'],
    ['**example.com', '*example.com.'],
    ['a**b.com', 'a*b.com.'],
    ['x.**.y', 'x.*.y.'],
    ['x.**', 'x.*.'],
    ['**.**.y', '**.*.y.'],
    ['*.**.y', '*.*.y.'],
    ['.', '.'],
    ['.example.com', '.example.com.'],
    ['a..b', 'a..b.'],
    ['_x-1.y', '_x-1.y.'],
    ['**..', '**..'],
  ];
  for (const [text, want] of table) {
    const pattern = parseMatchPattern(text, 'toFQDNs');
    assert.deepEqual(pattern, { ok: true, value: { text: want, context: 'toFQDNs' } }, text);
    assert.deepEqual(patternFromCanonical(want, 'rules.dns'), { text: want, context: 'rules.dns' });
    if (text !== want) assert.equal(patternFromCanonical(text, 'toFQDNs'), null);
    if (text.includes('*')) continue;
    assert.deepEqual(
      parseMatchName(text, 'toFQDNs'),
      pattern,
      'a matchName is a pattern without stars',
    );
  }
});

test('errors are values that name the field', () => {
  const table: [string, string, string][] = [
    ['', 'empty', 'empty'],
    ['a b', 'bad-character', 'bad-character'],
    [' a', 'bad-character', 'bad-character'],
    ['a/b', 'bad-character', 'bad-character'],
    ['a\\.b', 'bad-character', 'bad-character'],
    ['ä.de', 'bad-character', 'bad-character'],
    ['[ab].de', 'bad-character', 'bad-character'],
    ['a\n', 'bad-character', 'bad-character'],
    ['\u212a.com', 'bad-character', 'bad-character'],
    ['a'.repeat(256), 'too-long', 'too-long'],
    ['*.a', 'bad-character', ''],
  ];
  for (const [text, forName, forPattern] of table) {
    const byName = parseMatchName(text, 'toFQDNs');
    assert.equal(byName.ok ? '' : byName.error.code, forName, text);
    if (!byName.ok) assert.match(byName.error.message, /^matchName /);
    const byPattern = parseMatchPattern(text, 'toFQDNs');
    assert.equal(byPattern.ok ? '' : byPattern.error.code, forPattern, text);
    if (!byPattern.ok) assert.match(byPattern.error.message, /^matchPattern /);
  }
  assert.equal(parseMatchName('a'.repeat(255), 'toFQDNs').ok, true);
});
