// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SteeringWatch } from './steering-watch.ts';

for (const { what, steps, isSaid } of [
  {
    what: 'nothing asked',
    steps: [
      [0, 0],
      [0, 0],
      [0, 0],
      [0, 0],
    ],
    isSaid: false,
  },
  {
    what: 'all answered',
    steps: [
      [0, 0],
      [9, 9],
      [18, 18],
      [27, 27],
    ],
    isSaid: false,
  },
  {
    what: 'none answered',
    steps: [
      [0, 0],
      [4, 0],
      [8, 0],
      [12, 0],
      [16, 0],
    ],
    isSaid: true,
  },
  {
    what: 'none answered, with pauses',
    steps: [
      [0, 0],
      [4, 0],
      [4, 0],
      [8, 0],
      [9, 0],
      [10, 0],
    ],
    isSaid: true,
  },
  {
    what: 'none answered yet',
    steps: [
      [0, 0],
      [40, 0],
      [80, 0],
      [120, 0],
    ],
    isSaid: false,
  },
  {
    what: 'four lost packets',
    steps: [
      [0, 0],
      [1, 0],
      [2, 0],
      [3, 0],
      [4, 0],
    ],
    isSaid: false,
  },
  {
    what: 'one answered',
    steps: [
      [0, 0],
      [9, 0],
      [18, 0],
      [27, 0],
      [36, 1],
    ],
    isSaid: false,
  },
  {
    what: 'answered again',
    steps: [
      [0, 0],
      [9, 0],
      [18, 0],
      [27, 0],
      [36, 0],
      [45, 9],
    ],
    isSaid: false,
  },
  { what: 'what was before the start', steps: [[500, 0]], isSaid: false },
  {
    what: 'counters that begin anew',
    steps: [
      [90, 0],
      [99, 0],
      [108, 0],
      [117, 0],
      [1, 0],
    ],
    isSaid: false,
  },
] as const) {
  test(`${what}: ${isSaid ? 'said' : 'nothing is said'}`, () => {
    const watch = new SteeringWatch();
    for (const [redirected, restored] of steps) watch.step({ redirected, restored });
    assert.deepEqual(
      watch.degradations.map(({ code }) => code),
      isSaid ? ['steering-unanswered'] : [],
    );
  });
}
