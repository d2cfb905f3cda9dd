// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import {
  addressOf,
  closePools,
  openPool,
  ownerOf,
  pastAnyLife,
  resolver,
  sendOnSockets,
  server,
  silentMs,
} from '../../test/udp-pool.ts';
import { upstreamSilenceMs } from '../limits.ts';
import type { ServerHandle } from './servers.ts';
import type { UdpPool } from './upstream.ts';

describe('UdpPool: the life of a socket', () => {
  let pool: UdpPool;
  let loop: UdpLoop;
  beforeEach(() => {
    ({ pool, loop } = openPool());
  });
  afterEach(closePools);

  const sendOn = (handle: ServerHandle, batches: number, nowMs: number): number[] =>
    sendOnSockets(pool, handle, batches, nowMs);

  it('keeps a socket past its life until what it sent is answered', () => {
    const handle = pool.serverOf(server, resolver, 0);
    const socket = pool.draw(handle, 1, 0);
    pool.sent(socket, pastAnyLife - 1);
    pool.sent(socket, pastAnyLife - 1);
    pool.sweep(pastAnyLife);
    assert.equal(pool.openSockets, 1);
    assert.notEqual(pool.draw(handle, 2, pastAnyLife), socket, 'nothing new is sent from it');
    pool.answered(socket, pastAnyLife);
    pool.sweep(pastAnyLife);
    assert.equal(pool.openSockets, 2);
    pool.unanswered(socket);
    pool.sweep(pastAnyLife);
    assert.equal(pool.openSockets, 1);
    assert.equal(loop.remove(socket), false, 'its socket is closed');
  });

  it('reads sockets to servers that pods chose after all others', ({ mock }) => {
    const add = mock.method(loop, 'add');
    sendOn(pool.serverOf(server, resolver, 0), 1, 0);
    sendOn(pool.serverOf(server, ownerOf(1), 0), 1, 0);
    assert.deepEqual(
      add.mock.calls.map(({ arguments: [, kind] }) => kind),
      ['connected', 'late'],
    );
  });

  it('draws one socket for a batch', () => {
    const handle = pool.serverOf(server, resolver, 0);
    const socket = pool.draw(handle, 7, 0);
    for (let i = 0; i < 10; i++) assert.equal(pool.draw(handle, 7, 0), socket);
    assert.equal(pool.openSockets, 1);
  });

  it('retires a silent socket, and those of its server that were not answered meanwhile', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const sockets = sendOn(handle, 12, 1000);
    for (const socket of sockets) while (pool.inFlightOf(socket) > 0) pool.answered(socket, 1000);
    const [silent, answered, ...idle] = sockets as [number, number, ...number[]];
    pool.sent(silent, 1001);
    pool.sent(answered, 1001);
    pool.answered(answered, 1500);
    pool.sweep(silentMs);
    assert.ok(!pool.isStale(silent, silentMs), 'it may still be answered');
    pool.sweep(silentMs + 1);
    assert.ok(
      pool.isStale(silent, silentMs + 1),
      'others have answers meanwhile: its query is asked again',
    );
    pool.sweep(silentMs + 1);
    assert.equal(pool.openSockets, 2, 'the idle ones are closed');
    assert.equal(loop.remove(idle[0]!), false);
    assert.ok(!pool.isStale(answered, silentMs + 1));
  });

  it('retires all sockets of a server whose backends changed, and no other', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const other = pool.serverOf(addressOf(2), resolver, 1000);
    const sockets = sendOn(handle, 5, 1000);
    const [kept] = sendOn(other, 1, 1000) as [number];
    for (const socket of sockets) pool.answered(socket, 1001);
    pool.backendsChanged(server);
    const fresh = pool.draw(handle, 9, 1002);
    assert.ok(!sockets.includes(fresh));
    for (const socket of sockets) pool.sent(socket, 1002);
    assert.ok(sockets.every((socket) => !pool.isStale(socket, 1002 + upstreamSilenceMs)));
    pool.sent(fresh, 1002);
    pool.answered(fresh, 1003);
    for (const socket of sockets) {
      assert.ok(pool.isStale(socket, 1002 + upstreamSilenceMs), 'the server answers, it does not');
    }
    assert.equal(pool.draw(other, 1, 1001), kept);
  });
});
