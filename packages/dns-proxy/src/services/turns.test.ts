// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { dropReadMs } from '../drops/limits.ts';
import {
  eventDrainIntervalMs,
  heartbeatIntervalMs,
  selectorIntervalMs,
  sweepIntervalMs,
  turnMs,
} from '../limits.ts';
import { exchangeTickMs } from '../sync/limits.ts';
import { Turns } from './turns.ts';

test('work of several paces shares the turns, in the order in which it was added', (context) => {
  context.mock.timers.enable({ apis: ['setInterval'] });
  const turns = new Turns();
  const done: string[] = [];
  turns.every(turnMs, () => done.push('drain'));
  turns.every(2 * turnMs, () => done.push('exchange'));
  turns.every(turnMs, () => done.push('drops'));
  turns.start();
  turns.start();
  context.mock.timers.tick(2 * turnMs);
  assert.deepEqual(done, ['drain', 'drops', 'drain', 'exchange', 'drops']);
  context.mock.timers.tick(2 * turnMs);
  assert.equal(done.length, 10);
  turns.stop();
  context.mock.timers.tick(10 * turnMs);
  assert.equal(done.length, 10);
});

test('a thread with a timer of its own has turns of another length', () => {
  const due: (() => void)[] = [];
  const turns = new Turns(heartbeatIntervalMs, (ms, run) => {
    assert.equal(ms, heartbeatIntervalMs);
    due.push(run);
    return () => due.pop();
  });
  const done: string[] = [];
  turns.every(heartbeatIntervalMs, () => done.push('beat'));
  turns.every(2 * heartbeatIntervalMs, () => done.push('sweep'));
  turns.start();
  due[0]?.();
  due[0]?.();
  assert.deepEqual(done, ['beat', 'beat', 'sweep']);
  turns.stop();
  assert.deepEqual(due, []);
});

test('every pace of the DNS worker is a whole number of its turns', () => {
  const turns = new Turns(heartbeatIntervalMs);
  for (const ms of [sweepIntervalMs, selectorIntervalMs]) turns.every(ms, () => undefined);
});

test('every pace of the main thread is a whole number of turns', () => {
  const turns = new Turns();
  for (const ms of [eventDrainIntervalMs, dropReadMs, exchangeTickMs]) {
    turns.every(ms, () => undefined);
  }
  assert.throws(() => turns.every(turnMs * 1.5, () => undefined), RangeError);
  assert.throws(() => turns.every(0, () => undefined), RangeError);
});
