// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { learnedQueueMax } from '../limits.ts';
import { LearnedQueue, learnedWords } from './learned-queue.ts';

const seed = 20251121;
const pair = (n: number): Uint32Array => Uint32Array.of(0, 0, 0, n);

/** The oldest pair's number, after taking it out; -1 for none. */
function shift(queue: LearnedQueue, namespaceId: number): number {
  const entry = queue.shift(namespaceId);
  if (entry === -1) return -1;
  assert.equal(
    queue.words[entry * learnedWords + 4],
    0x80000000 + (queue.words[entry * learnedWords + 3] as number),
  );
  return queue.words[entry * learnedWords + 3] as number;
}

test('a queue per namespace: as arrays do it', () => {
  const step = fc.record({
    kind: fc.constantFrom('push', 'push', 'unshift', 'shift'),
    namespaceId: fc.integer({ min: 1, max: 4 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const queue = new LearnedQueue();
      const model = new Map<number, number[]>();
      steps.forEach(({ kind, namespaceId }, n) => {
        const list = model.get(namespaceId) ?? [];
        model.set(namespaceId, list);
        if (kind === 'shift') {
          assert.equal(shift(queue, namespaceId), list.shift() ?? -1);
        } else {
          const put = kind === 'push' ? 'push' : 'unshift';
          assert.ok(queue[put](namespaceId, pair(n), 0, 0x80000000 + n, n + 1));
          list[put](n);
        }
        assert.equal(queue.lengthOf(namespaceId), list.length);
      });
      for (const [namespaceId, list] of model) {
        for (const n of list) assert.equal(shift(queue, namespaceId), n);
        assert.equal(shift(queue, namespaceId), -1);
      }
    }),
    { seed, numRuns: 30 },
  );
});

test('a full queue forgets the oldest of the namespace that adds, never of another', () => {
  const queue = new LearnedQueue();
  const other = 10;
  for (let n = 0; n < other; n++) queue.push(1, pair(n), 0, 0x80000000 + n, 1);
  for (let n = other; n < learnedQueueMax; n++) queue.push(2, pair(n), 0, 0x80000000 + n, 1);
  assert.ok(queue.push(2, pair(999_999), 0, 0x80000000 + 999_999, 1));
  assert.equal(queue.lengthOf(1), other);
  assert.equal(shift(queue, 2), other + 1, 'the oldest of namespace 2 went');
  assert.ok(queue.push(2, pair(5), 0, 0x80000005, 1));
  assert.ok(!queue.push(3, pair(5), 0, 0x80000005, 1), 'namespace 3 has nothing to give');
  assert.ok(!queue.unshift(1, pair(5), 0, 0x80000005, 1), 'what is older is not worth it');
  for (let n = 0; n < other; n++) assert.equal(shift(queue, 1), n);
});
