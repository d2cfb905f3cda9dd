// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A message between guard octets, in an array that fails the test on any access outside of it and
 * counts reads: bounds of memory and of work are asserted, not assumed.
 */

import assert from 'node:assert/strict';

export interface GuardedBytes {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  /** Elements that were read so far. */
  reads(): number;
}

/** A trapping array. Slow: for corpora. */
export function trapped(message: Uint8Array, guard = 7): GuardedBytes {
  const padded = new Uint8Array(message.length + guard * 2).fill(0xc0);
  padded.set(message, guard);
  const end = guard + message.length;
  let reads = 0;
  const bytes = new Proxy(padded, {
    get(target, property) {
      const index = typeof property === 'string' ? Number(property) : Number.NaN;
      if (Number.isNaN(index)) return Reflect.get(target, property, target) as unknown;
      assert.ok(index >= guard && index < end, `read at ${index - guard} of ${message.length}`);
      reads++;
      return target[index];
    },
  });
  return { bytes, start: guard, end, reads: () => reads };
}

/** The message between guards of `octet`: the outcome must not depend on `octet`. Fast. */
export function surrounded(message: Uint8Array, octet: number, guard = 16): GuardedBytes {
  const bytes = new Uint8Array(message.length + guard * 2).fill(octet);
  bytes.set(message, guard);
  return { bytes, start: guard, end: guard + message.length, reads: () => 0 };
}
