// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tcpBlockBytesMin, tcpMessageBytesMax } from '../limits.ts';
import { TcpBlocks } from './blocks.ts';
import { frame, MessageReader } from './framing.ts';

const largest = tcpMessageBytesMax + 2;

test('a block that was given back is taken again, one of two owners at a time', () => {
  const blocks = new TcpBlocks();
  const first = blocks.take(largest);
  const second = blocks.take(largest);
  assert.notEqual(first.buffer, second.buffer);
  // A part of it stands for all of it.
  blocks.giveBack(first.subarray(100, 200));
  assert.equal(blocks.take(largest).buffer, first.buffer);
  assert.notEqual(blocks.take(largest).buffer, first.buffer);
});

test('a block holds what was asked for, in twice as much at most', () => {
  const blocks = new TcpBlocks();
  for (let octets = 1; octets <= largest; octets += 97) {
    const { length } = blocks.take(octets);
    assert.ok(length >= octets && length <= 2 * octets, `${length} for ${octets}`);
  }
  assert.equal(blocks.take(largest + 1).length, largest + 1);
});

test('what is no block is not taken for one', () => {
  const blocks = new TcpBlocks();
  const short = blocks.take(10);
  const foreign = new Uint8Array(tcpBlockBytesMin);
  const longer = blocks.take(largest + 1);
  for (const bytes of [short, foreign, longer, Buffer.from('pooled'), new Uint8Array()])
    blocks.giveBack(bytes);
  for (const octets of [10, tcpBlockBytesMin, largest + 1]) {
    const { buffer } = blocks.take(octets);
    assert.ok(![short, foreign, longer].some((bytes) => bytes.buffer === buffer));
  }
});

test('so many free blocks of a size are kept, and no more', () => {
  const kept = 2;
  const blocks = new TcpBlocks(tcpBlockBytesMin, kept);
  const taken = Array.from({ length: 5 }, () => blocks.take(largest));
  for (const block of taken) blocks.giveBack(block);
  const again = taken.map(() => blocks.take(largest).buffer);
  assert.equal(
    again.filter((buffer) => taken.some((block) => block.buffer === buffer)).length,
    kept,
  );
});

test('a reader gives its block back when the message is taken, and when it is released', () => {
  const blocks = new TcpBlocks();
  const message = frame(new Uint8Array(tcpMessageBytesMax).fill(7), 0, tcpMessageBytesMax);
  const reader = new MessageReader(tcpMessageBytesMax, blocks);
  for (let at = 0; at < message.length; at += 8192) reader.push(message.subarray(at, at + 8192));
  assert.ok(reader.peek());
  const { buffer } = reader.bytes;
  assert.notEqual(blocks.take(largest).buffer, buffer);
  reader.take();
  assert.equal(blocks.take(largest).buffer, buffer);
  blocks.giveBack(new Uint8Array(buffer));

  reader.push(message.subarray(0, 8192));
  const begun = reader.bytes;
  assert.ok(reader.hasBegun);
  reader.release();
  assert.ok(!reader.hasBegun);
  assert.equal(blocks.take(begun.length).buffer, begun.buffer);
});
