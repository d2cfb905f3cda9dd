// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSharedCounters } from '../counters.ts';
import {
  tcpConnectTimeoutMs,
  tcpOctetsPerEndpointMax,
  tcpReopenMs,
  tcpRetryMs,
  upstreamTimeoutMs,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { TcpBlocks } from './blocks.ts';
import type { TcpContext } from './context.ts';
import { TcpOctets } from './octets.ts';
import type { TcpQuery } from './query.ts';
import type { TcpStreamEvents } from './stream.ts';
import { TcpTurns } from './turns.ts';
import { TcpUpstream } from './upstream.ts';

const endpointSlot = 1 as EndpointSlot;
const id = 7;
/** A query for the root, and the reply to it without answers: all that differs is QR. */
const message = (flags: number): number[] => [
  0,
  id,
  flags,
  0,
  0,
  1,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  0,
  1,
  0,
  1,
];
const framed = (flags: number): Uint8Array =>
  Uint8Array.of(0, message(0).length, ...message(flags));

class World {
  readonly octets: TcpOctets = new TcpOctets(2);
  answered = 0;
  /** Calls of a turn of the event loop. */
  turns = 0;
  stream: TcpStreamEvents | null = null;
  /** How it ended, and with how many queries unanswered. */
  readonly ended: (readonly [end: string, unanswered: number])[] = [];
  /** Times at which the queries that timed out were received. */
  readonly timedOut: number[] = [];
  /** Policy allows what is in flight still. */
  mayAskAgain = true;
  readonly moment = { monotonicNs: 1, boottimeNs: 1 };
  readonly upstream: TcpUpstream;
  #nextId = id;
  readonly #soon: (() => void)[] = [];
  readonly #later: (() => void)[] = [];

  constructor({ isReopened = false, startedNs = 1, sentNs = 1 } = {}) {
    this.moment.monotonicNs = sentNs;
    const nothing = (): void => undefined;
    const system = {
      soon: (work: () => void) => void this.#soon.push(work),
      after: (ms: number, work: () => void) => {
        assert.equal(ms, tcpRetryMs);
        this.#later.push(work);
      },
      connect: (_: Uint8Array, events: TcpStreamEvents) => {
        this.stream = events;
        return { pause: nothing, resume: nothing, write: nothing, end: nothing, destroy: nothing };
      },
    };
    const context = {
      system,
      octets: this.octets,
      blocks: new TcpBlocks(),
      turns: new TcpTurns(system, nothing, nothing),
      counters: createSharedCounters(),
      random: { u16: () => this.#nextId++ },
      moment: this.moment,
    };
    this.upstream = new TcpUpstream(
      context as unknown as TcpContext,
      new Uint8Array(16),
      endpointSlot,
      {
        onReply: () => {
          this.answered += 1;
        },
        onTimeout: ({ startedNs: began }) => void this.timedOut.push(began),
        onClosed: (unanswered, end) => void this.ended.push([end, unanswered.length]),
        mayAskAgain: () => this.mayAskAgain,
        mayReply: () => true,
      },
    );
    this.send(startedNs, isReopened, sentNs);
  }

  /** Sends a query that was received then, now. */
  send(startedNs: number, isReopened = false, sentNs = startedNs): void {
    this.moment.monotonicNs = sentNs;
    const query = {
      framed: framed(1),
      messageStart: 2,
      questionEnd: message(0).length,
      startedNs,
      setId: () => undefined,
      isReopened,
      ...{ writtenTo: 0, sentNs: 0 },
    };
    this.upstream.send(query as unknown as TcpQuery);
  }

  /** Turns of the event loop until none is asked for, so many at most. */
  run(most: number): void {
    for (let i = 0; i < most && this.#soon.length > 0; i++) {
      this.turns += 1;
      for (const work of this.#soon.splice(0)) work();
    }
  }

  retry(): void {
    for (const work of this.#later.splice(0)) work();
  }
}

test('a query that is asked again times out in its own time, also behind a younger one', () => {
  const world = new World({ startedNs: 5e9 });
  world.send(1, true, 6e9);
  world.stream?.onConnect?.();
  world.upstream.sweep(upstreamTimeoutMs * 1e6);
  assert.deepEqual(world.timedOut, []);
  world.upstream.sweep(1 + upstreamTimeoutMs * 1e6);
  assert.deepEqual(world.timedOut, [1]);
  world.upstream.sweep(5e9 + upstreamTimeoutMs * 1e6);
  assert.deepEqual(world.timedOut, [1, 5e9]);
});

test('a reply that has no room waits without taking turns of the event loop, and is handled when it has', () => {
  const world = new World();
  assert.ok(world.octets.take(endpointSlot, tcpOctetsPerEndpointMax));
  world.stream?.onData(framed(0x81));
  world.run(100);
  assert.deepEqual([world.turns, world.answered], [1, 0]);
  world.retry();
  world.run(100);
  assert.deepEqual([world.turns, world.answered], [2, 0]);
  world.octets.giveBack(endpointSlot, tcpOctetsPerEndpointMax);
  world.retry();
  world.run(100);
  assert.deepEqual([world.turns, world.answered], [3, 1]);
  assert.equal(world.octets.total, 0);
});

/** Nothing before 1 ns: what begins at 0 is not begun. */
const at = (ms: number): number => 1 + ms * 1e6;

test('a connection that the server has not taken after a second is late, so that its queries go by another one', () => {
  const world = new World();
  world.upstream.sweep(at(tcpReopenMs - 1));
  assert.deepEqual(world.ended, []);
  world.upstream.sweep(at(tcpReopenMs));
  assert.deepEqual(world.ended, [['late', 1]]);
});

test('the second one has its whole time', () => {
  const world = new World({ isReopened: true });
  world.upstream.sweep(at(tcpConnectTimeoutMs - 1));
  assert.deepEqual(world.ended, []);
  world.upstream.sweep(at(tcpConnectTimeoutMs));
  assert.deepEqual(world.ended, [['unmade', 1]]);
});

test('one that was taken is not late, and one without queries is not either', () => {
  const world = new World();
  world.stream?.onConnect?.();
  world.upstream.sweep(at(tcpConnectTimeoutMs));
  world.stream?.onData(framed(0x81));
  world.run(100);
  assert.deepEqual([world.answered, world.ended], [1, []]);
  const idle = new World();
  idle.upstream.sweep(at(upstreamTimeoutMs));
  assert.deepEqual(idle.ended, [['unmade', 0]], 'its query has timed out');
});

test('a server that has not taken a query by its deadline is asked nothing more: its octets would stay', () => {
  const world = new World();
  world.stream?.onConnect?.();
  world.stream?.onTaken(framed(1).length);
  world.send(at(1));
  world.upstream.sweep(at(upstreamTimeoutMs));
  assert.deepEqual(world.ended, [], 'the first was taken');
  world.send(at(2));
  world.upstream.sweep(at(1 + upstreamTimeoutMs));
  assert.deepEqual(world.ended, [['useless', 1]]);
});

test('a query that was asked again shortly before its deadline does not end the connection, which had no time to take it', () => {
  const sentNs = at(upstreamTimeoutMs - 50);
  const world = new World({ startedNs: 1, sentNs });
  world.send(sentNs);
  world.upstream.sweep(at(upstreamTimeoutMs));
  assert.deepEqual([world.upstream.inFlight, world.ended], [1, []], 'it has timed out alone');
  world.stream?.onConnect?.();
  world.upstream.sweep(sentNs + upstreamTimeoutMs * 1e6 - 1);
  assert.deepEqual(world.ended, []);
  world.upstream.sweep(sentNs + upstreamTimeoutMs * 1e6);
  assert.deepEqual(world.ended, [['useless', 0]], 'nothing was taken in ten seconds');
});

test('what policy would not allow any more waits for the connection that it was allowed for', () => {
  const world = new World();
  world.mayAskAgain = false;
  world.upstream.retire();
  world.upstream.sweep(at(tcpConnectTimeoutMs - 1));
  assert.deepEqual(world.ended, []);
  world.stream?.onConnect?.();
  world.stream?.onData(framed(0x81));
  world.run(100);
  assert.deepEqual([world.answered, world.ended, world.upstream.takesQueries], [1, [], false]);
});

test('when its server has other backends, one that is not made yet ends, another one with its queries', () => {
  const waiting = new World();
  waiting.upstream.retire();
  waiting.upstream.retire();
  assert.deepEqual([waiting.ended, waiting.upstream.takesQueries], [[['elsewhere', 1]], false]);
  const world = new World({ isReopened: true });
  world.stream?.onConnect?.();
  world.upstream.retire();
  assert.deepEqual([world.ended, world.upstream.takesQueries], [[], true], 'in flight');
  world.stream?.onData(framed(0x81));
  world.run(100);
  assert.deepEqual([world.answered, world.upstream.takesQueries], [1, false]);
});
