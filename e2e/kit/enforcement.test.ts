// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Answers to queries for refused names, and packets, that count as a hole in enforcement. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertNothingPassed, type DeniedTraffic } from './enforcement.ts';
import type { LoadResult } from './load.ts';

const trafficWith = (
  rcodes: LoadResult['rcodes'],
  passed: Partial<DeniedTraffic> = {},
): DeniedTraffic => {
  const queries = { sent: 100, lost: 0, rcodes } as LoadResult;
  return { ...{ syns: 10, arrived: 0, queries, forwarded: 0 }, ...passed };
};

test('refusals pass, SERVFAIL only where a member may lack the policy, and nothing else does', () => {
  const unready = { mayBeUnready: true };
  assertNothingPassed(trafficWith({ '0': 0, '5': 100 }));
  assertNothingPassed(trafficWith({}));
  assertNothingPassed(trafficWith({ '2': 1, '5': 99 }), unready);
  assert.throws(() => assertNothingPassed(trafficWith({ '2': 1, '5': 99 })), /each answer/);
  for (const rcode of ['0', '1', '3', '4']) {
    const traffic = trafficWith({ [rcode]: 1, '5': 99 });
    assert.throws(() => assertNothingPassed(traffic), /each answer/);
    assert.throws(() => assertNothingPassed(traffic, unready), /each answer/);
  }
  assert.throws(() => assertNothingPassed(trafficWith({ '5': 100 }, { arrived: 1 })), /SYNs/);
  assert.throws(() => assertNothingPassed(trafficWith({ '5': 99 }, { forwarded: 1 })), /queries/);
});
