// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Two exchanges over streams that lose, repeat, stall and outlive each other, between lives that end at
 * any moment. When all is quiet again the caches are equal and no run has met an event twice.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { joinMappings, type FqdnMapping as NameMapping } from '@tandem/core/fqdn/merge';
import { SyncMessage, type SyncMessageInit } from '@tandem/proto/gen/messages';
import * as fc from 'fast-check';
import { address, dnsRecord, dropRecord, wireName } from '../../test/records.ts';
import { mappingsOf, smallStore } from '../../test/small-store.ts';
import { dnsRecordField, flagLearned, flagTrusted, flagUnselected } from '../records/dns-event.ts';
import type { NodeStore } from '../store/node-store.ts';
import { Exchange, type ExchangePort } from './exchange.ts';

const seed = 20_261_121;
const limits = {
  backlogPiecesMax: 3,
  batchesInFlightMax: 2,
  pieceBytesMax: 400,
  pageMappingsMax: 3,
} as const;
const waitingBytesMax =
  (limits.backlogPiecesMax + limits.batchesInFlightMax + 2) * limits.pieceBytesMax;
const streamMessagesMax = 3;

/** One process: lives that follow each other. */
class Side {
  readonly member: number;
  store!: NodeStore;
  exchange!: Exchange;
  life = 0;
  /** Events that this run received, by their number. */
  told!: Set<number>;
  /** The mappings that this run learned by itself. */
  learned: NameMapping[] = [];
  /** DNS events of this run's own worker. */
  own = 0;

  constructor(member: number) {
    this.member = member;
    this.restart();
  }

  restart(): void {
    this.life += 1;
    this.store = smallStore();
    this.told = new Set();
    this.learned = [];
    this.own = 0;
    const { store, told } = this;
    this.exchange = new Exchange({
      ...limits,
      member: this.member,
      epoch: this.life * 1000 + this.member,
      version: 'test',
      cache: store.cache,
      sink: {
        dnsRecord: (bytes, at, length) => {
          const number = new DataView(bytes.buffer, bytes.byteOffset + at).getFloat64(
            dnsRecordField.timeUs,
            true,
          );
          assert.ok(!told.has(number), `event ${number} came twice`);
          told.add(number);
          store.dnsRecord(bytes, at, length);
        },
        dropRecord: (bytes, at, length) => store.dropRecord(bytes, at, length),
        mapping: (mapping) => store.mapping(mapping),
        cacheReceived: () => store.cacheReceived(),
      },
    });
  }
}

/** One end of a stream as its exchange sees it. */
class Port implements ExchangePort {
  readonly queue: Uint8Array[] = [];
  isOpen = true;

  get isWritable(): boolean {
    return this.isOpen && this.queue.length < streamMessagesMax;
  }

  send(message: SyncMessageInit): boolean {
    if (!this.isWritable) return false;
    this.queue.push(SyncMessage.encode(message));
    return true;
  }

  close(): void {
    this.isOpen = false;
  }
}

class Stream {
  readonly ports: readonly [Port, Port] = [new Port(), new Port()];
  readonly lives: readonly [number, number];

  constructor(lives: readonly [number, number]) {
    this.lives = lives;
  }

  get isDead(): boolean {
    return this.ports.some((port) => !port.isOpen && port.queue.length === 0);
  }
}

class World {
  readonly sides: readonly [Side, Side] = [new Side(0), new Side(1)];
  streams: Stream[] = [];
  #events = 0;
  #nowMs = 0;

  learn(index: number, name: number, host: number, expires: number, isTrusted: boolean): void {
    const side = this.sides[index] as Side;
    const policyId = 70 + (host % 2);
    const flags = isTrusted ? flagTrusted | flagLearned : flagUnselected;
    const text = `n${name}.example`;
    const target = `192.0.2.${host}`;
    this.#own(
      side,
      dnsRecord({
        name: text,
        flags,
        policyId,
        timeUs: ++this.#events,
        addresses: [[target, expires]],
      }),
    );
    const scope = isTrusted ? 0 : policyId;
    const mapping = {
      name: wireName(text),
      address: address(target),
      expires,
      namespaceId: 3,
      scope,
    };
    side.learned.push(mapping);
  }

  event(index: number): void {
    this.#own(this.sides[index] as Side, dnsRecord({ name: 'a', timeUs: ++this.#events }));
  }

  drop(index: number): void {
    const record = dropRecord();
    (this.sides[index] as Side).exchange.offerDrop(record, 0, record.length);
  }

  open(): void {
    const stream = new Stream([this.sides[0].life, this.sides[1].life]);
    this.streams.push(stream);
    this.#eachEnd(stream, (side, port) => side.exchange.open(port));
  }

  /** Delivers the oldest message to one end; lost or repeated if so wished. */
  deliver(stream: Stream, index: number, fate: 'arrives' | 'lost' | 'twice'): void {
    const from = stream.ports[1 - index] as Port;
    const message = from.queue.shift();
    if (message === undefined || fate === 'lost') return;
    const side = this.sides[index] as Side;
    const port = stream.ports[index] as Port;
    // A process that is gone, or has closed its end, hears nothing.
    if (side.life !== stream.lives[index] || !port.isOpen) return;
    side.exchange.receive(port, SyncMessage.decode(message));
    if (fate === 'twice') side.exchange.receive(port, SyncMessage.decode(message));
    const sender = this.sides[1 - index] as Side;
    if (sender.life === stream.lives[1 - index]) sender.exchange.pump();
  }

  end(stream: Stream): void {
    this.streams = this.streams.filter((other) => other !== stream);
    this.#eachEnd(stream, (side, port) => {
      port.close();
      side.exchange.closed(port);
    });
  }

  restart(index: number): void {
    (this.sides[index] as Side).restart();
  }

  tick(ms: number): void {
    this.#nowMs += ms;
    for (const { exchange } of this.sides) exchange.tick(this.#nowMs, 0);
    for (const { exchange } of this.sides) {
      assert.ok(exchange.outbox.waitingBytes <= waitingBytesMax, 'memory is bounded');
      assert.ok(exchange.outbox.inFlight <= limits.batchesInFlightMax);
    }
  }

  /** Both are there and one good stream is open, until nothing is left to say. */
  settle(): void {
    for (const stream of [...this.streams]) this.end(stream);
    for (let round = 0; round < 1000; round++) {
      for (const stream of this.streams.filter((one) => one.isDead)) this.end(stream);
      if (this.streams.length === 0) this.open();
      const stream = this.streams[0] as Stream;
      for (let i = 0; i < 20; i++) {
        this.deliver(stream, 0, 'arrives');
        this.deliver(stream, 1, 'arrives');
      }
      this.tick(1000);
      const isQuiet = stream.ports.every((port) => port.queue.length === 0);
      if (round > 20 && isQuiet && this.sides.every((side) => side.exchange.outbox.isIdle)) return;
    }
    assert.fail('the exchange never comes to rest');
  }

  #own(side: Side, record: Uint8Array): void {
    side.own += 1;
    const isMapping = side.store.dnsRecord(record, 0, record.length);
    side.exchange.offerDns(record, 0, record.length, isMapping);
  }

  #eachEnd(stream: Stream, visit: (side: Side, port: Port) => void): void {
    for (const index of [0, 1]) {
      const side = this.sides[index] as Side;
      if (side.life === stream.lives[index]) visit(side, stream.ports[index] as Port);
    }
  }
}

type Step = (world: World) => void;
const side = fc.nat(1);
/** Mostly the newest stream. */
const pick = (world: World, n: number): Stream | undefined =>
  world.streams.at(-1 - (n % 4 === 3 ? n % world.streams.length : 0));

const learn = fc
  .tuple(side, fc.nat(9), fc.nat(3), fc.integer({ min: 10, max: 60 }), fc.boolean())
  .map(
    (a): Step =>
      (world) =>
        world.learn(...a),
  );
const event = side.map(
  (at): Step =>
    (world) =>
      world.event(at),
);
const drop = side.map(
  (at): Step =>
    (world) =>
      world.drop(at),
);
const open = fc.constant<Step>((world) => world.open());
const tick = fc.constant<Step>((world) => world.tick(100));
const deliver = (fate: 'arrives' | 'lost' | 'twice'): fc.Arbitrary<Step> =>
  fc.tuple(fc.nat(11), side, fc.integer({ min: 1, max: 4 })).map(([n, at, count]) => (world) => {
    const stream = pick(world, n);
    if (stream === undefined) return;
    for (let i = 0; i < (fate === 'arrives' ? count : 1); i++) world.deliver(stream, at, fate);
  });
const end = fc.nat(11).map(
  (n): Step =>
    (world) => {
      const stream = pick(world, n);
      if (stream !== undefined) world.end(stream);
    },
);
/** Both ends hear each other for a while. */
const talk = fc.nat(11).map(
  (n): Step =>
    (world) => {
      const stream = pick(world, n);
      if (stream === undefined) return;
      for (let i = 0; i < 6; i++) world.deliver(stream, i % 2, 'arrives');
      world.tick(100);
    },
);
const burst = fc.tuple(side, fc.integer({ min: 1, max: 30 })).map(
  ([at, count]): Step =>
    (world) => {
      for (let i = 0; i < count; i++) world.learn(at, 10 + i, i % 4, 20 + i, true);
    },
);
const restart = side.map(
  (at): Step =>
    (world) =>
      world.restart(at),
);

const gentle = fc.oneof(
  { weight: 6, arbitrary: learn },
  { weight: 2, arbitrary: event },
  { weight: 1, arbitrary: drop },
  { weight: 2, arbitrary: open },
  { weight: 4, arbitrary: tick },
  { weight: 2, arbitrary: burst },
  { weight: 8, arbitrary: talk },
  { weight: 6, arbitrary: deliver('arrives') },
  { weight: 2, arbitrary: deliver('lost') },
  { weight: 2, arbitrary: deliver('twice') },
  { weight: 1, arbitrary: end },
);

/** Sums over all runs: what never happens is not tested. */
const seen = { batchesRepeated: 0, protocolErrors: 0, mappingsLost: 0, transfers: 0 };

function run(steps: readonly Step[]): World {
  const world = new World();
  for (const step of steps) step(world);
  world.settle();
  for (const { exchange } of world.sides) {
    seen.batchesRepeated += exchange.counters.batchesRepeated;
    seen.protocolErrors += exchange.counters.protocolErrors;
    seen.mappingsLost += exchange.outbox.mappingsLost;
    seen.transfers += exchange.outbox.transfers;
  }
  return world;
}

test('the caches end equal, and hold all that was learned', () => {
  fc.assert(
    fc.property(fc.array(gentle, { minLength: 40, maxLength: 120 }), (steps) => {
      const world = run(steps);
      const [a, b] = world.sides;
      assert.deepEqual(mappingsOf(a.store, 0), mappingsOf(b.store, 0));
      assert.deepEqual(mappingsOf(a.store, 0), joinMappings(a.learned, b.learned));
    }),
    { seed, numRuns: 400 },
  );
});

test('also when either side starts anew at any moment', () => {
  const any = fc.oneof({ weight: 20, arbitrary: gentle }, { weight: 1, arbitrary: restart });
  fc.assert(
    fc.property(fc.array(any, { minLength: 40, maxLength: 160 }), (steps) => {
      const world = run(steps);
      const [a, b] = world.sides;
      const mappings = mappingsOf(a.store, 0);
      assert.deepEqual(mappings, mappingsOf(b.store, 0));
      // What the present lives learned is not lost.
      assert.deepEqual(mappings, joinMappings(mappings, [...a.learned, ...b.learned]));
    }),
    { seed, numRuns: 400 },
  );
});

test('events that no limit refused all come, once', () => {
  // Without drops: they would take part in what is lost.
  const steps_ = fc.oneof(
    learn,
    event,
    event,
    open,
    tick,
    talk,
    talk,
    deliver('lost'),
    deliver('twice'),
    end,
  );
  fc.assert(
    fc.property(fc.array(steps_, { minLength: 40, maxLength: 200 }), (steps) => {
      const world = run(steps);
      for (const [index, { told, exchange }] of world.sides.entries()) {
        const other = world.sides[1 - index] as Side;
        assert.equal(told.size + other.exchange.outbox.eventsLost, other.own);
        assert.equal(exchange.counters.peerEventsLost, other.exchange.outbox.eventsLost);
        assert.equal(exchange.counters.recordsRefused, 0);
      }
    }),
    { seed, numRuns: 300 },
  );
});

test('the runs above met repeated batches, gaps, losses and transfers', () => {
  for (const [what, count] of Object.entries(seen)) assert.ok(count > 100, `${what}: ${count}`);
});
