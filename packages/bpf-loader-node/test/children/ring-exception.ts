// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors
//
// A callback that throws on the event loop: the process hears of it, and the ring goes on.

import assert from 'node:assert/strict';

import { BpfObject } from '../../src/object.ts';
import { RingBuffer } from '../../src/ringbuf.ts';
import { objectPath, u32 } from '../fixture.ts';

const object = BpfObject.open(objectPath('loader'));
object.load();
const emit = (): number => object.program('emit').runSyscall(u32(1, 0));
let calls = 0;
let caught = 0;

process.on('uncaughtException', (error) => {
  assert.match(error.message, /call 1/);
  caught += 1;
  emit();
});

const ring = new RingBuffer(object.map('events'), () => {
  calls += 1;
  if (calls === 1) throw new Error('call 1');
  // Microtasks run after the callback, as after any other.
  void Promise.resolve().then(() => ring.close());
});
emit();

process.on('exit', () => {
  assert.equal(calls, 2);
  assert.equal(caught, 1);
});
