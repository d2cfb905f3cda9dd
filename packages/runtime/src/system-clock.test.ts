// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { boottimeToWallMs, systemClock } from './system-clock.ts';

test('the clocks are those of the kernel', () => {
  const uptimeSeconds = Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]);
  assert.ok(Math.abs(systemClock.boottimeSeconds() - uptimeSeconds) < 2);
  assert.ok(Math.abs(systemClock.monotonicMs() - Number(process.hrtime.bigint()) / 1e6) < 1000);
  assert.ok(Math.abs(systemClock.wallMs() - Date.now()) < 1000);
});

test('a boot-time moment in wall time', () => {
  const clock = { monotonicMs: () => 0, boottimeSeconds: () => 100, wallMs: () => 1_000_000 };
  assert.equal(boottimeToWallMs(clock, 98.5e9), 998_500);
});
