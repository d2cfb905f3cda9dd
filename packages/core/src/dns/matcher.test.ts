// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { labels } from '../../test/dns-message.ts';
import { oracleMatches } from '../../test/pattern-oracle.ts';
import { type MatcherLimits, matcherLimits } from '../limits.ts';
import type { Matcher } from './matcher.ts';
import { compileMatcher } from './matcher-compile.ts';
import { nameFromText, nameToText } from './name.ts';
import { type Pattern, type PatternContext, parseMatchPattern } from './pattern.ts';
import { loadName, QueryView } from './query.ts';

const view = new QueryView({ low: 1, high: 2 });
/** Nothing is merged: every pattern is simulated. */
const simulateAll: MatcherLimits = { ...matcherLimits, trieNodesMax: 0 };
const both: [string, MatcherLimits][] = [
  ['merged', matcherLimits],
  ['simulated', simulateAll],
];

function pattern(text: string, context: PatternContext = 'toFQDNs'): Pattern {
  const parsed = parseMatchPattern(text, context);
  assert.ok(parsed.ok, text);
  return parsed.value;
}

function load(name: string | Uint8Array): void {
  const wire = typeof name === 'string' ? nameFromText(name) : name;
  assert.ok(wire !== null, String(name));
  assert.ok(loadName(view, wire, 0, wire.length));
}

function matched(matcher: Matcher, name: string | Uint8Array): number[] {
  load(name);
  const set = matcher.match(view);
  const { starts, members } = matcher.acceptSets;
  const got = [...members.slice(starts[set], starts[set + 1])];
  for (let i = 0; i < matcher.tables.patternCount; i++) {
    assert.equal(matcher.has(set, i), got.includes(i));
  }
  return got;
}

test('what a pattern matches', () => {
  const table: [string, string[], string[]][] = [
    [
      '*.cilium.io',
      ['sub.cilium.io', 'SUB.Cilium.io'],
      ['cilium.io', 'a.b.cilium.io', 'xcilium.io', 'io', '.'],
    ],
    [
      '**.cilium.io',
      ['a.cilium.io', 'a.b.cilium.io', 'a.b.c.d.cilium.io'],
      ['cilium.io', 'xcilium.io', 'io'],
    ],
    ['***.cilium.io', ['a.cilium.io', 'a.b.cilium.io'], ['cilium.io']],
    ['*cilium.io', ['cilium.io', 'xcilium.io', '-_cilium.io'], ['a.cilium.io', 'cilium.io.x']],
    ['**cilium.io', ['cilium.io', 'xcilium.io'], ['a.cilium.io']],
    ['sub*.com', ['sub.com', 'sub1.com', 'sub-x.com'], ['xsub.com', 'sub.a.com', 'su.com']],
    [
      'part*ial.com',
      ['partial.com', 'part-x-ial.com', 'partialial.com'],
      ['partal.com', 'part.ial.com'],
    ],
    ['a**b.com', ['ab.com', 'axxb.com'], ['a.b.com']],
    ['x.**.y', ['x.a.y'], ['x.y', 'x.a.b.y']],
    ['x.*.y', ['x.a.y'], ['x.y', 'x.a.b.y']],
    ['*.*', ['a.b'], ['a', 'a.b.c', '.']],
    ['**.*', ['a.b', 'a.b.c'], ['a', '.']],
    ['**.**.y', ['a.b.y', 'a.b.c.y'], ['a.y', 'y']],
    ['com', ['com', 'COM'], ['a.com', 'co', 'comm', '.']],
    ['.', ['.'], ['a', 'a.b']],
    ['*', ['.', 'a', 'a.b', '_x-1.y'], ['a\\032b', 'a\\.b', 'a\\255', 'a/b', 'a*b', 'a.b\\000']],
    ['*.', ['.', 'a.b'], ['a\\@']],
    ['.cilium.io', [], ['cilium.io', 'a.cilium.io', '.']],
    ['a..b', [], ['a.b', 'a.x.b']],
    ['**..', [], ['a', 'a.b', '.']],
    ['*.com', ['a.com'], ['a b.com'.replace(' ', '\\032'), 'a\\.b.com', 'a\\255.com', '\\*.com']],
    ['**.com', ['a.com'], ['a\\.b.com', 'a.b\\000.com', '\\*\\*.com']],
  ];
  for (const [how, limits] of both) {
    for (const [text, yes, no] of table) {
      const { matcher, rejected } = compileMatcher([pattern(text)], 0x5eed, limits);
      assert.deepEqual(rejected, []);
      for (const name of yes)
        assert.deepEqual(matched(matcher, name), [0], `${how} ${text} ${name}`);
      for (const name of no) assert.deepEqual(matched(matcher, name), [], `${how} ${text} ${name}`);
      for (const name of [...yes, ...no]) {
        load(name);
        assert.equal(
          oracleMatches(text, nameToText(view.name), false),
          yes.includes(name),
          `oracle ${text} ${name}`,
        );
      }
    }
  }
});

test('a bare star depends on where it stands', () => {
  const patterns = [
    pattern('*', 'rules.dns'),
    pattern('*'),
    pattern('*.com', 'rules.dns'),
    pattern('*.com'),
  ];
  for (const [, limits] of both) {
    const { matcher } = compileMatcher(patterns, 0x5eed, limits);
    assert.deepEqual(matched(matcher, 'a.com'), [0, 1, 2, 3]);
    assert.deepEqual(matched(matcher, 'com'), [0, 1]);
    assert.deepEqual(matched(matcher, '.'), [0, 1]);
    assert.deepEqual(matched(matcher, 'a\\032.com'), [0]);
    assert.deepEqual(matched(matcher, Uint8Array.from(labels([0], 'com'))), [0]);
    assert.deepEqual(matched(matcher, Uint8Array.from(labels('a.com'))), [0]);
  }
});

test('limits of names and labels', () => {
  const long = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`;
  const many = 'x.'.repeat(126) + 'y';
  const patterns = [
    long,
    many,
    `*.${long.slice(64)}`,
    `**.y`,
    '*a.**.*.*',
    `${'x.'.repeat(125)}*.y`,
  ].map((text) => pattern(text));
  for (const [, limits] of both) {
    const { matcher } = compileMatcher(patterns, 0x5eed, limits);
    assert.deepEqual(matched(matcher, long), [0, 2, 4]);
    assert.deepEqual(matched(matcher, many), [1, 3, 5]);
  }
});

test('all patterns of a name are found, whatever else there is', () => {
  const texts = [
    'a.b.c',
    '*.b.c',
    '**.c',
    '*.*.c',
    'a*.b.c',
    '*a.b.c',
    'a.*.c',
    '**.b.c',
    'a.b.*',
    'x.b.c',
    '*.b',
    'a.b.c',
  ];
  const { matcher, simulated } = compileMatcher(
    texts.map((text) => pattern(text)),
    0x5eed,
  );
  assert.equal(simulated, 0);
  assert.deepEqual(matched(matcher, 'a.b.c'), [0, 1, 2, 3, 4, 5, 6, 7, 8, 11]);
  assert.deepEqual(matched(matcher, 'x.b.c'), [1, 2, 3, 7, 9]);
  assert.deepEqual(matched(matcher, 'a.b'), [10]);
  assert.equal(matcher.match(view), matcher.match(view));
});

test('no patterns match nothing', () => {
  for (const [, limits] of both) {
    const { matcher } = compileMatcher([], 0x5eed, limits);
    for (const name of ['.', 'a', 'a.b', 'a\\000']) {
      assert.deepEqual(matched(matcher, name), []);
      assert.equal(matcher.match(view), 0);
    }
  }
});

test('patterns that explode are simulated, the others stay merged', () => {
  const hostile = Array.from(
    { length: 30 },
    (_, i) => `*${'abcdefghij'[i % 10]}*${'klmnopqrst'[(i * 3) % 10]}*${i}*.e.com`,
  );
  const benign = Array.from({ length: 500 }, (_, i) => `sub${i}*.dom${i % 50}.com`);
  const patterns = [...hostile, ...benign].map((text) => pattern(text));
  const before = performance.now();
  const { matcher, rejected, simulated, states } = compileMatcher(patterns, 0x5eed);
  assert.ok(performance.now() - before < 5000);
  assert.deepEqual(rejected, []);
  assert.ok(simulated >= 1 && simulated <= hostile.length, `${simulated}`);
  assert.ok(states < matcherLimits.statesFree + 4 * 10_000);
  assert.deepEqual(matched(matcher, 'sub7-x.dom7.com'), [30 + 7]);
  const name = 'aaabbbcccdddeeefffggghhhiiijjjkkklllmmmnnnoooppp0123456789.e.com';
  const want = patterns.flatMap((p, i) => (oracleMatches(p.text, `${name}.`, false) ? [i] : []));
  assert.ok(want.length > 5);
  assert.deepEqual(matched(matcher, name), want);
});

test('a set with simulated patterns is transient, the others are stable', () => {
  const limits = { ...matcherLimits, statesFree: 0, statesPerNode: 1 };
  const texts = ['*a*b*.com', '*b*c*.com', '*c*d*.com', '*.com', 'x.com'];
  const { matcher, simulated } = compileMatcher(
    texts.map((text) => pattern(text)),
    0x5eed,
    limits,
  );
  assert.ok(simulated > 0);
  assert.deepEqual(matched(matcher, 'x.com'), [3, 4]);
  assert.equal(matcher.isStable(matcher.match(view)), true);
  assert.deepEqual(matched(matcher, 'abcd.com'), [0, 1, 2, 3]);
  const set = matcher.match(view);
  assert.equal(matcher.isStable(set), false);
  assert.deepEqual(matched(matcher, 'cd.com'), [2, 3]);
  assert.equal(matcher.match(view), set, 'the next match overwrites it');
  assert.deepEqual(matched(matcher, 'abcd.com'), [0, 1, 2, 3]);
});

test('what has no room is rejected by name', () => {
  const limits = { ...simulateAll, simulationWordsMax: 1 };
  const texts = ['abcdefghij.com', 'x.com', 'abcdefghijklmnopq.com', 'yyyyyyyyyy.com'];
  const { matcher, rejected, simulated } = compileMatcher(
    texts.map((text) => pattern(text)),
    0x5eed,
    limits,
  );
  assert.equal(simulated, 2);
  assert.deepEqual(
    rejected.map(({ index, reason }) => [index, reason]),
    [
      [2, 'too-complex'],
      [3, 'too-complex'],
    ],
  );
  assert.deepEqual(matched(matcher, 'x.com'), [1]);
  assert.deepEqual(matched(matcher, 'yyyyyyyyyy.com'), []);
});

test('long patterns leave room for ordinary ones that come after them', () => {
  const limits = { ...matcherLimits, trieNodesMax: 1024, simulationWordsMax: 1 };
  // Ever shorter ones, so that they fill the last of the room.
  const long = Array.from({ length: 400 }, (_, i) => `${'a'.repeat(60 - (i >> 3))}.x${i}x`);
  const { matcher, rejected } = compileMatcher(
    [...long, 'api.example.com'].map((text) => pattern(text)),
    0x5eed,
    limits,
  );
  assert.ok(rejected.length > 0);
  assert.ok(rejected.every(({ index }) => index < long.length));
  assert.deepEqual(matched(matcher, 'api.example.com'), [long.length]);
});

test('long patterns that find no room leave the simulation to ordinary ones that are taken out later', () => {
  const short = ['a*b.c', 'a*d.c', 'a*e.c'];
  const long = `${'n'.repeat(50)}.test`;
  const limits = { ...matcherLimits, ...{ trieNodesMax: 20, statesPerNode: 0, statesFree: 1 } };
  const { rejected } = compileMatcher(
    [long, ...short].map((text) => pattern(text)),
    1,
    {
      ...limits,
      simulationWordsMax: 2,
    },
  );
  assert.deepEqual(
    rejected.map(({ index }) => index),
    [0],
  );
});

test('only simple patterns over the budget end as well', () => {
  const limits = { ...matcherLimits, setNodesMax: 200 };
  const texts = Array.from({ length: 40 }, (_, i) => `**.${'n.'.repeat(i)}com`);
  const { matcher, rejected, simulated } = compileMatcher(
    texts.map((text) => pattern(text)),
    0x5eed,
    limits,
  );
  assert.deepEqual(rejected, []);
  assert.ok(simulated > 0 && simulated < 40);
  assert.deepEqual(matched(matcher, 'n.n.com'), [0, 1]);
});
