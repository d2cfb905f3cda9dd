// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import {
  addressOf,
  closePools,
  openPool,
  ownerOf,
  resolver,
  sendOnSockets,
  server,
} from '../../test/udp-pool.ts';
import {
  upstreamGiveUpMs,
  upstreamServersPerEndpointMax,
  upstreamSocketsPerEndpointMax,
} from '../limits.ts';
import type { ServerHandle } from './servers.ts';
import type { UdpPool } from './upstream.ts';

describe('UdpPool: bounds of endpoints and of servers', () => {
  let pool: UdpPool;
  beforeEach(() => {
    ({ pool } = openPool());
  });
  afterEach(closePools);

  const sendOn = (handle: ServerHandle, batches: number, nowMs: number): number[] =>
    sendOnSockets(pool, handle, batches, nowMs);

  it("bounds an endpoint's sockets, and leaves the cluster's resolvers theirs", () => {
    let open = 0;
    for (let n = 1; n <= 20; n++) {
      const handle = pool.serverOf(addressOf(n), ownerOf(7), 0);
      sendOn(handle, 40, 0);
      open = pool.openSockets;
    }
    assert.ok(open >= upstreamSocketsPerEndpointMax);
    assert.ok(open < upstreamSocketsPerEndpointMax + 20, 'one more for a server without any');
    sendOn(pool.serverOf(addressOf(300), ownerOf(8), 0), 1, 0);
    assert.equal(pool.openSockets, open + 1, "another endpoint's are its own");
    assert.ok(sendOn(pool.serverOf(addressOf(301), resolver, 0), 200, 0).length > 30);
  });

  it("serves an endpoint from its own sockets when another's to the same server are all taken", () => {
    pool.draw(pool.serverOf(server, ownerOf(7), 0), 1, 0);
    for (let n = 2; n <= 32; n++) sendOn(pool.serverOf(addressOf(n), ownerOf(7), 0), 200, 0);
    const handle = pool.serverOf(server, ownerOf(8), 0);
    assert.ok(sendOn(handle, 200, 0).length > 30);
  });

  it('closes an idle socket of the endpoint when a server has none', () => {
    const first = pool.serverOf(addressOf(1), ownerOf(7), 0);
    const sockets = sendOn(first, 1000, 0);
    assert.equal(sockets.length, upstreamSocketsPerEndpointMax);
    const second = pool.serverOf(addressOf(2), ownerOf(7), 0);
    while (pool.inFlightOf(sockets[0]!) > 0) pool.answered(sockets[0]!, 1);
    assert.notEqual(pool.draw(second, 2, 1), -1);
    assert.equal(pool.openSockets, upstreamSocketsPerEndpointMax);
  });

  it('a server without a socket has one beyond the bound when all of the endpoint are busy', () => {
    sendOn(pool.serverOf(addressOf(1), ownerOf(7), 0), 1000, 0);
    for (let n = 2; n <= upstreamServersPerEndpointMax; n++) {
      const handle = pool.serverOf(addressOf(n), ownerOf(7), 0);
      assert.equal(sendOn(handle, 200, 0).length, 1, 'one, and no more');
    }
    assert.equal(
      pool.openSockets,
      upstreamSocketsPerEndpointMax + upstreamServersPerEndpointMax - 1,
    );
  });

  it('a server whose sockets are all retired and busy has another, and no endpoint more than its bound and one for each server', () => {
    const handle = pool.serverOf(server, ownerOf(7), 0);
    for (let change = 0; change < 100; change++) {
      sendOn(handle, 1000, 0);
      pool.backendsChanged(server);
    }
    assert.equal(pool.openSockets, upstreamSocketsPerEndpointMax + upstreamServersPerEndpointMax);
  });

  it('names the server that is to be given up: the one that is silent longest', () => {
    const owner = ownerOf(7);
    for (let n = 1; n <= upstreamServersPerEndpointMax; n++) {
      pool.sent(pool.draw(pool.serverOf(addressOf(n), owner, n), 1, n), n);
    }
    const first = pool.serverOf(addressOf(1), owner, 1);
    const second = pool.serverOf(addressOf(2), owner, 2);
    const next = addressOf(100);
    assert.equal(pool.serverOf(next, owner, 50), -1);
    assert.equal(pool.silentServerFor(owner, upstreamGiveUpMs), -1, 'none is silent for long');
    assert.equal(pool.silentServerFor(owner, upstreamGiveUpMs + 1), first);
    const socket = pool.draw(first, 1, 1);
    pool.sent(socket, 1);
    pool.answered(socket, 60);
    assert.equal(pool.silentServerFor(owner, upstreamGiveUpMs + 50), second, 'it answers');
    assert.equal(pool.silentServerFor(ownerOf(8), upstreamGiveUpMs + 50), -1, 'it has room');
    pool.unanswered(pool.draw(second, 1, 2));
    pool.forget(second);
    assert.notEqual(pool.serverOf(next, owner, 60), -1);
  });
});
