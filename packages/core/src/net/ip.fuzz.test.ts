// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { isIP } from 'node:net';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  formatAddress,
  formatPrefix,
  parseAddress,
  parsePrefix,
  prefixContains,
  prefixOf,
} from './ip.ts';

const options = { seed: 20261121, numRuns: 5_000 };
const bytes = fc.oneof(
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  fc
    .uint8Array({ minLength: 4, maxLength: 4 })
    .map((quad) => Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ...quad)),
  fc
    .array(fc.constantFrom(0, 0, 0, 1, 255), { minLength: 16, maxLength: 16 })
    .map((list) => Uint8Array.from(list)),
);

test('formatting and parsing are inverse', () => {
  fc.assert(
    fc.property(bytes, (address) => {
      const text = formatAddress(address);
      assert.notEqual(isIP(text), 0, text);
      assert.deepEqual(parseAddress(text), address);
    }),
    options,
  );
});

test('parseAddress accepts nothing that Node refuses', () => {
  const text = fc.string({
    unit: fc.constantFrom(':', ':', '.', '0', '1', 'f', '25', '%'),
    maxLength: 24,
  });
  fc.assert(
    fc.property(text, (candidate) => {
      if (parseAddress(candidate) !== null) assert.notEqual(isIP(candidate), 0, candidate);
      else assert(isIP(candidate) === 0 || candidate.includes('%'), candidate);
    }),
    { ...options, numRuns: 20_000 },
  );
});

test('a prefix holds exactly the addresses that share its bits', () => {
  fc.assert(
    fc.property(bytes, bytes, fc.integer({ min: 0, max: 128 }), (left, right, bits) => {
      const prefix = prefixOf(left, bits);
      const shares = binary(left).slice(0, bits) === binary(right).slice(0, bits);
      const sameFamily =
        (bits >= 96 && binary(left).startsWith(mapped)) === binary(right).startsWith(mapped);
      assert.equal(prefixContains(prefix, right), shares && sameFamily);
      const reparsed = parsePrefix(formatPrefix(prefix));
      // ::ffff:0:0/90 has no text that is not read as mapped space.
      if (reparsed !== null) assert.deepEqual(reparsed, prefix);
    }),
    options,
  );
});

const mapped = '0'.repeat(80) + '1'.repeat(16);

function binary(address: Uint8Array): string {
  return [...address].map((byte) => byte.toString(2).padStart(8, '0')).join('');
}
