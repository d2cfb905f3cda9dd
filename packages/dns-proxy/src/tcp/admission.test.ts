// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { counter, createSharedCounters } from '../counters.ts';
import {
  tcpConnectionsGuaranteed,
  tcpConnectionsMax,
  tcpConnectionsReserveShare,
  tcpOpensPerTurn,
  tcpWaitingMax,
  tcpWaitingPerEndpointMax,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { TcpAdmission } from './admission.ts';
import type { TcpConnection } from './connection.ts';
import type { AcceptedConnection } from './stream.ts';

const perPod = 8;
/** Places that are kept for pods with next to no connections, and pods that fill the others. */
const reserve = tcpConnectionsMax / tcpConnectionsReserveShare;
const pods = (tcpConnectionsMax - reserve) / perPod;
/** Pods that fill the reserve. */
const smallPods = reserve / tcpConnectionsGuaranteed;

/** A connection as admission sees it: whether it is idle, and that it ends. */
class Connection {
  readonly endpointSlot: number;
  isBusy = true;
  isClosed = false;
  readonly activeNs: number;
  readonly #onClosed: (connection: Connection) => void;

  constructor(endpointSlot: number, order: number, onClosed: (connection: Connection) => void) {
    this.endpointSlot = endpointSlot;
    this.activeNs = order;
    this.#onClosed = onClosed;
  }

  isIdle(): boolean {
    return !this.isBusy;
  }

  makeWay(): void {
    if (this.isBusy || this.isClosed) return;
    this.isClosed = true;
    this.#onClosed(this);
  }
}

class World {
  readonly counters: Float64Array = createSharedCounters();
  readonly opened: Connection[] = [];
  readonly held: Set<number> = new Set();
  refused = 0;
  readonly #soon: (() => void)[] = [];
  readonly admission: TcpAdmission = new TcpAdmission({
    perPod,
    counters: this.counters,
    nowNs: () => 0,
    open: (_, endpointSlot) => {
      const connection = new Connection(endpointSlot, this.opened.length, (closed) =>
        this.admission.remove(closed as unknown as TcpConnection),
      );
      this.opened.push(connection);
      return connection as unknown as TcpConnection;
    },
    hold: (slot, isHeld) => (isHeld ? this.held.add(slot) : this.held.delete(slot)),
    soon: (work) => void this.#soon.push(work),
  });

  /** In a turn of its own. */
  accept(endpointSlot: number): void {
    this.acceptNow(endpointSlot);
    this.turn();
  }

  turn(): void {
    for (const work of this.#soon.splice(0)) work();
  }

  acceptNow(endpointSlot: number): void {
    const accepted: AcceptedConnection = {
      addresses: new Uint32Array(8),
      clientPort: 1,
      open: () => assert.fail('opened by admission itself'),
      refuse: () => {
        this.refused += 1;
      },
    };
    this.admission.add(accepted, endpointSlot as EndpointSlot);
  }

  openOf(endpointSlot: number): Connection[] {
    return this.opened.filter((each) => each.endpointSlot === endpointSlot && !each.isClosed);
  }

  /** It has answered its query. */
  idle(connection: Connection): void {
    connection.isBusy = false;
    this.admission.onIdle(connection as unknown as TcpConnection);
  }
}

test('connections over the bound of a pod wait, and are read as others become idle', () => {
  const world = new World();
  for (let i = 0; i < perPod + 3; i++) world.accept(1);
  assert.equal(world.openOf(1).length, perPod);
  assert.equal(world.counters[counter.tcpWaited], 3);
  for (let round = 0; round < 3; round++) world.idle(world.openOf(1)[0] as Connection);
  assert.equal(world.opened.length, perPod + 3);
  assert.equal(world.refused, 0);
});

test('few connections are begun with in one turn, those of the pod that has least first', () => {
  const world = new World();
  const rounds = 4;
  const busyPods = (rounds * tcpOpensPerTurn) / perPod;
  for (let pod = 1; pod <= busyPods; pod++) {
    for (let i = 0; i < perPod; i++) world.acceptNow(pod);
  }
  assert.equal(world.opened.length, tcpOpensPerTurn);
  const neighbour = busyPods + 1;
  world.acceptNow(neighbour);
  assert.equal(world.openOf(neighbour).length, 0);
  world.turn();
  assert.equal(world.opened.length, 2 * tcpOpensPerTurn);
  assert.equal(world.openOf(neighbour).length, 1);
  for (let round = 2; round <= rounds; round++) world.turn();
  assert.equal(world.opened.length, rounds * tcpOpensPerTurn + 1);
  assert.equal(world.refused, 0);
});

test('an idle connection of the pod makes way at once, the longest idle first', () => {
  const world = new World();
  for (let i = 0; i < perPod; i++) world.accept(1);
  for (const connection of world.opened) connection.isBusy = false;
  world.accept(1);
  assert.deepEqual(
    world.opened.map(({ isClosed }) => isClosed),
    [true, ...Array<boolean>(perPod).fill(false)],
  );
});

test('a pod takes no connection of another while the node has room', () => {
  const world = new World();
  world.accept(2);
  (world.opened[0] as Connection).isBusy = false;
  for (let i = 0; i < 100; i++) world.accept(1);
  assert.equal(world.openOf(2).length, 1);
});

test('pods whose connections are all busy leave a pod without connections its own', () => {
  const world = new World();
  for (let pod = 1; pod <= pods + 2; pod++) {
    for (let i = 0; i < perPod + 5; i++) world.accept(pod);
  }
  const neighbour = pods + 3;
  for (let i = 0; i < perPod; i++) world.accept(neighbour);
  assert.equal(world.openOf(1).length, perPod);
  assert.equal(world.openOf(pods + 1).length, tcpConnectionsGuaranteed);
  assert.equal(world.openOf(neighbour).length, tcpConnectionsGuaranteed);
  world.idle(world.openOf(neighbour)[0] as Connection);
  assert.equal(world.openOf(neighbour).length, tcpConnectionsGuaranteed, 'the next of its own');
  assert.equal(world.refused, 0);
});

test('on a full node a pod without connections gets an idle one of the pod that has most', () => {
  const world = new World();
  for (let pod = 1; pod <= pods + smallPods; pod++) {
    for (let i = 0; i < perPod; i++) world.accept(pod);
  }
  const neighbour = pods + smallPods + 1;
  world.accept(neighbour);
  assert.equal(world.openOf(neighbour).length, 0, 'none is idle');
  (world.openOf(3)[1] as Connection).isBusy = false;
  for (const connection of world.openOf(1)) connection.isBusy = false;
  world.admission.sweep();
  assert.equal(world.openOf(neighbour).length, 1);
  assert.equal(world.openOf(1).length, perPod - 1);
});

test('a place that becomes free goes to the pod that has least', () => {
  const world = new World();
  for (let pod = 1; pod <= pods + smallPods; pod++) {
    for (let i = 0; i < perPod + 5; i++) world.accept(pod);
  }
  const neighbour = pods + smallPods + 1;
  world.accept(neighbour);
  const [ended] = world.openOf(1) as [Connection];
  ended.isBusy = false;
  ended.makeWay();
  assert.equal(world.openOf(neighbour).length, 1);
});

test('more than can wait are reset, those of the pod that has too many', () => {
  const world = new World();
  for (let i = 0; i < perPod + tcpWaitingPerEndpointMax + 2; i++) world.accept(1);
  assert.equal(world.refused, 2);
  assert.equal(world.counters[counter.tcpRefused], 2);
  world.accept(2);
  assert.equal(world.openOf(2).length, 1);
});

test('without room to wait a connection of the pod that has most that wait is reset', () => {
  const world = new World();
  const hoarders = tcpWaitingMax / tcpWaitingPerEndpointMax;
  for (let pod = 1; pod <= hoarders; pod++) {
    for (let i = 0; i < perPod + tcpWaitingPerEndpointMax; i++) world.accept(pod);
  }
  assert.equal(world.refused, 0);
  const neighbour = hoarders + 1;
  for (let i = 0; i < perPod + 3; i++) world.accept(neighbour);
  assert.equal(world.refused, 3);
  assert.equal(world.openOf(neighbour).length, perPod);
  for (let i = 0; i < 3; i++) world.idle(world.openOf(neighbour)[0] as Connection);
  assert.equal(world.openOf(neighbour).length, perPod, 'those that waited are its own');
});

test('a pod is held while it has connections', () => {
  const world = new World();
  world.accept(7);
  assert.deepEqual([...world.held], [7]);
  const [connection] = world.openOf(7) as [Connection];
  connection.isBusy = false;
  connection.makeWay();
  assert.deepEqual([...world.held], []);
  assert.equal(world.admission.size, 0);
});
