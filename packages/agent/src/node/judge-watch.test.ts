// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bypassedPacketsMin, bypassedStepsMin, packetsPerJudgedMax } from '../limits.ts';
import { JudgeWatch, judgedOf } from './judge-watch.ts';

interface Step {
  /** Packets of the pod's interface, both directions. */
  readonly packets: number;
  readonly judged?: number;
  readonly apart?: number;
}

/** One interface, so many equal steps after the first. */
function watch(step: Step, steps: number, begin = 0): JudgeWatch {
  const judge = new JudgeWatch();
  for (let i = 0; i <= steps; i++) {
    const received = (begin + i * Math.ceil(step.packets / 2)) >>> 0;
    const sent = i * Math.floor(step.packets / 2);
    judge.step({
      interfaces: [{ ifindex: 7, received, sent }],
      judged: i * (step.judged ?? 0),
      apart: i * (step.apart ?? 0),
    });
  }
  return judge;
}

const busy = 10_000;
const cases: readonly (readonly [string, Step, boolean])[] = [
  ['packets and none judged', { packets: busy }, true],
  ['each packet between pods judged once', { packets: busy, judged: busy / 2 }, false],
  [
    'datagrams in as many fragments as there are',
    { packets: busy, judged: Math.ceil(busy / packetsPerJudgedMax) },
    false,
  ],
  ['the kubelet alone, which is host', { packets: busy, apart: busy }, false],
  ['DNS alone, which is steered', { packets: busy, apart: busy - bypassedPacketsMin / 2 }, false],
  ['a bypass beside the kubelet', { packets: busy, apart: busy / 2 }, true],
  ['a quiet node', { packets: bypassedPacketsMin - 1 }, false],
];

for (const [name, step, isBypassed] of cases) {
  test(`${name}: ${isBypassed ? '' : 'not '}bypassed`, () => {
    assert.equal(watch(step, bypassedStepsMin).isBypassed, isBypassed);
    assert.equal(watch(step, bypassedStepsMin - 1).isBypassed, false, 'not before it is certain');
  });
}

test('counts of interfaces wrap, and interfaces come and go', () => {
  assert.equal(watch({ packets: busy }, bypassedStepsMin, 0xffff_ff00).isBypassed, true);
  const judge = new JudgeWatch();
  for (let i = 0; i < 5; i++) {
    const of = { ifindex: i, received: 1_000_000, sent: 1_000_000 };
    judge.step({ interfaces: [of], judged: 0, apart: 0 });
  }
  assert.equal(judge.isBypassed, false);
});

test('one step with judged packets ends it', () => {
  const judge = watch({ packets: busy }, bypassedStepsMin);
  const received = (busy / 2) * (bypassedStepsMin + 1);
  const interfaces = [{ ifindex: 7, received, sent: received }];
  judge.step({ interfaces, judged: busy, apart: 0 });
  assert.equal(judge.isBypassed, false);
});

test('which counters say that a packet was judged', () => {
  const counters = { forwarded: 1, related: 2, audited: 4, drop_spoofed: 8, drop_no_match: 16 };
  const others = { host: 1, redirected: 2, neighbour: 4, no_endpoint: 100, selected: 100 };
  assert.deepEqual(judgedOf({ ...counters, ...others }), { judged: 31, apart: 7 });
});
