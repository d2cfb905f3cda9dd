// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { waitFor } from '@tandem/testing/wait';
import { done, type WorkOutcome, WorkQueue, type WorkQueueOptions } from './work-queue.ts';

const queues: WorkQueue[] = [];
afterEach(() => {
  for (const queue of queues.splice(0)) queue.stop();
});

function queueOf(
  work: (key: string) => Promise<WorkOutcome>,
  options: Partial<WorkQueueOptions> = {},
): WorkQueue {
  const queue = new WorkQueue({
    ...{ work, atOnce: 2, perSecond: 1000, burst: 1000, keysMax: 100 },
    ...options,
  });
  queues.push(queue);
  return queue;
}

test('a key that is added while it is worked at is worked at once more, and never twice at once', async () => {
  const begun: string[] = [];
  let release = (): void => undefined;
  const queue = queueOf(async (key) => {
    begun.push(key);
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    return done;
  });
  for (let i = 0; i < 5; i++) queue.add('a');
  assert.deepEqual(begun, ['a']);
  assert.equal(queue.length, 1);
  release();
  await waitFor(() => begun.length === 2, { what: 'the second turn' });
  release();
  await waitFor(() => queue.length === 0, { what: 'the end' });
  assert.deepEqual(begun, ['a', 'a']);
});

test('a thousand keys are worked at in the pace of the queue, a few at once', async () => {
  let running = 0;
  let most = 0;
  let count = 0;
  const queue = queueOf(
    async () => {
      running += 1;
      most = Math.max(most, running);
      await nextTurn();
      running -= 1;
      count += 1;
      return done;
    },
    { perSecond: 200, burst: 20, atOnce: 3 },
  );
  const startMs = performance.now();
  for (let i = 0; i < 100; i++) queue.add(`k${i}`);
  await waitFor(() => count === 100, { what: 'all' });
  // 20 at once, 80 at 200 a second.
  assert.ok(performance.now() - startMs >= 390, String(performance.now() - startMs));
  assert.equal(most, 3);
});

test('what has no room is refused and counted, and told of when there is room again', async () => {
  let rooms = 0;
  const queue = queueOf(async () => done, {
    ...{ keysMax: 3, atOnce: 1, perSecond: 100, burst: 1 },
    onRoom: () => (rooms += 1),
  });
  const refused = ['a', 'b', 'c', 'd', 'e'].filter((key) => queue.add(key));
  assert.deepEqual(refused, ['d', 'e']);
  assert.equal(queue.counters.refused, 2);
  await waitFor(() => rooms === 1, { what: 'room' });
  assert.equal(queue.length, 0);
});

test('a key that fails waits and is tried again, and a change of it is tried at once', async () => {
  const times: number[] = [];
  const queue = queueOf(async () => {
    times.push(performance.now());
    return times.length < 3 ? { kind: 'retry', afterMs: 0 } : done;
  });
  queue.add('a');
  await waitFor(() => times.length === 1, { what: 'the first' });
  queue.add('a');
  await waitFor(() => times.length === 2, { what: 'the change' });
  assert.ok((times[1] ?? 0) - (times[0] ?? 0) < 400, 'at once');
  await waitFor(() => times.length === 3, { what: 'the third' });
  assert.ok((times[2] ?? 0) - (times[1] ?? 0) >= 900, 'the second failure in a row');
  assert.equal(queue.counters.retried, 2);
});

test('a pause holds all keys of the queue', async () => {
  const worked: string[] = [];
  const queue = queueOf(
    async (key) => {
      worked.push(key);
      return worked.length === 1 ? { kind: 'pause', forMs: 300 } : done;
    },
    { atOnce: 1 },
  );
  for (const key of ['a', 'b']) queue.add(key);
  const startMs = performance.now();
  await waitFor(() => queue.length === 0, { what: 'the end' });
  assert.ok(performance.now() - startMs >= 290);
  assert.deepEqual(worked.slice(1).sort(), ['a', 'b']);
});

test('after its stop nothing begins', async () => {
  let count = 0;
  const queue = queueOf(
    async () => {
      count += 1;
      return { kind: 'retry', afterMs: 0 };
    },
    { atOnce: 1, burst: 1 },
  );
  queue.add('a');
  queue.add('b');
  queue.stop();
  await nextTurn();
  assert.equal(queue.add('c'), false);
  assert.equal(count, 1);
});

test('a namespace with a thousand objects does not hold up the one object of another', async () => {
  const order: string[] = [];
  const queue = queueOf(
    async (key) => {
      order.push(key);
      return done;
    },
    { atOnce: 1, keysMax: 2000 },
  );
  queue.add('first/now');
  for (let i = 0; i < 1000; i++) queue.add(`loud/p${i}`);
  queue.add('quiet/p');
  queue.add('/wide');
  await waitFor(() => queue.length === 0, { what: 'all', timeoutMs: 10_000 });
  assert.equal(order.length, 1003);
  assert.ok(order.indexOf('quiet/p') <= 3, String(order.indexOf('quiet/p')));
  assert.ok(order.indexOf('/wide') <= 4);
});
