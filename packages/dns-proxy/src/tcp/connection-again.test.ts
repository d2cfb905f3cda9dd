// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Queries that a server leaves unanswered when it closes a connection are sent again in bounded turns. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { QueryView } from '@tandem/core/dns/query';
import { counter, createSharedCounters } from '../counters.ts';
import {
  tcpAlonePerEndpointMax,
  tcpMessagesPerTurn,
  tcpPassedOverMax,
  tcpReadBytes,
  upstreamDirectMs,
  upstreamTimeoutMs,
} from '../limits.ts';
import { roomFree } from '../policy/query-limits.ts';
import { TcpServer, type TcpServerOptions } from './server.ts';
import type { AcceptedConnection, TcpStream, TcpStreamEvents } from './stream.ts';

const nothing = (): void => undefined;
const queries = 300;

/** A name of one letter, by number, with its length before it. */
function framedQuery(id: number, letter = 'a'): Uint8Array {
  const name = [1, letter.charCodeAt(0), 0];
  const message = [id >> 8, id & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...name, 0, 1, 0, 1];
  return Uint8Array.of(0, message.length, ...message);
}

class World {
  readonly counters: Float64Array = createSharedCounters();
  readonly server: TcpServer;
  /** Ids that were answered to the client, and their RCODEs. */
  readonly answered = new Map<number, number>();
  /** Connections to the server, each with what was written to it. */
  readonly upstreams: {
    readonly events: TcpStreamEvents;
    readonly written: Uint8Array[];
    readonly isPastRedirects: boolean;
  }[] = [];
  client: TcpStreamEvents | null = null;
  isAllowed = true;
  isOfPod = true;
  /** Replies of servers that were taken in. */
  accepted = 0;
  nowMs = 1000;
  #accept: (accepted: AcceptedConnection) => void = nothing;
  readonly #soon: (() => void)[] = [];
  #nextId = 0;

  constructor({ hasRedirects = false } = {}) {
    const connect =
      (isPastRedirects: boolean) =>
      (_: Uint8Array, events: TcpStreamEvents): TcpStream => {
        const upstream = { events, written: [] as Uint8Array[], isPastRedirects };
        this.upstreams.push(upstream);
        return { ...inert, write: (bytes) => void upstream.written.push(bytes.slice()) };
      };
    const lookup = {
      begin: nothing,
      flowOf: () => 0,
      isStillOf: () => this.isOfPod,
      newestGeneration: 2,
      flows: { endpointSlot: [1], policySlot: [0], policyId: [1], namespaceId: [0], trusted: [0] },
      acceptSetOf: () => 0,
      isAllowed: () => this.isAllowed,
      limits: {
        endpoints: { hold: nothing, unhold: nothing, ownerId: [0, 1] },
        ...{ hasToken: () => true, takeToken: () => true, room: () => roomFree },
        ...{ begin: nothing, end: nothing },
      },
    };
    const options = {
      ...{ lookup, answers: { begin: nothing, flush: nothing, accept: () => this.accepted++ } },
      ...{ report: { failed: nothing, timedOut: nothing }, counters: this.counters },
      ...{ query: new QueryView({ low: 1, high: 2 }), reply: { keepaliveAt: 0 } },
      random: { u16: () => this.#nextId++ & 0xffff },
      connectionsPerPod: 1,
      moment: () => ({ monotonicNs: this.nowMs * 1e6, boottimeNs: this.nowMs * 1e6 }),
      system: {
        listen: (_: number, onConnection: (accepted: AcceptedConnection) => void) => {
          this.#accept = onConnection;
          return nothing;
        },
        connect: connect(false),
        ...(hasRedirects ? { connectPastRedirects: connect(true) } : {}),
        soon: (work: () => void) => void this.#soon.push(work),
        after: nothing,
      },
    };
    this.server = new TcpServer(options as unknown as TcpServerOptions);
    this.server.listen(0);
    this.#accept({
      ...{ addresses: new Uint32Array(8), clientPort: 1, refuse: nothing },
      open: (events) => {
        this.client = events;
        const write = (bytes: Uint8Array): void => {
          for (let at = 0; at < bytes.length; at += 2 + ((bytes[at]! << 8) | bytes[at + 1]!)) {
            this.answered.set((bytes[at + 2]! << 8) | bytes[at + 3]!, bytes[at + 5]! & 15);
          }
          events.onTaken(bytes.length);
        };
        return { ...inert, write };
      },
    });
  }

  get sent(): number {
    return this.upstreams.reduce((sum, { written }) => sum + written.length, 0);
  }

  /** False: there is nothing to do. */
  turn(): boolean {
    const works = this.#soon.splice(0);
    for (const work of works) work();
    return works.length > 0;
  }

  ask(): void {
    const all = Array.from({ length: queries }, (_, id) => framedQuery(id));
    const bytes = Buffer.concat(all);
    for (let at = 0; at < bytes.length; at += tcpReadBytes) {
      this.client?.onData(bytes.subarray(at, at + tcpReadBytes));
    }
    while (this.turn());
  }
}

const inert = { pause: nothing, resume: nothing, end: nothing, destroy: nothing, reset: nothing };

/** The server answers the first query of the newest connection, and closes it. */
function answerOne({ upstreams }: World): void {
  const { events, written } = upstreams.at(-1)!;
  events.onConnect?.();
  const [first] = written;
  if (first === undefined) return;
  const reply = first.slice();
  reply[4] = reply[4]! | 0x80;
  events.onData(reply);
}

test('a server that answers one query of a connection and closes it is sent no more than a turn holds', () => {
  const world = new World();
  world.ask();
  assert.equal(world.sent, queries);
  for (let round = 0; world.answered.size < queries; round++) {
    assert.ok(round < 2 * queries, `${world.answered.size} answered`);
    answerOne(world);
    world.turn();
    const last = world.upstreams.at(-1)!;
    last.events.onEnd();
    const before = world.sent;
    world.turn();
    assert.ok(world.sent - before <= tcpMessagesPerTurn, `${world.sent - before} in one turn`);
  }
  assert.deepEqual([...new Set(world.answered.values())], [0]);
});

const letterOf = (framed: Uint8Array): string => String.fromCharCode(framed[15]!);

/**
 * A server that takes longer for "s." than a connection with "k." lives: it answers what else is on that, and closes it. It never
 * answers "n.".
 */
class KilledServer {
  readonly #world: World;
  /** Connections that were made, one after the other. */
  #served = 0;
  /** Queries of each connection that it has ended, by letter. */
  readonly lettersOfEnded: string[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  ask(id: number, letter: string): void {
    this.#world.client?.onData(framedQuery(id, letter));
    while (this.#world.turn());
  }

  run(onEnded: () => void = nothing): void {
    const world = this.#world;
    for (; this.#served < world.upstreams.length; this.#served++) {
      const { events, written } = world.upstreams[this.#served]!;
      const letters = written.map(letterOf).join('');
      const isKilled = letters.includes('k');
      events.onConnect?.();
      for (const framed of written) {
        const letter = letterOf(framed);
        if ('kn'.includes(letter) || (letter === 's' && isKilled)) continue;
        const reply = framed.slice();
        reply[4] = reply[4]! | 0x80;
        events.onData(reply);
        while (world.turn());
      }
      if (!isKilled) continue;
      this.lettersOfEnded.push(letters);
      events.onClose();
      onEnded();
      while (world.turn());
    }
  }
}

test('a query with which each connection ends, after answers to later ones, is not sent for ever', () => {
  const world = new World();
  const server = new KilledServer(world);
  let nextId = 1;
  const ask = (): void => {
    assert.ok(nextId < 20, 'it is sent for ever');
    server.ask(nextId++, 'a');
  };
  server.ask(0, 'k');
  ask();
  server.run(ask);
  const beside = Array.from({ length: 1 + tcpPassedOverMax }, () => 'ka');
  assert.deepEqual(server.lettersOfEnded, [...beside, 'k'], 'at last alone');
  assert.equal(world.answered.get(0), 2);
});

for (const [title, repeats] of [
  ['once', 0],
  ['again and again', 3],
] as const) {
  test(`a slow query beside one that ends connections is answered, if that is asked ${title}`, () => {
    const world = new World();
    const server = new KilledServer(world);
    let nextId = 100;
    server.ask(0, 'k');
    server.ask(1, 's');
    server.ask(2, 'a');
    let left = repeats;
    server.run(() => {
      // A query that is answered before the others, each time; and a stub that asks again.
      server.ask(nextId++, 'a');
      if (world.answered.get(0) !== 2 || left === 0) return;
      left -= 1;
      world.answered.delete(0);
      server.ask(0, 'k');
    });
    assert.deepEqual([world.answered.get(0), world.answered.get(1)], [2, 0]);
    assert.equal(server.lettersOfEnded.filter((letters) => letters === 'k').length, 1 + repeats);
    assert.ok(
      server.lettersOfEnded.length <= (1 + repeats) * (3 + tcpPassedOverMax),
      server.lettersOfEnded.join(),
    );
  });
}

test('so many are asked alone at one time, and none more than once: the others get SERVFAIL', () => {
  const world = new World();
  const server = new KilledServer(world);
  const slow = tcpAlonePerEndpointMax + 5;
  /** Counts of answers and of SERVFAIL. */
  const round = (letter: string, timeoutMs: number): readonly number[] => {
    world.answered.clear();
    server.ask(0, 'k');
    for (let id = 1; id <= slow; id++) server.ask(id, letter);
    let nextId = 100;
    server.ask(nextId++, 'a');
    const before = world.sent;
    server.run(() => server.ask(nextId++, 'a'));
    const asked = world.sent - before;
    assert.ok(asked <= (1 + slow) * (1 + tcpPassedOverMax) + nextId - 100, `${asked} sent`);
    world.nowMs += timeoutMs;
    world.server.sweep();
    while (world.turn());
    const rcodes = Array.from({ length: 1 + slow }, (_, id) => world.answered.get(id));
    return [0, 2].map((wanted) => rcodes.filter((rcode) => rcode === wanted).length);
  };
  const answered = tcpAlonePerEndpointMax - 1;
  assert.deepEqual(round('n', upstreamTimeoutMs), [0, 1 + slow], 'they time out');
  assert.deepEqual(round('s', 0), [answered, 1 + slow - answered], 'their places are free again');
  world.client?.onClose();
  assert.equal(world.server.octets, 0);
});

test('one that is asked alone when its server gets other backends, and no server was asked yet, is asked alone again', () => {
  const world = new World();
  const server = new KilledServer(world);
  let nextId = 100;
  server.ask(0, 'k');
  server.ask(1, 's');
  server.ask(2, 'a');
  server.run(() => {
    if (server.lettersOfEnded.length <= tcpPassedOverMax) return server.ask(nextId++, 'a');
    while (world.turn());
    world.server.backendsChanged(new Uint8Array(16));
    server.lettersOfEnded.length = 0;
  });
  const alone = world.upstreams.slice(1 + tcpPassedOverMax, 5 + tcpPassedOverMax);
  assert.deepEqual(
    alone.map(({ written }) => written.map(letterOf).join()),
    ['k', 's', 's', 'k'],
  );
  assert.deepEqual([world.answered.get(0), world.answered.get(1)], [2, 0]);
});

test('a client that leaves ends what is asked alone', () => {
  const world = new World();
  const server = new KilledServer(world);
  let nextId = 100;
  server.ask(0, 'k');
  server.ask(1, 'a');
  server.run(() => {
    if (server.lettersOfEnded.length > tcpPassedOverMax) world.client?.onClose();
    else server.ask(nextId++, 'a');
  });
  assert.equal(world.server.octets, 0);
  assert.equal(world.server.connections, 0);
});

test('what policy forbids meanwhile is not sent again', () => {
  const world = new World();
  world.ask();
  answerOne(world);
  world.turn();
  world.isAllowed = false;
  world.upstreams.at(-1)?.events.onEnd();
  while (world.turn());
  assert.equal(world.sent, queries);
  assert.equal(world.answered.size, queries);
  assert.equal(world.counters[counter.queriesAskedAgain], 0);
});

test('a client that leaves takes what waits with it', () => {
  const world = new World();
  world.ask();
  answerOne(world);
  world.turn();
  world.upstreams.at(-1)?.events.onEnd();
  world.client?.onClose();
  const { sent } = world;
  while (world.turn());
  assert.equal(world.sent, sent);
  assert.equal(world.server.octets, 0);
});

/** The last connection answers all that was sent on it. */
function answerAll(world: World): void {
  const { events, written } = world.upstreams.at(-1)!;
  events.onConnect?.();
  for (const framed of written) {
    const reply = framed.slice();
    reply[4] = reply[4]! | 0x80;
    events.onData(reply);
    while (world.turn());
  }
}

test('a connection that is refused is made once more, past redirects, and no query is lost', () => {
  const world = new World({ hasRedirects: true });
  world.ask();
  world.upstreams.at(-1)?.events.onClose();
  while (world.turn());
  assert.deepEqual(
    world.upstreams.map(({ isPastRedirects }) => isPastRedirects),
    [false, true],
  );
  answerAll(world);
  assert.deepEqual([world.answered.size, ...new Set(world.answered.values())], [queries, 0]);
  assert.equal(world.counters[counter.tcpUpstreamsReopened], 1);
  // What follows on the connection of the pod goes past redirects too.
  world.upstreams.at(-1)?.events.onEnd();
  world.answered.clear();
  world.ask();
  assert.equal(world.upstreams.at(-1)?.isPastRedirects, true);
});

test('a server that refuses both is asked no third time', () => {
  const world = new World({ hasRedirects: true });
  world.ask();
  for (let ended = 0; ended < world.upstreams.length; ended++) {
    world.upstreams[ended]?.events.onClose();
    while (world.turn());
  }
  assert.equal(world.upstreams.length, 2);
  assert.deepEqual([world.answered.size, ...new Set(world.answered.values())], [queries, 2]);
});

/** The ways of the connections: past redirects or not. */
function ways({ upstreams }: World): boolean[] {
  return upstreams.map(({ isPastRedirects }) => isPastRedirects);
}

/** A server behind a redirect to a pod that is gone: it was refused once, answered past redirects, and closed. */
function worldThatRemembers(): World {
  const world = new World({ hasRedirects: true });
  world.ask();
  world.upstreams.at(-1)?.events.onClose();
  while (world.turn());
  answerAll(world);
  world.upstreams.at(-1)?.events.onEnd();
  return world;
}

test('answers past redirects do not make the memory of a refusal last', () => {
  const world = worldThatRemembers();
  world.nowMs += upstreamDirectMs - 1;
  world.ask();
  answerAll(world);
  world.upstreams.at(-1)?.events.onEnd();
  world.nowMs += 1;
  world.ask();
  assert.deepEqual(ways(world), [false, true, true, false]);
});

test('a server with other backends is asked the usual way again', () => {
  const world = worldThatRemembers();
  world.ask();
  world.upstreams.at(-1)?.events.onConnect?.();
  world.server.backendsChanged(new Uint8Array(16));
  // Its answer comes after the change.
  answerAll(world);
  world.upstreams.at(-1)?.events.onEnd();
  world.ask();
  assert.deepEqual(ways(world), [false, true, true, false]);
});

test('an answer past redirects that comes after the backends changed is not remembered', () => {
  const world = new World({ hasRedirects: true });
  world.ask();
  world.upstreams.at(-1)?.events.onClose();
  while (world.turn());
  world.upstreams.at(-1)?.events.onConnect?.();
  world.server.backendsChanged(new Uint8Array(16));
  answerAll(world);
  world.upstreams.at(-1)?.events.onEnd();
  world.ask();
  assert.deepEqual(ways(world), [false, true, false]);
});

for (const [title, isRefusedAgain, rcode] of [
  ['answers', false, 0],
  ['refuses too', true, 2],
] as const) {
  test(`a remembered way past redirects that is refused has one usual one after it, which ${title}`, () => {
    const world = worldThatRemembers();
    world.answered.clear();
    world.ask();
    world.upstreams.at(-1)?.events.onClose();
    while (world.turn());
    if (isRefusedAgain) {
      world.upstreams.at(-1)?.events.onClose();
      while (world.turn());
    } else answerAll(world);
    assert.deepEqual(ways(world), [false, true, true, false]);
    assert.deepEqual([world.answered.size, ...new Set(world.answered.values())], [queries, rcode]);
    world.upstreams.at(-1)?.events.onEnd();
    world.ask();
    assert.equal(ways(world).at(-1), false, 'the memory is gone');
  });
}

test('a reply that comes when another pod has the address is kept back, and teaches nothing', () => {
  const world = new World();
  world.ask();
  world.isOfPod = false;
  answerOne(world);
  while (world.turn());
  assert.equal(world.accepted, 0);
  assert.equal(world.answered.size, 0);
  assert.equal(world.counters[counter.repliesToGonePods], 1);
  world.server.sweep();
  while (world.turn());
  assert.equal(world.server.connections, 0);
  assert.equal(world.server.octets, 0);
  assert.equal(world.counters[counter.repliesToGonePods], queries);
});
