// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseMatchPattern } from '@tandem/core/dns/pattern';
import { starHints } from './pattern-hints.ts';

const specWith = (matchPattern: string) => ({
  egress: [
    { toFQDNs: [{ matchPattern }] },
    { toPorts: [{ rules: { dns: [{ matchPattern: 'a' }, { matchPattern }] } }] },
  ],
});
const paths = ['spec.egress[0].toFQDNs[0]', 'spec.egress[1].toPorts[0].rules.dns[1]'];

for (const [pattern, meant] of [
  ['api.**.example.com', 'api.*.example.com'],
  ['**example.com', '*example.com'],
  ['a***.example.com', 'a*.example.com'],
] as const) {
  test(`${pattern} matches as ${meant}`, () => {
    const hints = starHints('spec', specWith(pattern));
    assert.deepEqual(
      hints.map(({ path }) => path),
      paths.map((path) => `${path}.matchPattern`),
    );
    for (const { message } of hints) assert.ok(message.includes(`matches as "${meant}"`), message);
    assert.deepEqual(textOf(pattern), textOf(meant));
  });
}

test('a bare star has a hint in toFQDNs alone', () => {
  for (const pattern of ['*', '**', '*.']) {
    const [hint, ...more] = starHints('spec', specWith(pattern));
    assert.deepEqual([hint?.path, more], [`${paths[0]}.matchPattern`, []], pattern);
    assert.match(hint?.message ?? '', /every address that any answer .*toEntities: \[world\]/);
  }
});

test('leading stars of several labels have no hint', () => {
  for (const pattern of ['**.example.com', '***.example.com', '*.*.example.com']) {
    assert.deepEqual(starHints('spec', specWith(pattern)), [], pattern);
  }
});

/** The canonical text, by which the matcher knows the pattern. */
function textOf(pattern: string): string {
  const parsed = parseMatchPattern(pattern, 'toFQDNs');
  assert.ok(parsed.ok);
  return parsed.value.text;
}
