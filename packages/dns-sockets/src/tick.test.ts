// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { afterEach, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { echoLoop, echoPair } from '../test/echo.ts';
import { tickMsMax } from './limits.ts';
import { startTick, stopTick } from './tick.ts';

const patienceMs = 5000;

/** Resolves with the `count`th tick. */
async function ticks(
  count: number,
  ms: number,
  onTick: () => void = () => undefined,
): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  let left = count;
  startTick(ms, () => {
    onTick();
    left -= 1;
    // A promise would wait for the next callback scope.
    if (left === 0) setImmediate(resolve);
  });
  await promise;
}

function busy(ms: number): void {
  const end = performance.now() + ms;
  while (performance.now() < end);
}

describe('the tick', { timeout: 4 * patienceMs }, () => {
  afterEach(() => stopTick());

  test('comes every so many milliseconds, without any socket', async () => {
    const before = performance.now();
    await ticks(5, 10);
    const elapsed = performance.now() - before;
    // Timers count from the loop's time, which is older than the clock where the thread had to wait for a CPU.
    assert.ok(elapsed >= 25 && elapsed < patienceMs, `${elapsed} ms`);
  });

  test('comes while datagrams do, and does not keep them from coming', async () => {
    let batches = 0;
    using loop = echoLoop({
      onBatch: () => {
        batches += 1;
      },
    });
    const [, client] = await echoPair(loop);
    const sending = setInterval(() => client.send('x'), 1);
    await ticks(10, 5);
    clearInterval(sending);
    client.close();
    assert.ok(batches > 0);
  });

  test('that takes longer than its interval leaves timers and datagrams their turns', async () => {
    const { promise: received, resolve } = Promise.withResolvers<void>();
    using loop = echoLoop({ onBatch: () => void setImmediate(resolve) });
    const [, client] = await echoPair(loop);
    startTick(1, () => busy(3));
    await new Promise((done) => setTimeout(done, 5));
    client.send('x');
    await received;
    client.close();
  });

  test('may set timers and immediates, which come in time', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    startTick(10, () => {
      stopTick();
      setTimeout(() => setImmediate(resolve), 1);
    });
    await promise;
  });

  test('is one per thread: a second one takes the place of the first', async () => {
    let first = 0;
    startTick(1, () => {
      first += 1;
    });
    const before = first;
    await ticks(3, 5);
    assert.equal(first, before);
  });

  test('comes no more after it was stopped, in the callback or out of it', async () => {
    let count = 0;
    await ticks(1, 1, () => {
      stopTick();
      count += 1;
    });
    stopTick();
    await new Promise((done) => setTimeout(done, 20));
    assert.equal(count, 1);
  });

  test('goes on after a callback that throws, which is an uncaught exception', async () => {
    const errors: unknown[] = [];
    const listeners = process.listeners('uncaughtException');
    process.removeAllListeners('uncaughtException');
    process.on('uncaughtException', (error) => errors.push(error));
    let isFirst = true;
    const thrown = new Error('of a tick');
    const { promise, resolve } = Promise.withResolvers<void>();
    startTick(1, () => {
      if (!isFirst) {
        setImmediate(resolve);
        return;
      }
      isFirst = false;
      throw thrown;
    });
    await promise;
    process.removeAllListeners('uncaughtException');
    for (const listener of listeners) process.on('uncaughtException', listener);
    assert.deepEqual(errors, [thrown]);
  });

  test('refuses intervals that are none', () => {
    for (const ms of [0, -1, 1.5, Number.NaN, tickMsMax + 1]) {
      assert.throws(() => startTick(ms, () => undefined), RangeError, String(ms));
    }
  });

  test('ends with its thread: terminated, or by its own last tick', async () => {
    for (const end of ['terminate', 'stop', 'exit']) {
      const worker = new Worker(new URL('../test/tick-worker.ts', import.meta.url), {
        workerData: { end },
      });
      const exited = once(worker, 'exit');
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      if (end === 'terminate') await once(worker, 'message').then(() => worker.terminate());
      // oxlint-disable-next-line no-await-in-loop -- one after the other
      const [code] = await exited;
      assert.equal(code, end === 'terminate' ? 1 : 0, end);
    }
  });
});
