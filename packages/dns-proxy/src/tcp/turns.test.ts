// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  tcpMessageBytesMax,
  tcpMessagesPerStep,
  tcpMessagesPerTurn,
  tcpRetriesPerEndpoint,
  tcpRetryMs,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { costOf, TcpTurns, type TurnTaker } from './turns.ts';

class World {
  readonly log: string[] = [];
  readonly #soon: (() => void)[] = [];
  readonly #later: { readonly ms: number; readonly work: () => void }[] = [];
  readonly turns: TcpTurns = new TcpTurns(
    {
      soon: (work) => this.#soon.push(work),
      after: (ms, work) => this.#later.push({ ms, work }),
    },
    () => this.log.push('begin'),
    () => this.log.push('learn'),
  );

  /** A connection with so many messages. */
  connection(endpointSlot: number, messages: number): TurnTaker {
    let left = messages;
    return {
      endpointSlot: endpointSlot as EndpointSlot,
      isQueued: false,
      isWaitingToRetry: false,
      get hasMore() {
        return left > 0;
      },
      step: (most) => {
        const done = Math.min(most, left);
        left -= done;
        this.log.push(`${endpointSlot}: ${done}`);
        return done;
      },
    };
  }

  /** One turn of the event loop; false if nothing was to do. */
  turn(): boolean {
    const work = this.#soon.splice(0);
    for (const each of work) each();
    return work.length > 0;
  }

  pass(ms: number): void {
    for (const { work } of this.#later.splice(0).filter((timer) => timer.ms <= ms)) work();
  }
}

const handled = (log: readonly string[], endpoint: number): number =>
  log
    .filter((line) => line.startsWith(`${endpoint}: `))
    .reduce((sum, line) => sum + Number(line.split(' ')[1]), 0);

test('a turn handles a bounded number of messages, and the rest in later ones', () => {
  const world = new World();
  world.turns.add(world.connection(1, 3 * tcpMessagesPerTurn));
  let turns = 0;
  while (world.turn()) turns += 1;
  assert.equal(turns, 3);
  assert.equal(handled(world.log, 1), 3 * tcpMessagesPerTurn);
});

test('an endpoint with many full connections does not delay one with a single query', () => {
  const world = new World();
  for (let i = 0; i < 100; i++) world.turns.add(world.connection(1, 1000));
  world.turns.add(world.connection(2, 1));
  world.turn();
  assert.equal(handled(world.log, 2), 1);
  assert.ok(handled(world.log, 1) <= tcpMessagesPerTurn);
  const before = world.log.slice(0, world.log.indexOf('2: 1'));
  assert.ok(handled(before, 1) <= tcpMessagesPerStep, 'it waits for one step of the other');
});

test('of the longest messages a turn handles a few', () => {
  const world = new World();
  const cost = costOf(tcpMessageBytesMax);
  let handledNow = 0;
  for (let i = 0; i < 100; i++) {
    world.turns.add({
      ...world.connection(i, 0),
      step: () => {
        handledNow += 1;
        return cost;
      },
    });
  }
  world.turn();
  assert.ok(handledNow * cost < tcpMessagesPerTurn + cost, `${handledNow} messages`);
  assert.ok(handledNow > 1);
  assert.equal(costOf(100), 1);
});

test('connections of one endpoint have their turns one after the other', () => {
  const world = new World();
  const [first, second] = [world.connection(1, 100), world.connection(1, 1)];
  world.turns.add(first);
  world.turns.add(second);
  world.turn();
  assert.deepEqual(world.log.slice(1, 3), [`1: ${tcpMessagesPerStep}`, '1: 1']);
});

test('replies leave after what they teach is learned, whether made in a turn or not', () => {
  const world = new World();
  const connection = { flush: () => world.log.push('send') };
  world.turns.flushAfter(connection);
  assert.deepEqual(world.log, []);
  world.turn();
  assert.deepEqual(world.log, ['begin', 'learn', 'send']);
  assert.ok(!world.turn());
});

test('a connection that waits for rate or room tries again after a while, once', () => {
  const world = new World();
  const connection = world.connection(1, 1);
  world.turns.retry(connection);
  world.turns.retry(connection);
  assert.ok(!world.turn());
  world.pass(tcpRetryMs);
  world.turn();
  assert.deepEqual(world.log, ['begin', '1: 1', 'learn']);
});

test('of many that wait few of each endpoint try again at a time, in their order', () => {
  const world = new World();
  const order: number[] = [];
  const count = 3 * tcpRetriesPerEndpoint;
  for (let i = 0; i < count; i++) {
    const connection = world.connection(1, 0);
    world.turns.retry({
      ...connection,
      step: () => {
        order.push(i);
        return 0;
      },
    });
  }
  world.turns.retry(world.connection(2, 1));
  for (let round = 1; round <= 3; round++) {
    world.pass(tcpRetryMs);
    while (world.turn());
    assert.equal(order.length, round * tcpRetriesPerEndpoint);
    assert.equal(handled(world.log, 2), 1);
  }
  assert.deepEqual(
    order,
    Array.from({ length: count }, (_, i) => i),
  );
  world.pass(tcpRetryMs);
  assert.ok(!world.turn());
});
