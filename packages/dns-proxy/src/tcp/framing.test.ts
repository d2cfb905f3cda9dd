// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { frame, MessageReader } from './framing.ts';

const seed = 20251121;

function readAll(reader: MessageReader): Uint8Array[] {
  const messages: Uint8Array[] = [];
  for (let next = reader.next(); next !== null; next = reader.next()) messages.push(next);
  return messages;
}

test('messages come out as they went in, however the stream is cut', () => {
  const message = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.integer({ min: 500, max: 3000 }).map((length) => new Uint8Array(length).fill(length)),
  );
  fc.assert(
    fc.property(
      fc.array(message, { maxLength: 12 }),
      fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 20 }),
      (messages, cuts) => {
        const stream = Buffer.concat(messages.map(frame));
        const reader = new MessageReader();
        const read: Uint8Array[] = [];
        for (let at = 0, i = 0; at < stream.length; i++) {
          const length = cuts[i % cuts.length] as number;
          reader.push(stream.subarray(at, at + length));
          at += length;
          read.push(...readAll(reader));
        }
        assert.deepEqual(read, messages);
        assert.ok(!reader.isPartial);
      },
    ),
    { seed, numRuns: 100 },
  );
});

test('the longest message, the empty one, and what is only begun', () => {
  const reader = new MessageReader();
  const longest = new Uint8Array(65_535).fill(7);
  reader.push(frame(longest));
  reader.push(frame(new Uint8Array()));
  reader.push(Uint8Array.of(0));
  assert.deepEqual(readAll(reader), [longest, new Uint8Array()]);
  assert.ok(reader.isPartial);
  reader.push(Uint8Array.of(2, 9));
  assert.deepEqual(readAll(reader), []);
  reader.push(Uint8Array.of(8));
  assert.deepEqual(readAll(reader), [Uint8Array.of(9, 8)]);
  assert.ok(!reader.isPartial);
});

test('a message is a copy: what comes later does not change it', () => {
  const reader = new MessageReader();
  reader.push(frame(Uint8Array.of(1, 2, 3)));
  const first = reader.next();
  reader.push(frame(Uint8Array.of(4, 5, 6)));
  reader.next();
  assert.deepEqual(first, Uint8Array.of(1, 2, 3));
});
