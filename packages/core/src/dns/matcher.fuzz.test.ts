// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { labels } from '../../test/dns-message.ts';
import { oracleMatches } from '../../test/pattern-oracle.ts';
import { type MatcherLimits, matcherLimits } from '../limits.ts';
import type { Matcher } from './matcher.ts';
import { compileMatcher } from './matcher-compile.ts';
import { decodeMatcher, encodeMatcher } from './matcher-image.ts';
import { nameFromText, nameToText } from './name.ts';
import { type Pattern, parseMatchPattern } from './pattern.ts';
import { nameFor, ordinaryPatterns, random } from './patterns.bench.ts';
import { loadName, QueryView } from './query.ts';

const seed = 20251121;
const view = new QueryView({ low: 1, high: 2 });

/** From everything merged to everything simulated. */
const budgets: MatcherLimits[] = [
  matcherLimits,
  { ...matcherLimits, statesFree: 20, statesPerNode: 1 },
  { ...matcherLimits, statesFree: 0, statesPerNode: 2, trieNodesMax: 40 },
  { ...matcherLimits, trieNodesMax: 0 },
  { ...matcherLimits, setWorkMax: 300, acceptMembersMax: 20 },
];

/** A small alphabet, so that names and patterns meet. */
const characters = fc.constantFrom('a', 'b', 'A', '1', '-', '_');
const label = fc.string({ unit: characters, minLength: 1, maxLength: 5 });
const glob = fc.string({ unit: fc.oneof(characters, fc.constant('*')), maxLength: 5 });
const patternText = fc.oneof(
  fc.array(glob, { minLength: 1, maxLength: 4 }).map((parts) => parts.join('.')),
  fc.array(label, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('.')),
  fc
    .tuple(fc.constantFrom('*.', '**.', '***.', '*', '**'), fc.array(glob, { maxLength: 3 }))
    .map(([head, parts]) => head + parts.join('.')),
  fc.constantFrom('*', '**', '*.', '.', '..', '**..', '*.*', 'a.**.b'),
);
const rawPattern = fc.tuple(patternText, fc.boolean()).filter(([text]) => text.length > 0);
/** Labels of ordinary characters and, now and then, of any octets. */
const rawName = fc
  .array(
    fc.oneof(
      { weight: 12, arbitrary: label.map((text) => [...text].map((c) => c.charCodeAt(0))) },
      {
        weight: 1,
        arbitrary: fc.uint8Array({ minLength: 1, maxLength: 4 }).map((octets) => [...octets]),
      },
      {
        weight: 1,
        arbitrary: fc.constantFrom([0x2e], [0x61, 0x2e, 0x62], [0x2a], [0xff], [0], [0x20]),
      },
    ),
    { maxLength: 5 },
  )
  .map((parts) => Uint8Array.from(labels(...parts)));

function parsed(text: string, isRulesDns: boolean): Pattern {
  const pattern = parseMatchPattern(text, isRulesDns ? 'rules.dns' : 'toFQDNs');
  assert.ok(pattern.ok);
  return pattern.value;
}

function matched(matcher: Matcher, name: Uint8Array): number[] {
  assert.ok(loadName(view, name, 0, name.length));
  const set = matcher.match(view);
  return [
    ...matcher.acceptSets.members.slice(
      matcher.acceptSets.starts[set],
      matcher.acceptSets.starts[set + 1],
    ),
  ];
}

/** Every matcher that is made of the patterns agrees with the oracle on every name. */
function checkAll(raw: readonly [string, boolean][], names: readonly Uint8Array[]): void {
  const patterns = raw.map(([text, isRulesDns]) => parsed(text, isRulesDns));
  const wants = names.map((name) => {
    const text = nameToText(name);
    return raw.flatMap(([pattern, isRulesDns], i) =>
      oracleMatches(pattern, text, isRulesDns) ? [i] : [],
    );
  });
  for (const limits of budgets) {
    const { matcher, rejected } = compileMatcher(patterns, 0x5eed, limits);
    assert.deepEqual(rejected, []);
    const copy = decodeMatcher(encodeMatcher(matcher));
    assert.ok(copy.ok);
    for (const [i, name] of names.entries()) {
      assert.deepEqual(matched(matcher, name), wants[i]);
      assert.deepEqual(matched(copy.value, name), wants[i]);
    }
  }
}

test('matchers equal the oracle on random patterns and names', () => {
  const sets = fc.array(rawPattern, { maxLength: 12 });
  const names = fc.array(rawName, { minLength: 1, maxLength: 12 });
  fc.assert(fc.property(sets, names, checkAll), { seed, numRuns: 1500 });
});

test('matchers equal the oracle on patterns that explode', () => {
  const letter = fc.constantFrom('a', 'b', '1');
  const infix = fc
    .tuple(letter, letter, letter, fc.constantFrom('', '.a', '.*', '.*b*'))
    .map(([x, y, z, end]): [string, boolean] => [`*${x}*${y}*${z}*${end}`, false]);
  const sets = fc.array(infix, { minLength: 8, maxLength: 24 });
  const names = fc.array(rawName, { minLength: 8, maxLength: 16 });
  fc.assert(fc.property(sets, names, checkAll), { seed, numRuns: 60 });
});

test('10,000 ordinary patterns: compiled in time and space, equal to the oracle', () => {
  const patterns = ordinaryPatterns(10_000);
  // CPU time: on a busy machine the wall clock says nothing of the compiler.
  const before = process.cpuUsage();
  const { matcher, rejected, simulated } = compileMatcher(patterns, 0x5eed);
  assert.ok(process.cpuUsage(before).user / 1000 < 5000);
  assert.deepEqual([rejected, simulated], [[], 0]);
  assert.ok(matcher.byteLength < 6 * 1024 * 1024);
  const next = random(seed);
  for (let i = 0; i < 40; i++) {
    const index = next(patterns.length);
    let text = nameFor(patterns[index] as Pattern, next);
    // Half of the names are near misses.
    if (i % 2 === 1) text = text.replace(/[a-z]/, 'z');
    const wire = nameFromText(text);
    assert.ok(wire !== null);
    const want = patterns.flatMap((p, at) =>
      oracleMatches(p.text, `${text}.`, false) ? [at] : [],
    );
    assert.deepEqual(matched(matcher, wire), want, text);
  }
});

test('any patterns compile within their budget (T21)', () => {
  const check = (raw: [string, boolean][]): void => {
    const before = process.cpuUsage();
    const { matcher, states } = compileMatcher(
      raw.map(([text, isRulesDns]) => parsed(text, isRulesDns)),
      0x5eed,
    );
    assert.ok(process.cpuUsage(before).user / 1000 < 1000);
    assert.ok(
      states <= matcherLimits.statesFree + matcherLimits.statesPerNode * matcherLimits.trieNodesMax,
    );
    assert.ok(matcher.byteLength < 8 * 1024 * 1024);
  };
  const sets = fc.array(rawPattern, { minLength: 20, maxLength: 100, size: 'max' });
  fc.assert(fc.property(sets, check), { seed, numRuns: 60 });
});

test('an image that was changed is refused or stays inside its arrays', () => {
  const patterns = ['*.a.b', 'a*b.c', '**.d', '*', '*a*b*'].map((text) => parsed(text, true));
  const image = encodeMatcher(
    compileMatcher(patterns, 0x5eed, { ...matcherLimits, statesFree: 0, statesPerNode: 1 }).matcher,
  );
  const check = (changes: [number, number][], cut: number | undefined, name: Uint8Array): void => {
    const bytes = image.slice(0, cut);
    for (const [at, octet] of changes) if (at < bytes.length) bytes[at] = octet;
    const decoded = decodeMatcher(bytes);
    if (!decoded.ok) return;
    for (const member of matched(decoded.value, name)) assert.ok(member < patterns.length);
  };
  const changes = fc.array(fc.tuple(fc.nat(image.length), fc.nat(255)), { maxLength: 3 });
  const cut = fc.option(fc.nat(image.length), { nil: undefined });
  fc.assert(fc.property(changes, cut, rawName, check), { seed, numRuns: 3000 });
});
