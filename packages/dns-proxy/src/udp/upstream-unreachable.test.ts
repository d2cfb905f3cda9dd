// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { closePools, openPool, resolver, sendOnSockets, server } from '../../test/udp-pool.ts';
import {
  upstreamErrorsInRowMin,
  upstreamProbeMs,
  upstreamSilenceMs,
  upstreamUnreachableMs,
} from '../limits.ts';
import type { ServerHandle } from './servers.ts';
import type { UdpPool } from './upstream.ts';

describe('UdpPool: ICMP errors, and a server that is unreachable', () => {
  let pool: UdpPool;
  beforeEach(() => {
    ({ pool } = openPool());
  });
  afterEach(closePools);

  const sendOn = (handle: ServerHandle, batches: number, nowMs: number): number[] =>
    sendOnSockets(pool, handle, batches, nowMs);

  it('an ICMP error ends the use of a socket', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const [socket] = sendOn(handle, 1, 1000) as [number];
    pool.failed(socket, 1000);
    assert.notEqual(pool.draw(handle, 1, 1000), socket);
    assert.equal(pool.inFlightOf(socket), 1, 'what is in flight on it is dealt with by its owner');
  });

  it('an ICMP error on a socket that had answers ends the use of all that had, and says nothing of the server', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const sockets = sendOn(handle, 30, 1000);
    for (const socket of sockets) while (pool.inFlightOf(socket) > 0) pool.answered(socket, 1001);
    for (const socket of sockets) pool.failed(socket, 1002);
    pool.sent(pool.draw(handle, 100, 1002), 1002);
    assert.ok(!pool.isUnreachable(handle, 1002));
    for (let batch = 200; batch < 230; batch++) {
      assert.ok(!sockets.includes(pool.draw(handle, batch, 1002)));
    }
  });

  it('a server is unreachable after errors in a row, and is asked one query in a while', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    for (let i = 0; i < upstreamErrorsInRowMin; i++) {
      assert.ok(!pool.isUnreachable(handle, 1000));
      const socket = pool.draw(handle, i, 1000);
      pool.sent(socket, 1000);
      pool.failed(socket, 1000);
      pool.unanswered(socket);
    }
    assert.ok(pool.isUnreachable(handle, 1001));
    const probedMs = 1000 + upstreamProbeMs;
    assert.ok(!pool.isUnreachable(handle, probedMs), 'one query may look');
    const probe = pool.draw(handle, 99, probedMs);
    pool.sent(probe, probedMs);
    assert.ok(pool.isUnreachable(handle, probedMs + 1));
    const nextMs = probedMs + upstreamProbeMs;
    assert.ok(!pool.isUnreachable(handle, nextMs), 'and the next, though no answer came to that');
    const late = pool.draw(handle, 100, 999 + upstreamUnreachableMs);
    pool.sent(late, 999 + upstreamUnreachableMs);
    assert.ok(pool.isUnreachable(handle, 999 + upstreamUnreachableMs));
    assert.ok(!pool.isUnreachable(handle, 1000 + upstreamUnreachableMs), 'not for longer');
    pool.answered(probe, probedMs + 1);
    pool.sent(probe, probedMs + 1);
    assert.ok(!pool.isUnreachable(handle, probedMs + 1), 'an answer ends it');
  });

  it('a query waits in vain for a server whose last sign is an ICMP error', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const [failing = -1, waiting = -1, ...others] = sendOn(handle, 100, 1000);
    const secondMs = 1000 + upstreamSilenceMs;
    assert.ok(!pool.isRefused(waiting, 1000, secondMs), 'a silent one may answer yet');
    pool.failed(failing, 1001);
    assert.ok(!pool.isRefused(waiting, 1000, secondMs - 1));
    assert.ok(pool.isRefused(waiting, 1000, secondMs), 'one error, and a second without an answer');
    assert.ok(!pool.isRefused(waiting, secondMs, secondMs + 1), 'another query has its own second');
    for (const socket of others.slice(1, upstreamErrorsInRowMin)) pool.failed(socket, 1001);
    assert.ok(!pool.isRefused(waiting, 1002, 1001 + upstreamProbeMs));
    assert.ok(pool.isRefused(waiting, 1002, 1002 + upstreamProbeMs), 'it is known to be away');
    assert.ok(!pool.isRefused(waiting, 1001, 1002 + upstreamProbeMs), 'sent before the error');
    let again = pool.draw(handle, 200, 1500);
    for (let batch = 201; pool.inFlightOf(again) > 0; batch++)
      again = pool.draw(handle, batch, 1500);
    pool.sent(again, 1500);
    const isEarly = pool.isRefused(again, 1000, 1499 + upstreamSilenceMs);
    assert.ok(!isEarly, 'what was asked again has its second from then on');
    pool.readUntil(1050);
    assert.ok(!pool.isRefused(waiting, 1002, secondMs), 'what lies unread may be the answer');
    pool.readUntil(Infinity);
    pool.received(waiting);
    assert.ok(!pool.isRefused(waiting, 1002, secondMs), 'any datagram says that it is there');
  });
});
