// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Drop events that one process tells to lives of the other that follow each other, over streams that end
 * at any moment. What a run counts as missing is all that it should have been told and was not, and
 * nothing that a run before it had.
 */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tdEvent } from '@tandem/datapath/abi.gen';
import { SyncMessage } from '@tandem/proto/gen/messages';
import * as fc from 'fast-check';
import { QueuedPort } from '../../test/queued-port.ts';
import { dropRecord } from '../../test/records.ts';
import { smallStore } from '../../test/small-store.ts';
import { ringRecordBytes } from '../drops/ledger.ts';
import { positionOf } from '../records/loss-record.ts';
import { Exchange } from './exchange.ts';

const seed = 20_261_121;
const limits = { backlogPiecesMax: 3, batchesInFlightMax: 2, pieceBytesMax: 400 } as const;
const positionAfter = (event: number): number => (event + 1) * ringRecordBytes;

type Store = ReturnType<typeof smallStore>;

class World {
  readonly sender: Exchange;
  /** The present run of the receiver. */
  receiver!: Exchange;
  store!: Store;
  /** Events that were there when this run began, and those that the other member sent to it. */
  begun = 0;
  told = new Set<number>();
  /** Events that any process run was told. */
  readonly toldEver = new Set<number>();
  made = 0;
  #lives = 0;
  #nowMs = 0;
  #ports: readonly [QueuedPort, QueuedPort] | null = null;

  constructor() {
    const store = smallStore();
    const options = { ...limits, member: 0, epoch: 1, version: 'test' };
    this.sender = new Exchange({ ...options, cache: store.cache, sink: store });
    this.restart();
  }

  restart(): void {
    this.end();
    const store = smallStore();
    const told = new Set<number>();
    this.store = store;
    this.told = told;
    this.begun = this.made;
    store.drops.lastPosition = () => this.made * ringRecordBytes;
    store.drops.begin(this.made * ringRecordBytes, 0);
    this.receiver = new Exchange({
      ...limits,
      member: 1,
      epoch: ++this.#lives,
      version: 'test',
      cache: store.cache,
      sink: {
        dnsRecord: () => undefined,
        mapping: () => undefined,
        cacheReceived: () => undefined,
        dropsSince: (position, ring) => store.dropsSince(position, ring),
        dropRecord: (bytes, at, length) => {
          const event = positionOf(bytes, at) / ringRecordBytes - 1;
          assert.ok(store.dropRecord(bytes, at, length), `event ${event} came twice`);
          told.add(event);
          this.toldEver.add(event);
        },
      },
    });
  }

  drop(count: number, isLimited = false): void {
    for (let i = 0; i < count; i++) {
      const record = dropRecord();
      const position = BigInt(positionAfter(this.made++));
      new DataView(record.buffer).setBigUint64(tdEvent.position, position, true);
      if (isLimited) this.sender.outbox.limit('drop', record, 0);
      else this.sender.offerDrop(record, 0, record.length);
    }
  }

  open(): void {
    this.end();
    this.#ports = [new QueuedPort(), new QueuedPort()];
    this.sender.open(this.#ports[0]);
    this.receiver.open(this.#ports[1]);
  }

  end(): void {
    if (this.#ports === null) return;
    this.sender.closed(this.#ports[0]);
    this.receiver.closed(this.#ports[1]);
    this.#ports = null;
  }

  /** The oldest message to the sender, or to the receiver. */
  deliver(isToSender: boolean): void {
    if (this.#ports === null) return;
    const [ofSender, ofReceiver] = this.#ports;
    const bytes = (isToSender ? ofReceiver : ofSender).queue.shift();
    if (bytes === undefined) return;
    if (isToSender) this.sender.receive(ofSender, SyncMessage.decode(bytes));
    else this.receiver.receive(ofReceiver, SyncMessage.decode(bytes));
  }

  /** Both hear what there is. */
  talk(): void {
    for (let i = 0; i < 8; i++) this.deliver(i % 2 === 0);
  }

  tick(): void {
    this.#nowMs += 100;
    this.sender.tick(this.#nowMs, 0);
    this.receiver.tick(this.#nowMs, 0);
  }

  /** Until all is told; the last event says where the end is. */
  settle(): void {
    this.drop(1);
    this.open();
    for (let i = 0; i < 200; i++) {
      this.deliver(i % 2 === 0);
      this.deliver(i % 2 === 0);
      if (i % 4 === 3) this.tick();
    }
    assert.ok(this.sender.outbox.isIdle);
  }
}

type Step = (world: World) => void;
const of = (step: Step): fc.Arbitrary<Step> => fc.constant(step);
const count = fc.integer({ min: 1, max: 6 });
const steps = fc.array(
  fc.oneof(
    {
      weight: 6,
      arbitrary: count.map(
        (n): Step =>
          (world) =>
            world.drop(n),
      ),
    },
    {
      weight: 1,
      arbitrary: count.map(
        (n): Step =>
          (world) =>
            world.drop(n, true),
      ),
    },
    { weight: 2, arbitrary: of((world) => world.open()) },
    { weight: 1, arbitrary: of((world) => world.end()) },
    { weight: 6, arbitrary: of((world) => world.tick()) },
    { weight: 8, arbitrary: of((world) => world.deliver(false)) },
    { weight: 8, arbitrary: of((world) => world.deliver(true)) },
    { weight: 4, arbitrary: of((world) => world.talk()) },
    { weight: 1, arbitrary: of((world) => world.restart()) },
  ),
  { minLength: 20, maxLength: 120 },
);

test('a life misses what it was not told, and nothing that a life before it was', () => {
  let [withLoss, after] = [0, 0];
  fc.assert(
    fc.property(steps, (run) => {
      const world = new World();
      for (const step of run) step(world);
      world.settle();
      const { drops } = world.store;
      let [ours, never] = [0, 0];
      for (let event = 0; event < world.made; event++) {
        if (event >= world.begun && !world.told.has(event)) ours += 1;
        if (!world.toldEver.has(event)) never += 1;
      }
      assert.equal(drops.seen, world.told.size);
      assert.ok(drops.missing >= ours, `${drops.missing} missing, ${ours} were lost in this life`);
      assert.ok(drops.missing <= never, `${drops.missing} missing, ${never} were never told`);
      if (drops.missing > 0) withLoss += 1;
      if (world.toldEver.size > world.told.size) after += 1;
    }),
    { seed, numRuns: 1000 },
  );
  assert.ok(withLoss > 100 && after > 100, `met: ${withLoss} with losses, ${after} after a life`);
});

test('what was acknowledged while more was waiting is not missing to the next life', () => {
  const world = new World();
  world.open();
  world.talk();
  world.drop(3);
  world.tick();
  // The next ones come before the acknowledgement, which leaves something to tell.
  world.drop(3);
  world.talk();
  // These are in flight when it dies.
  world.tick();
  assert.equal(world.told.size, 3);
  world.restart();
  world.drop(2);
  world.settle();
  assert.equal(world.sender.outbox.eventsLost, 0);
  assert.equal(world.store.drops.missing, 0);
});
