// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fenceAfterMs, fenceGapMsMax, indexLookMs } from '../limits.ts';
import { type Holder, HolderWatch } from './holder-watch.ts';

const startMs = 1_000_000;
const life: Holder = { armedNs: 10, joinedNs: 20, isMember: true, beatNs: 1000 };

/** Looks every `indexLookMs` for `ms`; what was seen at each look, by its time. Gives the times at which it hung. */
function look(
  ms: number,
  holderAt: (ms: number) => Holder | null,
  watch = new HolderWatch(),
): readonly number[] {
  const times: number[] = [];
  for (let at = 0; at <= ms; at += indexLookMs) {
    if (watch.isHung(holderAt(at), (startMs + at) * 1e6)) times.push(at);
  }
  return times;
}

test('a holder that gives no beat hangs, after the bound and again after as long', () => {
  assert.deepEqual(
    look(2 * fenceAfterMs, () => life),
    [fenceAfterMs, 2 * fenceAfterMs],
  );
});

test('each beat begins the time anew', () => {
  const holderAt = (ms: number): Holder => ({ ...life, beatNs: ms < 2000 ? ms : 2000 });
  assert.deepEqual(look(2000 + fenceAfterMs, holderAt), [2000 + fenceAfterMs]);
  assert.deepEqual(
    look(60_000, (ms) => ({ ...life, beatNs: Math.floor(ms / 2900) })),
    [],
  );
});

test('who is no member, or was one in a former life, does not beat and does not hang', () => {
  assert.deepEqual(
    look(60_000, () => null),
    [],
  );
  assert.deepEqual(
    look(60_000, () => ({ ...life, isMember: false })),
    [],
  );
  assert.deepEqual(
    look(60_000, () => ({ ...life, armedNs: 30 })),
    [],
  );
});

test('a new life has all its time', () => {
  const holderAt = (ms: number): Holder =>
    ms < fenceAfterMs ? life : { ...life, armedNs: 30, joinedNs: 40 };
  assert.deepEqual(look(2 * fenceAfterMs - indexLookMs, holderAt), []);
});

test('who was asleep itself has seen nothing', () => {
  const watch = new HolderWatch();
  let now = startMs;
  for (let round = 0; round < 20; round++) {
    for (let at = 0; at < fenceAfterMs - indexLookMs; at += indexLookMs) {
      now += indexLookMs;
      assert.equal(watch.isHung(life, now * 1e6), false);
    }
    now += fenceGapMsMax + 1;
    assert.equal(watch.isHung(life, now * 1e6), false);
  }
});
