// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { PatternContext, type PolicySnapshot } from '@tandem/proto/gen/messages';
import { decodePolicySnapshot, encodePolicySnapshot } from '@tandem/proto/snapshot';
import { buildImage, completePatterns } from './build-image.ts';
import { decodeCompiled } from './compiled-matcher.ts';

const { PATTERN_CONTEXT_DNS_RULE: dns, PATTERN_CONTEXT_TO_FQDNS: fqdns } = PatternContext;

function snapshotOf(texts: readonly string[], context = dns): PolicySnapshot {
  const patterns = texts.map((text) => ({ text, context }));
  const indexes = texts.map((_, index) => index);
  const encoded = encodePolicySnapshot({
    revision: 1,
    patterns,
    ruleSets: [{ id: 1, patternIndexes: indexes, matchAll: false }],
    policies: [{ id: 1, servers: [{ server: new Uint8Array(16), protocol: 17, ruleSetId: 1 }] }],
  });
  assert.ok(encoded.ok);
  return decoded(encoded.value);
}

function decoded(bytes: Uint8Array): PolicySnapshot {
  const result = decodePolicySnapshot(bytes);
  assert.ok(result.ok);
  return result.value;
}

function completed(snapshot: PolicySnapshot): PolicySnapshot {
  const { compiledMatcher } = completePatterns(snapshot.patterns);
  const result = encodePolicySnapshot({ ...snapshot, compiledMatcher });
  assert.ok(result.ok);
  return decoded(result.value);
}

const texts = Array.from({ length: 200 }, (_, i) =>
  i % 2 === 0 ? `*.a${i}.test.` : `b${i}.test.`,
);

describe('the matcher in a snapshot', () => {
  test('is that which would be compiled', () => {
    const snapshot = snapshotOf(texts);
    const whole = completed(snapshot);
    const [compiled, read] = [buildImage(snapshot), buildImage(whole)];
    assert.equal(compiled.isPrecompiled, false);
    assert.equal(read.isPrecompiled, true);
    assert.deepEqual(read.image, compiled.image);
    assert.deepEqual({ ...whole, compiledMatcher: null }, { ...snapshot, compiledMatcher: null });
  });

  test('of other patterns, of another context or order, is not used', () => {
    const { compiledMatcher } = completed(snapshotOf(texts));
    for (const other of [
      snapshotOf(texts.slice(1)),
      snapshotOf([...texts.slice(0, -1), 'other.test.']),
      snapshotOf(texts.toReversed()),
      snapshotOf(texts, fqdns),
    ]) {
      assert.equal(decodeCompiled(other.patterns, compiledMatcher), null);
      const { isPrecompiled, image } = buildImage({ ...other, compiledMatcher });
      assert.equal(isPrecompiled, false);
      assert.deepEqual(image, buildImage(other).image);
    }
  });

  test('that is damaged anywhere, cut short or of another version is not used', () => {
    const { patterns, compiledMatcher } = completed(snapshotOf(texts));
    assert.ok(decodeCompiled(patterns, compiledMatcher) !== null);
    for (let at = 0; at < compiledMatcher.length; at += at < 64 ? 1 : 997) {
      const damaged = compiledMatcher.slice();
      damaged[at] = (damaged[at] ?? 0) ^ 0x40;
      assert.equal(decodeCompiled(patterns, damaged), null, `byte ${at}`);
    }
    for (const length of [0, 1, 35, 36, compiledMatcher.length - 1]) {
      assert.equal(decodeCompiled(patterns, compiledMatcher.slice(0, length)), null);
    }
  });
});
