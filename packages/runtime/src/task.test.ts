// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Changes, loopTimers, runTask, type Task, wait } from './task.ts';

test('a task waits for promises, has their values and catches what they reject with', async () => {
  function* inner(): Task<number> {
    return (yield* wait(Promise.resolve(20))) + (yield* wait(1));
  }
  function* outer(): Task<string> {
    const sum = yield* inner();
    try {
      yield* wait(Promise.reject(new RangeError('no')));
    } catch (error) {
      return `${sum} ${(error as Error).message}`;
    }
    return 'nothing was thrown';
  }
  assert.equal(await runTask(outer()), '21 no');
});

test('what a task throws rejects its promise, in its first step or later', async () => {
  function* failing(steps: number): Task {
    for (let i = 0; i < steps; i++) yield undefined;
    throw new RangeError(`after ${steps}`);
  }
  await assert.rejects(runTask(failing(0)), /after 0/);
  await assert.rejects(runTask(failing(2)), /after 2/);
});

test('others have their turn between two steps', async () => {
  const order: string[] = [];
  function* steps(): Task {
    order.push('first');
    yield undefined;
    order.push('second');
  }
  setImmediate(() => order.push('other'));
  await runTask(steps());
  assert.deepEqual(order, ['first', 'other', 'second']);
});

test('until is over when its condition holds, and when its time is up', async () => {
  const changes = new Changes();
  let value = 0;
  const isTwo = runTask(loopTimers.until(() => value === 2, changes, 60_000));
  value = 1;
  changes.notify();
  value = 2;
  changes.notify();
  assert.equal(await isTwo, true);
  assert.equal(await runTask(loopTimers.until(() => value === 3, changes, 1)), false);
  assert.equal(await runTask(loopTimers.until(() => true, changes, 0)), true);
});
