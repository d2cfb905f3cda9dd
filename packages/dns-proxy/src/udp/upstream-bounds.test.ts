// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import {
  addressOf,
  closePools,
  openPool,
  ownerOf,
  pastAnyLife,
  resolver,
  sendOnSockets,
  server,
} from '../../test/udp-pool.ts';
import {
  upstreamGiveUpMs,
  upstreamServersPerEndpointMax,
  upstreamServersPerPolicyMax,
  upstreamSocketsGuaranteed,
  upstreamSocketsPerEndpointMax,
  upstreamSocketsPerPolicyMax,
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

  it("a policy's endpoints take no socket of another policy's, and each server of theirs has one", () => {
    const manyEndpoints = 100;
    let ofLast: number[] = [];
    for (let endpoint = 1; endpoint <= manyEndpoints; endpoint++) {
      ofLast = sendOn(pool.serverOf(server, ownerOf(endpoint), 0), 200, 0);
      assert.ok(ofLast.length >= 1 && !ofLast.includes(-1), `endpoint ${endpoint} has a socket`);
    }
    assert.equal(ofLast.length, 1, 'the bound of the policy is reached');
    const { openSockets } = pool;
    assert.ok(openSockets > upstreamSocketsPerPolicyMax - manyEndpoints);
    assert.ok(openSockets < upstreamSocketsPerPolicyMax + manyEndpoints);
    const other = sendOn(pool.serverOf(server, ownerOf(500, 2), 0), 1000, 0);
    assert.equal(other.length, upstreamSocketsPerEndpointMax, 'of another policy: as if alone');
  });

  it('a policy whose sockets end may open as many as before', () => {
    const open = (nowMs: number): number => {
      for (let endpoint = 1; endpoint <= 20; endpoint++) {
        const sockets = sendOn(pool.serverOf(server, ownerOf(endpoint), nowMs), 200, nowMs);
        for (const socket of sockets)
          while (pool.inFlightOf(socket) > 0) pool.answered(socket, nowMs);
      }
      return pool.openSockets;
    };
    const first = open(1);
    assert.ok(first >= 20 * upstreamSocketsGuaranteed);
    pool.sweep(pastAnyLife);
    assert.equal(pool.openSockets, 0);
    assert.ok(Math.abs(open(pastAnyLife + 1) - first) < 20, 'none is counted twice or not at all');
  });

  it('a server whose sockets are all retired and busy has another, and no endpoint more than its bound and one for each server', () => {
    const handle = pool.serverOf(server, ownerOf(7), 0);
    for (let change = 0; change < 100; change++) {
      sendOn(handle, 1000, 0);
      pool.backendsChanged(server);
    }
    assert.equal(pool.openSockets, upstreamSocketsPerEndpointMax + upstreamServersPerEndpointMax);
  });

  it('a policy whose sockets are all retired and busy has one more for each server that it may have, and one for each endpoint', () => {
    const endpoints = 40;
    for (let change = 0; change < 10; change++) {
      for (let endpoint = 1; endpoint <= endpoints; endpoint++) {
        sendOn(pool.serverOf(server, ownerOf(endpoint), 0), 200, 0);
      }
      pool.backendsChanged(server);
    }
    const most = upstreamSocketsPerPolicyMax + upstreamServersPerPolicyMax;
    assert.ok(pool.openSockets <= most + endpoints, `${pool.openSockets} open`);
    const late = pool.serverOf(server, ownerOf(500), 0);
    assert.notEqual(pool.draw(late, 1000, 0), -1, 'an endpoint without sockets has one');
    const other = sendOn(pool.serverOf(server, ownerOf(600, 2), 0), 1000, 0);
    assert.ok(other.length > upstreamSocketsPerEndpointMax / 2, 'of another policy');
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
