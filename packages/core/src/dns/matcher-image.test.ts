// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { matcherLimits } from '../limits.ts';
import { compileMatcher } from './matcher-compile.ts';
import { decodeMatcher, encodeMatcher } from './matcher-image.ts';
import { type Pattern, parseMatchPattern } from './pattern.ts';

const patterns = ['*.a.b', 'a*b.c', '*a*b*.c'].map((text): Pattern => {
  const parsed = parseMatchPattern(text, 'toFQDNs');
  assert.ok(parsed.ok);
  return parsed.value;
});
const image = encodeMatcher(
  compileMatcher(patterns, 0x5eed, { ...matcherLimits, statesFree: 0, statesPerNode: 1 }).matcher,
);

function changed(word: number, value: number): Uint8Array {
  const bytes = image.slice();
  new DataView(bytes.buffer).setInt32(word * 4, value, true);
  return bytes;
}

test('the image does not depend on the seed', () => {
  for (const seed of [0, 1, -1]) {
    const { matcher } = compileMatcher(patterns, seed);
    assert.deepEqual(
      encodeMatcher(matcher),
      encodeMatcher(compileMatcher(patterns, 0x5eed).matcher),
    );
  }
});

test('decode after encode is the matcher', () => {
  const decoded = decodeMatcher(image);
  assert.ok(decoded.ok);
  assert.deepEqual(encodeMatcher(decoded.value), image);
  const unaligned = Uint8Array.from([1, ...image]).subarray(1);
  assert.equal(decodeMatcher(unaligned).ok, true);
});

test('an image is refused for the first thing that is wrong', () => {
  const tableAt = 11;
  const table: [string, Uint8Array, string][] = [
    ['empty', new Uint8Array(0), 'not-an-image'],
    ['magic', changed(0, 1), 'not-an-image'],
    ['version', changed(1, 2), 'unknown-version'],
    ['negative size', changed(6, -1), 'corrupt'],
    ['size', changed(6, 1), 'wrong-length'],
    ['huge size', changed(9, 0x7fffffff), 'wrong-length'],
    ['cut', image.slice(0, -4), 'wrong-length'],
    ['odd length', image.slice(0, -1), 'not-an-image'],
    ['too many patterns', changed(2, 1 << 20), 'corrupt'],
    ['root outside', changed(3, 1 << 20), 'corrupt'],
    ['set outside', changed(4, 1 << 20), 'corrupt'],
    ['next state outside', changed(tableAt, ((1 << 20) << 6) | 5), 'corrupt'],
    ['unknown slot', changed(tableAt, 50), 'corrupt'],
    ['accept set outside', changed(tableAt, ((1 << 20) << 6) | 63), 'corrupt'],
  ];
  for (const [what, bytes, want] of table) {
    const decoded = decodeMatcher(bytes);
    assert.equal(decoded.ok ? 'ok' : decoded.error, want, what);
  }
});
