// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdLearnOp } from '@tandem/datapath/abi.gen';
import { type KernelMaps, loadKernelMaps } from '../../test/kernel-maps.ts';
import { learnedScansPerSecondMax } from '../limits.ts';
import { learnBatchMax } from './kernel-writer.ts';
import { LearnedQueue, learnedWords } from './learned-queue.ts';
import { LearnedScan } from './learned-scan.ts';

const selector = 0x80000001;

/** Address 2001:db8::n for namespace 1 + n % 2, the later the longer it lives. */
function learn({ writer }: KernelMaps, count: number): void {
  for (let n = 0; n < count; n++) {
    const words = new Uint32Array(4);
    const view = new DataView(words.buffer);
    view.setUint32(0, 0x20010db8);
    view.setUint32(12, n);
    writer.add(tdLearnOp.ADD, words, 0, selector, 1000 + n, 1 + (n % 2), true);
    if (writer.count < learnBatchMax && n < count - 1) continue;
    assert.equal(writer.run(), 0);
    writer.count = 0;
  }
}

function numbersOf(queue: LearnedQueue, namespaceId: number): number[] {
  const numbers: number[] = [];
  for (let entry = queue.shift(namespaceId); entry !== -1; entry = queue.shift(namespaceId)) {
    assert.equal(queue.words[entry * learnedWords + 4], selector);
    assert.ok((queue.words[entry * learnedWords + 5] as number) >= 1000, 'its expiry');
    numbers.push(new DataView(queue.words.buffer).getUint32((entry * learnedWords + 3) * 4));
  }
  return numbers;
}

test('finds the older half of one namespace, the soonest to expire first', () => {
  using kernel = loadKernelMaps();
  learn(kernel, 2000);
  const queue = new LearnedQueue();
  const scan = new LearnedScan(kernel.fqdn);
  assert.ok(scan.isNeeded(queue, 1), 'nothing is known of it yet');
  scan.refill(queue, 1, 50);
  assert.ok(!scan.isNeeded(queue, 1));
  assert.equal(queue.lengthOf(2), 0);
  const numbers = numbersOf(queue, 1);
  assert.deepEqual(
    numbers,
    Array.from({ length: 500 }, (_, i) => i * 2),
  );
  assert.ok(scan.isNeeded(queue, 1), 'the queue has run empty');
});

test('goes before what the queue has, which is younger', () => {
  using kernel = loadKernelMaps();
  learn(kernel, 8);
  const queue = new LearnedQueue();
  const words = new Uint32Array(4);
  new DataView(words.buffer).setUint32(12, 99);
  queue.push(1, words, 0, selector, 1000);
  new LearnedScan(kernel.fqdn).refill(queue, 1, 50);
  assert.deepEqual(numbersOf(queue, 1), [0, 2, 99]);
});

test('a namespace without pairs costs a bounded number of scans a second', () => {
  using kernel = loadKernelMaps();
  learn(kernel, 100);
  const queue = new LearnedQueue();
  const scan = new LearnedScan(kernel.fqdn);
  for (let i = 0; i < learnedScansPerSecondMax; i++) scan.refill(queue, 7, 50);
  scan.refill(queue, 1, 50);
  assert.equal(queue.lengthOf(1), 0, 'this second has no scan left');
  scan.refill(queue, 1, 51);
  assert.equal(queue.lengthOf(1), 25);
});
