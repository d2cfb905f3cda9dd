// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Both processes over the real ring, in lives that end at any moment, each as slow as chance has it: who
 * reads changes hands while the other's messages are under way. Nothing is refused by a limit here, so
 * every event is had by some run, no run has one twice, and none counts any as missing.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import type { Datapath } from '@tandem/datapath/datapath';
import { SyncMessage } from '@tandem/proto/gen/messages';
import type { Clock } from '@tandem/runtime/system-clock';
import * as fc from 'fast-check';
import { loadKernelMaps } from '../../test/kernel-maps.ts';
import { QueuedPort } from '../../test/queued-port.ts';
import { smallStore } from '../../test/small-store.ts';
import { lossReasonOf, positionOf } from '../records/loss-record.ts';
import { Exchange } from '../sync/exchange.ts';
import { ringRecordBytes } from './ledger.ts';
import { dropLeaseStaleMs, missingSettleMs } from './limits.ts';
import { DropReader } from './reader.ts';

const seed = 20_261_121;
const kernel = loadKernelMaps();
after(() => kernel[Symbol.dispose]());
const datapath = { map: (name: string) => kernel.map(name) } as unknown as Datapath;
/** A frame that is neither IP nor ARP: dropped with an event, whatever the maps hold. */
const frame = new Uint8Array(64);
frame.set([0x88, 0xb5], 12);
let nowMs = 1_000_000;
let lives = 0;
const clock: Clock = {
  monotonicMs: () => nowMs,
  boottimeSeconds: () => nowMs / 1000,
  wallMs: () => nowMs,
};

/** A run of a process. */
class Life {
  readonly store: ReturnType<typeof smallStore> = smallStore();
  readonly exchange: Exchange;
  readonly reader: DropReader;
  readonly shown = new Set<number>();
  port = new QueuedPort();

  constructor(member: number) {
    const { store } = this;
    this.exchange = new Exchange({
      member,
      epoch: ++lives,
      version: 'test',
      cache: store.cache,
      sink: {
        dnsRecord: () => undefined,
        mapping: () => undefined,
        cacheReceived: () => undefined,
        dropsSince: (position, ring) => store.dropsSince(position, ring),
        dropRecord: (bytes, at, length) => void this.#take(bytes, at, length),
      },
    });
    this.reader = new DropReader({
      datapath,
      member,
      clock,
      onRecord: (bytes, at, length, isCatchUp) => {
        if (this.#take(bytes, at, length)) this.exchange.offerDrop(bytes, at, length, isCatchUp);
      },
      acknowledgedPosition: (ring) => this.exchange.outbox.acknowledgedDropPosition(ring),
    });
    store.drops.lastPosition = () => this.reader.lastPosition;
    store.drops.begin(this.reader.lastPosition, this.reader.ringId);
  }

  #take(bytes: Uint8Array, at: number, length: number): boolean {
    if (!this.store.dropRecord(bytes, at, length)) return false;
    if (lossReasonOf(bytes, at) !== null) return true;
    const event = positionOf(bytes, at) / ringRecordBytes - 1;
    assert.ok(!this.shown.has(event), `event ${event} was shown twice`);
    this.shown.add(event);
    return true;
  }
}

class World {
  readonly #lives: [Life, Life] = [new Life(0), new Life(1)];
  readonly #dead: Life[] = [];
  readonly #first = this.#end;
  #isOpen = false;

  get #end(): number {
    return this.#lives[0].reader.lastPosition / ringRecordBytes;
  }

  drop(count: number): void {
    kernel.program('from_pod').testRun({ data: frame, repeat: count });
  }

  read(index: number): void {
    (this.#lives[index] as Life).reader.step();
  }

  tick(index: number): void {
    (this.#lives[index] as Life).exchange.tick(nowMs, 0);
  }

  hear(index: number): void {
    const { exchange, port } = this.#lives[index] as Life;
    const bytes = (this.#lives[1 - index] as Life).port.queue.shift();
    if (bytes !== undefined && this.#isOpen) exchange.receive(port, SyncMessage.decode(bytes));
  }

  close(): void {
    for (const { exchange, port } of this.#lives) exchange.closed(port);
    this.#isOpen = false;
  }

  open(): void {
    this.close();
    this.#isOpen = true;
    for (const life of this.#lives) life.port = new QueuedPort();
    for (const { exchange, port } of this.#lives) exchange.open(port);
  }

  restart(index: number): void {
    this.close();
    this.#dead.push(this.#lives[index] as Life);
    this.#lives[index] = new Life(index);
  }

  /** Both run as they should, until all is told. */
  settle(): void {
    this.open();
    for (let round = 0; round < 40; round++) {
      nowMs += 50;
      for (const index of [0, 1]) {
        this.read(index);
        for (let i = 0; i < 8; i++) this.hear(index);
        this.tick(index);
      }
    }
  }

  judge(): void {
    const shown = new Set<number>();
    for (const life of [...this.#dead, ...this.#lives]) {
      for (const event of life.shown) shown.add(event);
    }
    for (let event = this.#first; event < this.#end; event++) {
      assert.ok(shown.has(event), `event ${event - this.#first} was lost`);
    }
    for (const [index, { store }] of this.#lives.entries()) {
      // Also what it may not have heard of at all: one period until it is noticed, one until it is told of.
      for (let period = 0; period < 4; period++) store.tick(nowMs + period * missingSettleMs);
      assert.deepEqual([store.notTold, store.drops.missing], [0, 0], `member ${index}`);
    }
  }

  /** The dead last: the lease is not theirs any more. */
  end(): void {
    for (const { reader } of [...this.#lives, ...this.#dead]) reader[Symbol.dispose]();
  }
}

type Step = readonly [what: string, index: number, count: number];
const step: fc.Arbitrary<Step> = fc.tuple(
  fc.oneof(
    ...(
      [
        ['drop', 6],
        ['read', 8],
        ['tick', 6],
        ['hear', 10],
        ['pass', 4],
        ['hang', 1],
        ['open', 2],
        ['restart', 1],
      ] as const
    ).map(([what, weight]) => ({ weight, arbitrary: fc.constant(what as string) })),
  ),
  fc.nat(1),
  fc.integer({ min: 1, max: 5 }),
);

function run(world: World, [what, index, count]: Step): void {
  if (what === 'drop') world.drop(count);
  else if (what === 'read') world.read(index);
  else if (what === 'tick') world.tick(index);
  else if (what === 'hear') for (let i = 0; i < count; i++) world.hear(index);
  else if (what === 'pass') nowMs += 50;
  else if (what === 'hang') nowMs += dropLeaseStaleMs + 1;
  else if (what === 'open') world.open();
  else world.restart(index);
}

/** Runs `happens`, and then a quiet end, after which all must be well. */
function inWorld(happens: (world: World) => void): void {
  const world = new World();
  try {
    happens(world);
    nowMs += dropLeaseStaleMs + 1;
    world.settle();
    world.judge();
  } finally {
    world.end();
  }
}

test('whoever reads, every event is had, none twice, and none is missed', () => {
  fc.assert(
    fc.property(fc.array(step, { minLength: 20, maxLength: 150 }), (steps) =>
      inWorld((world) => {
        for (const one of steps) run(world, one);
      }),
    ),
    { seed, numRuns: 300 },
  );
});

test('an older event that was not told yet does not make a life miss what the life before it had', () => {
  inWorld((world) => {
    world.drop(1);
    // The proxy has it to tell, and is slow to do so.
    world.read(1);
    world.drop(1);
    world.open();
    for (let i = 0; i < 4; i++) for (const index of [0, 1]) world.hear(index);
    // The agent reads both, tells both, is told that they came, and frees their room.
    world.read(0);
    world.tick(0);
    for (let i = 0; i < 4; i++) for (const index of [1, 0]) world.hear(index);
    world.read(0);
    world.restart(0);
  });
});
