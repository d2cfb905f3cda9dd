// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { TcpBlocks } from './blocks.ts';
import { frame, MessageReader } from './framing.ts';

const seed = 20251121;
const longestMessage = 65_535;

function readAll(reader: MessageReader): Uint8Array[] {
  const messages: Uint8Array[] = [];
  while (reader.peek()) {
    messages.push(reader.bytes.slice(reader.messageStart, reader.messageEnd));
    reader.take();
  }
  return messages;
}

const framed = (message: Uint8Array): Uint8Array => frame(message, 0, message.length);

/** Messages in a stream, and where the stream is cut. */
const streams = fc.tuple(
  fc.array(
    fc.oneof(
      fc.uint8Array({ maxLength: 40 }),
      fc.integer({ min: 500, max: 3000 }).map((length) => new Uint8Array(length).fill(length)),
    ),
    { maxLength: 12 },
  ),
  fc.array(fc.integer({ min: 1, max: 700 }), { minLength: 1, maxLength: 20 }),
);

function* cutUp(messages: readonly Uint8Array[], cuts: readonly number[]): Generator<Uint8Array> {
  const stream = Buffer.concat(messages.map(framed));
  for (let at = 0, i = 0; at < stream.length; i++) {
    const length = cuts[i % cuts.length]!;
    yield stream.subarray(at, at + length);
    at += length;
  }
}

test('messages come out as they went in, however the stream is cut', () => {
  fc.assert(
    fc.property(streams, ([messages, cuts]) => {
      const reader = new MessageReader(longestMessage, new TcpBlocks(64));
      const read: Uint8Array[] = [];
      for (const chunk of cutUp(messages, cuts)) {
        reader.push(chunk);
        read.push(...readAll(reader));
      }
      assert.deepEqual(read, messages);
      assert.ok(!reader.hasBegun);
      assert.equal(reader.held, 0);
    }),
    { seed, numRuns: 100 },
  );
});

test('messages over the limit come out cut, those behind them whole', () => {
  const limit = 600;
  fc.assert(
    fc.property(streams, fc.boolean(), ([messages, cuts], readsLate) => {
      const reader = new MessageReader(limit, new TcpBlocks(64));
      const read: [Uint8Array, boolean][] = [];
      const take = (): void => {
        while (reader.peek()) {
          read.push([reader.bytes.slice(reader.messageStart, reader.messageEnd), reader.isCut]);
          reader.take();
        }
      };
      for (const chunk of cutUp(messages, cuts)) {
        reader.push(chunk);
        if (!readsLate) take();
      }
      take();
      const wanted = messages.map((message) => [message.slice(0, limit), message.length > limit]);
      assert.deepEqual(read, wanted);
      assert.ok(!reader.hasBegun);
    }),
    { seed, numRuns: 100 },
  );
});

test('what is held of a long message is bounded by the limit', () => {
  const reader = new MessageReader(512, new TcpBlocks(64));
  let most = 0;
  for (const chunk of cutUp([new Uint8Array(60_000)], [300])) {
    reader.push(chunk);
    most = Math.max(most, reader.held);
    readAll(reader);
  }
  assert.ok(most <= 512 + 2 + 300, `${most}`);
});

test('length and id are known as soon as they have come', () => {
  const reader = new MessageReader(longestMessage, new TcpBlocks(64));
  assert.deepEqual([reader.nextLength, reader.nextId], [-1, -1]);
  reader.push(Uint8Array.of(0));
  assert.ok(reader.hasBegun);
  reader.push(Uint8Array.of(3, 0x12));
  assert.deepEqual([reader.nextLength, reader.nextId], [3, -1]);
  reader.push(Uint8Array.of(0x34));
  assert.deepEqual([reader.nextLength, reader.nextId], [3, 0x1234]);
  assert.ok(!reader.peek());
  reader.push(Uint8Array.of(9));
  assert.deepEqual(readAll(reader), [Uint8Array.of(0x12, 0x34, 9)]);
});

test('the longest message and the empty one', () => {
  const reader = new MessageReader(longestMessage, new TcpBlocks(64));
  const longest = new Uint8Array(longestMessage).fill(7);
  reader.push(framed(longest));
  reader.push(framed(new Uint8Array()));
  assert.deepEqual(readAll(reader), [longest, new Uint8Array()]);
});
