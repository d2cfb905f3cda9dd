// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import {
  heavyBaseMs,
  heavyFreeShare,
  heavyRoundMs,
  heavyRounds,
  heavySilenceMs,
  heavyWindowMin,
  heavyWindowStart,
  inFlightMax,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { HeavyWindow } from './heavy-window.ts';

const [one, two] = [1, 2] as EndpointSlot[] as [EndpointSlot, EndpointSlot];
const startMs = 5_000_000;

/**
 * A server of one queue: answers each query after `serviceMs`, and `delayMs` for the way; its receive buffer takes `buffer`
 * queries. Pods ask `perMs` queries each ms, spread over them in turn.
 */
class SlowServer {
  readonly window = new HeavyWindow();
  nowMs = startMs;
  refused = 0;
  lost = 0;
  answers = 0;
  /** Delay of the last answer. */
  delay = 0;
  readonly #queue: { round: number; pod: EndpointSlot; sentMs: number }[] = [];
  readonly #o: { serviceMs: number; delayMs?: number; buffer?: number; pods?: number };
  #freeMs = 0;
  #turn = 0;

  constructor(options: { serviceMs: number; delayMs?: number; buffer?: number; pods?: number }) {
    this.#o = options;
  }

  run(ms: number, perMs: number): void {
    const { serviceMs, delayMs = 0, buffer = Infinity, pods = 16 } = this.#o;
    const endMs = this.nowMs + ms;
    for (; this.nowMs < endMs; this.nowMs++) {
      for (let i = 0; i < perMs; i++) {
        this.#turn += 1;
        const pod = (this.#turn % pods) as EndpointSlot;
        if (!this.window.hasRoom(pod, this.nowMs)) this.refused += 1;
        else {
          const round = this.window.begin(pod, this.nowMs);
          if (this.#queue.length < buffer) this.#queue.push({ round, pod, sentMs: this.nowMs });
          else this.lost += 1;
        }
      }
      this.#freeMs = Math.max(this.#freeMs, this.nowMs);
      while (this.#queue.length > 0 && this.#freeMs + serviceMs <= this.nowMs + 1) {
        this.#freeMs += serviceMs;
        const { round, pod, sentMs } = this.#queue.shift()!;
        this.delay = this.nowMs - sentMs + delayMs;
        this.answers += 1;
        this.window.answered(this.delay, this.nowMs);
        this.window.end(pod, round);
      }
    }
  }

  get queued(): number {
    return this.#queue.length;
  }
}

test('a server that is fast enough refuses nobody', () => {
  const server = new SlowServer({ serviceMs: 0.05 });
  server.run(5000, 5);
  assert.deepEqual([server.refused, server.lost], [0, 0]);
});

test('a server that is far away and fast: the window grows as far as the pods need it', () => {
  const window = new HeavyWindow();
  const waiting: { round: number; dueMs: number }[] = [];
  let refused = 0;
  for (let ms = startMs; ms < startMs + 10_000; ms++) {
    for (let i = 0; i < 5; i++) {
      if (window.hasRoom(one, ms)) waiting.push({ round: window.begin(one, ms), dueMs: ms + 100 });
      else if (ms > startMs + 2000) refused += 1;
    }
    while (waiting.length > 0 && waiting[0]!.dueMs <= ms) {
      window.answered(100, ms);
      window.end(one, waiting.shift()!.round);
    }
  }
  assert.equal(refused, 0);
  assert.ok(window.size >= 500, `${window.size}`);
});

test('a server with one queue that is too slow: what waits there stays short, and it works all the time', () => {
  // 1,000 queries a second; 16 pods ask for 16 times that.
  const server = new SlowServer({ serviceMs: 1 });
  let longest = 0;
  server.run(2000, 16);
  const { answers } = server;
  for (let i = 0; i < 600; i++) {
    server.run(100, 16);
    longest = Math.max(longest, server.delay);
  }
  assert.ok(longest <= 250, `${longest} ms`);
  assert.ok(server.answers - answers >= 60_000 * 0.95, `${server.answers - answers} answers`);
  assert.ok(server.refused > 0);
});

test('a server with a small receive buffer loses few', () => {
  // 10,000 queries a second: 100 of them wait for 10 ms, which is no standing delay.
  const server = new SlowServer({ serviceMs: 0.1, buffer: 100 });
  server.run(5000, 40);
  const { lost, answers } = server;
  server.run(30_000, 40);
  const share = (server.lost - lost) / (server.answers - answers);
  assert.ok(share < 0.03, `${share}`);
  assert.ok(server.answers - answers > 300_000 * 0.6, `${server.answers - answers} answers`);
});

test('a server that became slower for good is asked as much as before', () => {
  const server = new SlowServer({ serviceMs: 0.05 });
  server.run(1000, 5);
  const far = server.window;
  const send = (ms: number): void => {
    const round = far.hasRoom(one, ms) ? far.begin(one, ms) : 0;
    far.answered(200, ms);
    if (round !== 0) far.end(one, round);
  };
  for (let ms = server.nowMs; ms < server.nowMs + 2000; ms++) send(ms);
  assert.equal(far.size, heavyWindowMin);
  const laterMs = server.nowMs + 2000 + 2 * heavyBaseMs;
  for (let ms = server.nowMs + 2000; ms < laterMs; ms++) send(ms);
  for (let ms = laterMs; ms < laterMs + 1000; ms++) {
    while (far.hasRoom(one, ms)) far.begin(one, ms);
    far.answered(200, ms);
  }
  assert.ok(far.size > heavyWindowMin, `${far.size}`);
});

test('queries without an answer leave the window after a second, and another pod has room meanwhile', () => {
  const window = new HeavyWindow();
  let mine = 0;
  for (; window.hasRoom(one, startMs); mine++) window.begin(one, startMs);
  assert.ok(mine < heavyWindowStart, `${mine}`);
  assert.ok(window.hasRoom(two, startMs));
  window.hasRoom(one, startMs + (heavyRounds - 2) * heavyRoundMs);
  assert.equal(window.inFlight, mine);
  assert.ok(window.hasRoom(one, startMs + heavyRounds * heavyRoundMs));
  assert.equal(window.inFlight, 0);
  assert.equal(window.size, heavyWindowStart / 2, 'they were lost');
});

test('a server that is silent, as when it is replaced, refuses nobody; when it answers again the window holds', () => {
  const window = new HeavyWindow();
  while (window.hasRoom(one, startMs)) window.begin(one, startMs);
  assert.ok(!window.hasRoom(one, startMs + heavySilenceMs));
  for (let i = 0; i < 1000; i++) {
    assert.ok(window.hasRoom(one, startMs + heavySilenceMs + 1));
    window.begin(one, startMs + heavySilenceMs + 1);
  }
  window.answered(1, startMs + heavySilenceMs + 2);
  assert.ok(!window.hasRoom(one, startMs + heavySilenceMs + 2));
});

test('what began before a long pause, and ends after it, is not counted twice', () => {
  const window = new HeavyWindow();
  const round = window.begin(one, startMs);
  assert.ok(window.hasRoom(one, startMs + 1e9));
  window.end(one, round);
  assert.equal(window.inFlight, 0);
});

test('whatever comes in whatever order: the window stays within its bounds, and no count below zero', () => {
  const step = fc.record({
    pod: fc.integer({ min: 0, max: 600 }),
    afterMs: fc.oneof(fc.constant(0), fc.integer({ min: -20, max: 400 }), fc.constant(1e7)),
    what: fc.constantFrom('begin', 'end', 'end twice', 'answered'),
    delayMs: fc.integer({ min: -5, max: 2000 }),
    count: fc.integer({ min: 1, max: 200 }),
  });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const window = new HeavyWindow();
      const open: [EndpointSlot, number][] = [];
      let ms = startMs;
      for (const { pod, afterMs, what, delayMs, count } of steps) {
        ms += afterMs;
        const slot = pod as EndpointSlot;
        for (let i = 0; i < count; i++) {
          if (what === 'begin' && window.hasRoom(slot, ms))
            open.push([slot, window.begin(slot, ms)]);
          if (what === 'answered') window.answered(delayMs, ms);
          const last = what.startsWith('end') ? open.pop() : undefined;
          if (last !== undefined) window.end(...last);
          if (last !== undefined && what === 'end twice') window.end(...last);
        }
        assert.ok(window.size >= heavyWindowMin && window.size <= inFlightMax);
        assert.ok(window.inFlight >= 0 && window.inFlight <= open.length);
      }
      // Nobody asks for a second: all is over, and each pod has room.
      const quietMs = ms + 20 + heavyRounds * heavyRoundMs;
      for (const [slot] of open) assert.ok(window.hasRoom(slot, quietMs));
      assert.ok(window.hasRoom(one, quietMs));
      assert.equal(window.inFlight, 0);
      window.answered(1, quietMs);
      let alone = 0;
      for (; window.hasRoom(one, quietMs); alone++) window.begin(one, quietMs);
      assert.ok(alone >= (window.size * heavyFreeShare) / (heavyFreeShare + 1) - 1, `${alone}`);
    }),
    { numRuns: 300, seed: 20261130 },
  );
});
