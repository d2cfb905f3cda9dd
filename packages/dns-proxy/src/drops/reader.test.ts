// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Two readers of the real ring, as the two processes have them, with time in the test's hands. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TD_EVENTS_PER_ENDPOINT, tdEvent } from '@tandem/datapath/abi.gen';
import type { Datapath } from '@tandem/datapath/datapath';
import type { Clock } from '@tandem/runtime/system-clock';
import { loadKernelMaps } from '../../test/kernel-maps.ts';
import { smallStore } from '../../test/small-store.ts';
import { decodeLoss, lossReasonOf, positionOf } from '../records/loss-record.ts';
import type { NodeStore } from '../store/node-store.ts';
import { ringRecordBytes } from './ledger.ts';
import { dropLeaseStaleMs, heldDropsMax, kernelLossMs } from './limits.ts';
import { DropReader } from './reader.ts';

/** A frame that is neither IP nor ARP: dropped with an event, whatever the maps hold. */
const frame = new Uint8Array(64);
frame.set([0x88, 0xb5], 12);

interface World extends Disposable {
  drop(count: number): void;
  /** As after seconds without drops: one sender has its share of events again. */
  restPaces(): void;
  /** A process: what it has, what it told the other one. */
  process(member: number): Process;
  passMs(ms: number): void;
}

interface Process {
  readonly reader: DropReader;
  readonly store: NodeStore;
  /** New to it, in order. */
  readonly positions: number[];
  readonly losses: { reason: string; count: number }[];
  told: number;
}

function world(): World {
  const kernel = loadKernelMaps();
  let nowMs = 1_000_000;
  const clock: Clock = {
    monotonicMs: () => nowMs,
    boottimeSeconds: () => nowMs / 1000,
    wallMs: () => nowMs,
  };
  const readers: DropReader[] = [];
  const datapath = { map: (name: string) => kernel.map(name) } as unknown as Datapath;
  return {
    drop: (count) => {
      kernel.program('from_pod').testRun({ data: frame, repeat: count });
    },
    restPaces: () => {
      for (const name of ['event_pace', 'payer_pace']) {
        const paces = kernel.map(name);
        const unspent = new Uint8Array(paces.valueBytes);
        for (const [key] of [...paces.entries()]) paces.update(key, unspent);
      }
    },
    passMs: (ms) => {
      nowMs += ms;
    },
    process: (member) => {
      const store = smallStore();
      const positions: number[] = [];
      const losses: { reason: string; count: number }[] = [];
      const reader = new DropReader({
        datapath,
        member,
        clock,
        onRecord: (bytes, at, length) => {
          if (!store.dropRecord(bytes, at, length)) return;
          const reason = lossReasonOf(bytes, at);
          if (reason === null) positions.push(positionOf(bytes, at));
          else losses.push({ reason, count: decodeLoss(bytes, at, reason).count });
        },
        acknowledgedPosition: () => process.told,
      });
      store.drops.lastPosition = () => reader.lastPosition;
      store.drops.ring = reader.ringId;
      const process: Process = { reader, store, positions, losses, told: 0 };
      readers.push(reader);
      return process;
    },
    [Symbol.dispose]: () => {
      for (const reader of readers) reader[Symbol.dispose]();
      kernel[Symbol.dispose]();
    },
  };
}

const positionsOf = (first: number, count: number): number[] =>
  Array.from({ length: count }, (_, i) => (first + i + 1) * ringRecordBytes);

test('one reads, the other does when it is asked to, and has again what it was not told', () => {
  using node = world();
  const [agent, proxy] = [node.process(0), node.process(1)];
  agent.reader.step();
  proxy.reader.step();
  assert.deepEqual([agent.reader.isReading, proxy.reader.isReading], [true, false]);
  node.drop(10);
  agent.reader.step();
  proxy.reader.step();
  assert.deepEqual(agent.positions, positionsOf(0, 10));
  assert.deepEqual(proxy.positions, []);
  // The other has 6 of them when the agent dies.
  agent.told = positionsOf(0, 6).at(-1) ?? 0;
  agent.reader.step();
  node.drop(5);
  node.passMs(dropLeaseStaleMs + 1);
  proxy.reader.step();
  assert.deepEqual(proxy.positions, positionsOf(6, 9));
  // It only hung.
  agent.reader.step();
  assert.deepEqual(agent.positions, positionsOf(0, 15));
  assert.equal(agent.store.drops.duplicates, 4);
  assert.equal(agent.store.drops.missing, 0);
  proxy.reader.step();
  assert.deepEqual([agent.reader.isReading, proxy.reader.isReading], [true, false]);
  assert.equal(agent.reader.counters.leasesLost, 1);
});

test('who has left the ring is followed at once', () => {
  using node = world();
  const [agent, proxy] = [node.process(0), node.process(1)];
  agent.reader.step();
  node.drop(3);
  agent.reader[Symbol.dispose]();
  assert.deepEqual(agent.positions, positionsOf(0, 3), 'what came last was read');
  proxy.reader.step();
  assert.deepEqual(proxy.positions, positionsOf(0, 3));
});

test('what is held for the other process is bounded, and the ring never fills for it', () => {
  using node = world();
  const agent = node.process(0);
  const rounds = 10;
  for (let i = 0; i < rounds; i++) {
    node.restPaces();
    node.drop(1500);
    agent.reader.step();
    node.passMs(10);
  }
  const { seen } = agent.store.drops;
  const [full, limited] = [
    agent.reader.kernelLost('ring-full'),
    agent.reader.kernelLost('rate-limit'),
  ];
  assert.equal(seen + full + limited, rounds * 1500);
  assert.equal(full, 0);
  assert.ok(limited > 0 && seen >= rounds * TD_EVENTS_PER_ENDPOINT);
  const next = node.process(1);
  node.passMs(dropLeaseStaleMs + 1);
  next.reader.step();
  assert.equal(next.positions.length, Math.min(heldDropsMax, seen));
});

test('what the kernel lost is told once, by whoever reads', () => {
  using node = world();
  const [agent, proxy] = [node.process(0), node.process(1)];
  agent.reader.step();
  node.drop(6000);
  node.passMs(kernelLossMs);
  agent.reader.step();
  const limited = agent.reader.kernelLost('rate-limit');
  assert.deepEqual(agent.losses, [{ reason: 'rate-limit', count: limited }]);
  node.drop(6000);
  node.passMs(dropLeaseStaleMs + kernelLossMs);
  proxy.reader.step();
  const more = proxy.reader.kernelLost('rate-limit') - limited;
  assert.deepEqual(proxy.losses, [{ reason: 'rate-limit', count: more }]);
  node.passMs(kernelLossMs);
  agent.reader.step();
  assert.equal(agent.losses.length, 1);
});

test('events of another ring are shown, and confuse no positions', () => {
  using node = world();
  const agent = node.process(0);
  const proxy = node.process(1);
  node.drop(3);
  agent.reader.step();
  const { events } = agent.store;
  proxy.store.drops.ring += 1;
  for (let i = 0; i < 2; i++) {
    assert.ok(proxy.store.dropRecord(events.bytes, events.offsetOf(0), tdEvent.size));
  }
  proxy.store.dropsSince(ringRecordBytes, agent.reader.ringId);
  assert.deepEqual([proxy.store.drops.foreign, proxy.store.drops.missing], [2, 0]);
});
