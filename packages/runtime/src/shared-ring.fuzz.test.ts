// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { createSharedRing, SharedRingReader, SharedRingWriter } from './shared-ring.ts';

const seed = 20_261_121;

type Step =
  | { readonly kind: 'write'; readonly length: number; readonly committed: number }
  | { readonly kind: 'abandon'; readonly length: number }
  | { readonly kind: 'drain'; readonly recordsMax: number };

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    fc.record({
      kind: fc.constant('write' as const),
      length: fc.integer({ min: 0, max: 600 }),
      committed: fc.integer({ min: 0, max: 600 }),
    }),
    fc.record({ kind: fc.constant('abandon' as const), length: fc.integer({ min: 0, max: 600 }) }),
    fc.record({ kind: fc.constant('drain' as const), recordsMax: fc.integer({ min: 0, max: 8 }) }),
  ),
  { maxLength: 200 },
);

/** Bytes of a record in the ring, by the documented layout. */
function sizeInRing(length: number): number {
  return 8 + Math.ceil(length / 8) * 8;
}

test(`the ring is a queue of what it took (seed ${seed})`, () => {
  const property = fc.property(steps, fc.integer({ min: 0, max: 127 }), (sequence, turns) => {
    const ring = createSharedRing(1024);
    const words = new Int32Array(ring);
    // Starts near the wrap of the positions, anywhere in the ring.
    words[0] = -4096 + turns * 8;
    words[16] = words[0];
    const writer = new SharedRingWriter(ring);
    const reader = new SharedRingReader(ring);
    const queue: { kind: number; length: number }[] = [];
    let refused = 0;
    sequence.forEach((step, index) => {
      if (step.kind === 'drain') {
        const expected = queue.splice(0, step.recordsMax);
        const seen: { kind: number; length: number }[] = [];
        reader.drain((kind, bytes, offset, length) => {
          assert.ok(
            bytes.subarray(offset, offset + length).every((byte) => byte === (kind & 0xff)),
          );
          seen.push({ kind, length });
        }, step.recordsMax);
        assert.deepEqual(seen, expected);
        return;
      }
      const offset = writer.reserve(index, step.length);
      if (offset < 0) {
        refused++;
        // Refused only for a reason: half the ring at most is lost to the wrap.
        const used = queue.reduce((sum, record) => sum + sizeInRing(record.length), 0);
        assert.ok(step.length > 504 || used + 2 * sizeInRing(step.length) > 512);
        return;
      }
      if (step.kind === 'abandon') return;
      const length = Math.min(step.committed, step.length);
      writer.bytes.fill(index & 0xff, offset, offset + length);
      assert.equal(writer.commit(length), true);
      queue.push({ kind: index, length });
    });
    assert.equal(reader.refused, refused);
    const rest: number[] = [];
    reader.drain((kind) => rest.push(kind), Number.POSITIVE_INFINITY);
    assert.deepEqual(
      rest,
      queue.map((record) => record.kind),
    );
    assert.equal(reader.usedBytes, 0);
  });
  fc.assert(property, { seed, numRuns: 500 });
});
