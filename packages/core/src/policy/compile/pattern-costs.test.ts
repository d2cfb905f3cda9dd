// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { compileMatcher } from '../../dns/matcher-compile.ts';
import { type Pattern, type PatternContext, parseMatchPattern } from '../../dns/pattern.ts';
import { ordinaryPatterns, random } from '../../dns/patterns.bench.ts';
import {
  matcherLimits,
  matcherPatternsMax,
  patternCharsMax,
  patternNodesMax,
  patternNodesMin,
} from '../../limits.ts';
import { patternNodes, patternNodesMost } from './pattern-costs.ts';

const slack = matcherLimits.trieNodesMax - patternNodesMax;

function pattern(text: string, context: PatternContext = 'toFQDNs'): Pattern {
  const parsed = parseMatchPattern(text, context);
  assert.ok(parsed.ok, text);
  return parsed.value;
}

test('a matcher has room for every pattern that is counted', () => {
  const many = ordinaryPatterns(2000);
  for (const patterns of [many, many.slice(0, 300), [pattern('*'), pattern('a.b'), pattern('.')]]) {
    const nodes = patternNodes(patterns);
    assert.ok(nodes <= patternNodesMost(patterns));
    const { rejected } = compileMatcher(patterns, 1, {
      ...matcherLimits,
      trieNodesMax: nodes + slack,
    });
    assert.deepEqual(rejected, []);
  }
});

test('patterns share the nodes of one end, and count for some however short they are', () => {
  const one = patternNodes([pattern('api.example.com')]);
  assert.equal(one, 'api.example.com'.length + 1);
  assert.equal(
    patternNodes([pattern('api.example.com'), pattern('api.example.com', 'rules.dns')]),
    one,
  );
  assert.equal(patternNodes([pattern('api.example.com'), pattern('apx.example.com')]), one + 3);
  assert.equal(patternNodes(Array.from({ length: 9 }, () => pattern('*'))), 9 * patternNodesMin);
  const next = random(1);
  const letter = (): string => String.fromCharCode(97 + next(26));
  const texts = Array.from({ length: 4000 }, () => Array.from({ length: 250 }, letter).join(''));
  const far = texts.map((text) => pattern(text));
  assert.ok(patternNodes(far) > 3 * patternNodesMax);
  assert.ok(patternNodes(far) <= patternNodesMost(far));
});

test('patterns that count for no more than the limit are no more than a matcher takes', () => {
  assert.ok(patternNodesMax / patternNodesMin <= matcherPatternsMax);
  assert.ok(slack > patternCharsMax);
});
