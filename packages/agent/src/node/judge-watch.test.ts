// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  bypassedPacketsMin,
  bypassedQueuedMax,
  bypassedStepsMin,
  packetsPerJudgedMax,
} from '../limits.ts';
import { type JudgedCounts, JudgeWatch, judgedOf, type TrafficCounts } from './judge-watch.ts';

interface Step {
  /** Packets of the pod's interface, both directions. */
  readonly packets: number;
  readonly judged?: number;
  readonly apart?: number;
}

const none: ReadonlySet<number> = new Set();
const cpus = 2;
const queuedMax = cpus * bypassedQueuedMax;

/** Readings that nothing delays. */
function look(interfaces: TrafficCounts['interfaces'], judged = 0, apart = 0): TrafficCounts {
  return { before: { judged, apart }, interfaces, after: { judged, apart } };
}

/** One interface, so many equal steps after the first. */
function watch(step: Step, steps: number, begin = 0): JudgeWatch {
  const judge = new JudgeWatch(cpus);
  for (let i = 0; i <= steps; i++) {
    const received = (begin + i * Math.ceil(step.packets / 2)) >>> 0;
    const sent = i * Math.floor(step.packets / 2);
    const interfaces = [{ ifindex: 7, received, sent }];
    judge.step(look(interfaces, i * (step.judged ?? 0), i * (step.apart ?? 0)), none);
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

const ofSeven: ReadonlySet<number> = new Set([7]);
for (const [name, counts, diverted, isBypassed] of [
  ['what a pod sends and the node drops', { received: busy, sent: 0 }, none, false],
  ['what a pod sends, with an answer now and then', { received: busy, sent: 100 }, none, false],
  ['what is sent to a pod', { received: 0, sent: busy }, none, false],
  ['what a program of another datapath takes', { received: busy, sent: 0 }, ofSeven, true],
] as const) {
  test(`${name}: ${isBypassed ? '' : 'not '}bypassed`, () => {
    const judge = new JudgeWatch(cpus);
    for (let i = 0; i <= 10; i++) {
      const [received, sent] = [i * counts.received, i * counts.sent];
      const now = look([{ ifindex: 7, received, sent }], i);
      assert.deepEqual(judge.lopsided(now), i === 0 ? [] : [7]);
      judge.step(now, diverted);
    }
    assert.equal(judge.isBypassed, isBypassed);
  });
}

test('no interface is looked at while what is judged explains all, whichever is lopsided', () => {
  const judge = new JudgeWatch(cpus);
  const at = (i: number): TrafficCounts =>
    look(
      [
        { ifindex: 7, received: i * busy, sent: 0 },
        { ifindex: 8, received: 0, sent: i * 2 * busy },
        { ifindex: 9, received: i, sent: i },
      ],
      i < 3 ? i * busy : 2 * busy,
    );
  for (const [i, expected] of [[], [], [], [8, 7]].entries()) {
    assert.deepEqual(judge.lopsided(at(i)), expected, `${i}`);
    judge.step(at(i), none);
  }
});

test('a bypass of few packets is certain once they are more than the kernel may hold', () => {
  const steps = Math.floor(queuedMax / bypassedPacketsMin);
  assert.equal(watch({ packets: bypassedPacketsMin }, steps).isBypassed, false);
  assert.equal(watch({ packets: bypassedPacketsMin }, steps + 1).isBypassed, true);
});

test('counts of interfaces wrap, and interfaces come and go', () => {
  assert.equal(watch({ packets: busy }, bypassedStepsMin, 0xffff_ff00).isBypassed, true);
  const judge = new JudgeWatch(cpus);
  for (let i = 0; i < 5; i++) {
    judge.step(look([{ ifindex: i, received: 1_000_000, sent: 1_000_000 }]), none);
  }
  assert.equal(judge.isBypassed, false);
});

test('one step with judged packets ends it, however long it was', () => {
  for (const steps of [bypassedStepsMin, 1000]) {
    const judge = watch({ packets: busy }, steps);
    assert.equal(judge.isBypassed, true);
    const received = (busy / 2) * (steps + 1);
    judge.step(look([{ ifindex: 7, received, sent: received }], busy), none);
    assert.equal(judge.isBypassed, false);
  }
});

/**
 * A node whose CPUs others want: the agent is stopped between any two of its readings, for up to 3 s, and packets wait in
 * the kernel, counted by their interface alone. Virtual time; `perSecond` packets of each kind.
 */
class StarvedNode {
  readonly #random: () => number;
  readonly #perSecond: { readonly dns: number; readonly bypass: number };
  #nowS = 0;
  #apart = 0;

  constructor(perSecond: { readonly dns: number; readonly bypass: number }, seed: number) {
    this.#perSecond = perSecond;
    let state = seed;
    this.#random = () => {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      return state / 2 ** 32;
    };
  }

  look(): TrafficCounts {
    this.#stop();
    const before = this.#counters();
    this.#stop();
    const { dns, bypass } = this.#perSecond;
    const received = Math.floor((dns + bypass) * this.#nowS) >>> 0;
    this.#stop();
    const after = this.#counters();
    this.#nowS += 5;
    return { before, interfaces: [{ ifindex: 7, received, sent: 0 }], after };
  }

  #stop(): void {
    if (this.#random() < 0.5) this.#nowS += 3 * this.#random();
  }

  /** Counters without the events that wait in the kernel. */
  #counters(): JudgedCounts {
    const queued = queuedMax * this.#random();
    this.#apart = Math.max(this.#apart, Math.floor(this.#perSecond.dns * this.#nowS - queued));
    return { judged: 0, apart: this.#apart };
  }
}

test('on a starved node DNS alone is never taken for a bypass, and a bypass is told beside it', () => {
  for (let seed = 1; seed <= 200; seed++) {
    for (const dns of [100, 2000, 50_000]) {
      const starved = new StarvedNode({ dns, bypass: 0 }, seed);
      const judge = new JudgeWatch(cpus);
      for (let i = 0; i < 100; i++) {
        judge.step(starved.look(), ofSeven);
        assert.equal(judge.isBypassed, false, `seed ${seed}, ${dns} a second, look ${i}`);
      }
    }
    const bypassed = new StarvedNode({ dns: 100, bypass: 2000 }, seed);
    const judge = new JudgeWatch(cpus);
    for (let i = 0; i < 6; i++) judge.step(bypassed.look(), ofSeven);
    assert.equal(judge.isBypassed, true, `seed ${seed}`);
  }
});

test('which counters say that a packet was judged', () => {
  const counters = { forwarded: 1, related: 2, audited: 4, drop_spoofed: 8, drop_no_match: 16 };
  const others = { host: 1, redirected: 2, neighbour: 4, no_endpoint: 100, selected: 100 };
  assert.deepEqual(judgedOf({ ...counters, ...others }), { judged: 31, apart: 7 });
});

test('two pods that exchange datagrams in fragments of eight octets: not bypassed', () => {
  const judge = new JudgeWatch(cpus);
  for (let i = 0; i <= 10; i++) {
    const datagrams = i * 10;
    const fragments = datagrams * 8000;
    const counts = { received: fragments, sent: fragments };
    const seen = judgedOf({ forwarded: 2 * datagrams, tails: 2 * (fragments - datagrams) });
    const interfaces = [7, 8].map((ifindex) => ({ ifindex, ...counts }));
    judge.step({ before: seen, interfaces, after: seen }, none);
  }
  assert.equal(judge.isBypassed, false);
});
