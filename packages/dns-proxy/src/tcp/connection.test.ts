// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** When a pod's connection ends, and what replies it holds, over a system whose clock and turns the test makes. */

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { QueryView } from '@tandem/core/dns/query';
import { counter, createSharedCounters } from '../counters.ts';
import { tcpIdleTimeoutMs, tcpOctetsPerEndpointMax, tcpUnsentBytesMax } from '../limits.ts';
import { TcpServer, type TcpServerOptions } from './server.ts';
import type { AcceptedConnection, TcpStreamEvents } from './stream.ts';

/** NOTIFY for the root: answered by ourselves, with NOTIMP. */
const query = Uint8Array.of(0, 17, 0, 7, 0x20, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 6, 0, 1);
const nothing = (): void => undefined;

class Client implements AcceptedConnection {
  readonly addresses: Uint32Array = new Uint32Array(8);
  readonly clientPort = 1;
  answers = 0;
  hasEnded = false;
  isReset = false;
  /** The kernel takes nothing for it. */
  isDeaf = false;
  /** Octets that were written, and not taken. */
  unsent = 0;
  events: TcpStreamEvents | null = null;

  open(events: TcpStreamEvents): ReturnType<AcceptedConnection['open']> {
    this.events = events;
    return {
      pause: nothing,
      resume: nothing,
      write: ({ length }) => {
        this.answers += 1;
        this.unsent += length;
        if (!this.isDeaf) this.takeAll();
      },
      end: () => {
        this.hasEnded = true;
      },
      destroy: () => {
        this.hasEnded = true;
      },
      reset: () => {
        this.isReset = true;
      },
    };
  }

  refuse(): void {
    assert.fail('refused');
  }

  takeAll(): void {
    const octets = this.unsent;
    this.unsent = 0;
    this.events?.onTaken(octets);
  }

  /** Octets of it are read. */
  send(bytes: Uint8Array = query): void {
    this.events?.onData(bytes);
  }
}

class World {
  nowNs = 1e9;
  /** The address is that of the pod which connected. */
  isOfPod = true;
  readonly counters: Float64Array = createSharedCounters();
  readonly server: TcpServer;
  #accept: (accepted: AcceptedConnection) => void = nothing;
  readonly #soon: (() => void)[] = [];
  readonly #later: (() => void)[] = [];

  constructor(connectionsPerPod = 1) {
    const options = {
      lookup: {
        begin: nothing,
        flowOf: () => 0,
        isStillOf: () => this.isOfPod,
        newestGeneration: 2,
        flows: { endpointSlot: [1] },
        limits: {
          endpoints: { hold: nothing, unhold: nothing, ownerId: [0, 1] },
          hasToken: () => true,
          takeToken: () => true,
        },
      },
      answers: { begin: nothing, flush: nothing },
      counters: this.counters,
      query: new QueryView({ low: 1, high: 2 }),
      connectionsPerPod,
      moment: () => ({ monotonicNs: this.nowNs, boottimeNs: this.nowNs }),
      system: {
        listen: (_: number, onConnection: (accepted: AcceptedConnection) => void) => {
          this.#accept = onConnection;
          return nothing;
        },
        soon: (work: () => void) => void this.#soon.push(work),
        after: (_: number, work: () => void) => void this.#later.push(work),
      },
    };
    this.server = new TcpServer(options as unknown as TcpServerOptions);
    this.server.listen(0);
  }

  connect(): Client {
    const client = new Client();
    this.#accept(client);
    return client;
  }

  /** Runs what was put off until all input was read. */
  turn(): void {
    for (const work of this.#soon.splice(0)) work();
  }

  /** Lets what waits for room try again. */
  retry(): void {
    for (const work of this.#later.splice(0)) work();
  }

  settle(): void {
    while (this.#soon.length > 0) this.turn();
  }
}

describe('replies of our own', () => {
  const perClient = 1000;
  const queries = new Uint8Array(perClient * query.length);
  for (let i = 0; i < perClient; i++) queries.set(query, i * query.length);
  let many: World;
  let clients: Client[];
  const unsent = (): number => clients.reduce((sum, client) => sum + client.unsent, 0);
  beforeEach(() => {
    many = new World(64);
    clients = Array.from({ length: 64 }, () => many.connect());
    many.settle();
    for (const client of clients) client.isDeaf = true;
    for (const client of clients) client.send(queries);
    many.settle();
  });

  test('that clients do not take have no more room than their pod', () => {
    assert.equal(many.server.octets, unsent());
    assert.ok(unsent() <= tcpOctetsPerEndpointMax, `${unsent()} octets`);
    assert.ok(unsent() > tcpOctetsPerEndpointMax - tcpUnsentBytesMax, `${unsent()} octets`);
  });

  test('go on when clients take them, and give their room back', () => {
    for (const client of clients) {
      client.isDeaf = false;
      client.takeAll();
    }
    many.settle();
    many.retry();
    many.settle();
    for (const { answers } of clients) assert.equal(answers, perClient);
    assert.equal(many.server.octets, 0);
  });
});

let world: World;
/** It has asked once, and idles. */
let idle: Client;
beforeEach(() => {
  world = new World();
  idle = world.connect();
  idle.send();
  world.settle();
  assert.deepEqual([idle.answers, idle.hasEnded], [1, false]);
});

describe('an idle connection', () => {
  test('makes way for one that waits', () => {
    const waiting = world.connect();
    world.settle();
    assert.ok(idle.hasEnded);
    idle.events?.onClose();
    waiting.send();
    world.settle();
    assert.equal(waiting.answers, 1);
  });

  test('does not make way when a query has come that was not read yet: that is answered', () => {
    world.connect();
    assert.ok(!idle.hasEnded);
    idle.send();
    world.turn();
    world.turn();
    assert.equal(idle.answers, 2);
    world.settle();
    assert.ok(idle.hasEnded, 'when that is answered');
  });

  test('of a member that drains ends; a query that has come is answered before', () => {
    world.server.drain();
    assert.ok(!idle.hasEnded);
    idle.send();
    world.settle();
    assert.deepEqual([idle.answers, idle.hasEnded], [2, true]);
  });
});

describe('after the process stood still for longer than the idle time', () => {
  beforeEach(() => {
    world.nowNs += 2 * tcpIdleTimeoutMs * 1e6;
  });

  test('a connection is not idle whose octets are read now', () => {
    idle.send(query.subarray(0, 5));
    world.server.sweep();
    world.settle();
    assert.ok(!idle.hasEnded);
    assert.equal(world.counters[counter.tcpTimeouts], 0);
    idle.send(query.subarray(5));
    world.settle();
    assert.equal(idle.answers, 2);
  });

  test('nor when it is judged between what is read and its turn', () => {
    world.server.sweep();
    idle.send(query.subarray(0, 5));
    world.turn();
    assert.ok(!idle.hasEnded);
    world.server.sweep();
    world.settle();
    assert.ok(!idle.hasEnded, 'its octets have the time of their turn');
  });

  test('one without octets is', () => {
    world.server.sweep();
    world.settle();
    assert.ok(idle.hasEnded);
    assert.equal(world.counters[counter.tcpTimeouts], 1);
  });
});

describe('the address of a connection is that of another pod', () => {
  let other: World;
  beforeEach(() => {
    other = new World();
  });

  test('a query that came before is not answered by us either', () => {
    const client = other.connect();
    client.send();
    other.isOfPod = false;
    other.settle();
    assert.equal(client.answers, 0);
    assert.ok(client.isReset);
    assert.equal(other.counters[counter.repliesToGonePods], 1);
  });

  test('what its client has not taken is not sent any more', () => {
    const client = other.connect();
    client.isDeaf = true;
    client.send();
    other.settle();
    assert.equal(client.answers, 1);
    other.isOfPod = false;
    other.server.sweep();
    other.settle();
    assert.ok(client.isReset);
    assert.equal(other.server.octets, 0);
  });
});
