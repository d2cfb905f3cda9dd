// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import {
  upstreamErrorsInRowMin,
  upstreamSilenceMs,
  upstreamSocketLifetimeMs,
  upstreamSocketsPerEndpointMax,
  upstreamUnreachableMs,
} from '../limits.ts';
import { RandomPool } from '../query/random.ts';
import { UdpPool } from './upstream.ts';

/** 127.0.0.n: nobody answers, and nothing is sent. */
const addressOf = (n: number): Uint8Array =>
  Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, n >> 8, n & 0xff);
const server = addressOf(1);
const resolver = { endpointId: 0, policyId: 0, isResolver: true };
const ownerOf = (endpointId: number) => ({ endpointId, policyId: 1, isResolver: false });
const pastAnyLife = upstreamSocketLifetimeMs * 2;
const silentMs = 1000 + upstreamSilenceMs;

describe('UdpPool', () => {
  let loop: UdpLoop;
  let pool: UdpPool;

  beforeEach(() => {
    loop = new UdpLoop({
      buffer: new Uint8Array(512),
      slots: 1,
      slotBytes: 512,
      onBatch: () => undefined,
      onSocketError: () => undefined,
    });
    pool = new UdpPool(loop, new RandomPool());
  });

  afterEach(() => {
    pool.close();
    loop.close();
  });

  /** Sends on so many sockets; their handles, each once. */
  const sendOn = (handle: number, batches: number, nowMs: number): number[] => {
    const sockets = new Set<number>();
    for (let batch = 1; batch <= batches; batch++) {
      const socket = pool.draw(handle, batch, nowMs);
      pool.sent(socket, nowMs);
      sockets.add(socket);
    }
    return [...sockets];
  };

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
    assert.ok(!pool.isStale(silent), 'it may still be answered');
    pool.sweep(silentMs + 1);
    assert.ok(
      pool.isStale(silent),
      'it had answers before, others have them now: its query is asked again',
    );
    pool.sweep(silentMs + 1);
    assert.equal(pool.openSockets, 2, 'the idle ones are closed');
    assert.equal(loop.remove(idle[0] as number), false);
    assert.ok(!pool.isStale(answered));
  });

  it('does not ask again what a server never answered', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const [socket] = sendOn(handle, 1, 1000) as [number];
    pool.sweep(silentMs);
    assert.ok(!pool.isStale(socket));
    assert.notEqual(pool.draw(handle, 1, silentMs), socket, 'but it is not used any more');
  });

  it('retires all sockets of a server whose backends changed, and no other', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const other = pool.serverOf(addressOf(2), resolver, 1000);
    const sockets = sendOn(handle, 5, 1000);
    const [kept] = sendOn(other, 1, 1000) as [number];
    for (const socket of sockets) pool.answered(socket, 1001);
    pool.backendsChanged(server);
    assert.ok(sockets.every((socket) => pool.inFlightOf(socket) === 0 || !pool.isStale(socket)));
    const fresh = pool.draw(handle, 9, 1002);
    assert.ok(!sockets.includes(fresh));
    pool.sent(fresh, 1002);
    pool.answered(fresh, 1003);
    for (const socket of sockets) {
      if (pool.inFlightOf(socket) > 0)
        assert.ok(pool.isStale(socket), 'the server answers, it does not');
    }
    assert.equal(pool.draw(other, 1, 1001), kept);
  });

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

  it('a slow server is not asked again', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const sockets = sendOn(handle, 20, 1000);
    for (const socket of sockets) while (pool.inFlightOf(socket) > 0) pool.answered(socket, 1000);
    const waiting = sendOn(handle, 20, 1001);
    pool.sweep(silentMs + 1);
    for (const socket of waiting)
      assert.ok(!pool.isStale(socket), 'no socket has answers meanwhile');
  });

  it('a server is unreachable after errors in a row, while a query waits for it', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    for (let i = 0; i < upstreamErrorsInRowMin; i++) {
      assert.ok(!pool.isUnreachable(handle, 1000));
      const socket = pool.draw(handle, i, 1000);
      pool.sent(socket, 1000);
      pool.failed(socket, 1000);
      pool.unanswered(socket);
    }
    assert.ok(!pool.isUnreachable(handle, 1001), 'one query may look');
    const probe = pool.draw(handle, 99, 1001);
    pool.sent(probe, 1001);
    assert.ok(pool.isUnreachable(handle, 1001));
    assert.ok(!pool.isUnreachable(handle, 1000 + upstreamUnreachableMs), 'not for longer');
    pool.answered(probe, 1002);
    pool.sent(probe, 1002);
    assert.ok(!pool.isUnreachable(handle, 1002), 'an answer ends it');
  });

  it("bounds an endpoint's sockets, and leaves the cluster's resolvers theirs", () => {
    let open = 0;
    for (let n = 1; n <= 20; n++) {
      const handle = pool.serverOf(addressOf(n), ownerOf(7), 0);
      sendOn(handle, 40, 0);
      open = pool.openSockets;
    }
    assert.equal(open, upstreamSocketsPerEndpointMax);
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
    assert.equal(pool.draw(second, 1, 0), -1, 'all are busy');
    while (pool.inFlightOf(sockets[0] as number) > 0) pool.answered(sockets[0] as number, 1);
    assert.notEqual(pool.draw(second, 2, 1), -1);
    assert.equal(pool.openSockets, upstreamSocketsPerEndpointMax);
  });
});
