// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { repairBurst, repairIntervalMs, repairSlowMs } from '../limits.ts';
import { RepairPace } from './repair-pace.ts';

test('changes are looked at in short intervals up to a burst, then in long ones, and as before after a while', () => {
  let nowMs = 1000;
  const pace = new RepairPace({
    monotonicMs: () => nowMs,
    boottimeSeconds: () => 0,
    wallMs: () => 0,
  });
  /** A write whose own notice asks for the next look, as the loop that the pace is there for. */
  const loop = (looks: number): number => {
    const startMs = nowMs;
    for (let look = 0; look < looks; look++) nowMs += pace.take();
    return nowMs - startMs;
  };
  assert.equal(pace.take(), 0, 'the first at once');
  assert.equal(pace.isSlowed, false);
  assert.ok(loop(repairBurst) <= repairBurst * repairIntervalMs);
  loop(repairBurst);
  assert.equal(pace.isSlowed, true);
  const tookMs = loop(20);
  assert.ok(tookMs >= 18 * repairSlowMs && tookMs <= 22 * repairSlowMs, `${tookMs}`);
  nowMs += 3 * repairSlowMs;
  assert.equal(pace.isSlowed, false);
  nowMs += repairBurst * repairSlowMs;
  assert.ok(loop(repairBurst) <= repairBurst * repairIntervalMs);
});
