// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { createUpstreamUdp } from '@tandem/dns-sockets/upstream';
import {
  closePools,
  openPool,
  pastAnyLife,
  resolver,
  sendOnSockets,
  server,
  silentMs,
} from '../../test/udp-pool.ts';
import {
  upstreamDirectMs,
  upstreamDirectPriority,
  upstreamErrorsInRowMin,
  upstreamProbeMs,
  upstreamSilenceMs,
  upstreamUnreachableMs,
} from '../limits.ts';
import type { ServerHandle } from './servers.ts';
import type { UdpPool } from './upstream.ts';

describe('UdpPool: queries that are asked again', () => {
  let pool: UdpPool;
  beforeEach(() => {
    ({ pool } = openPool());
  });
  afterEach(closePools);

  const sendOn = (handle: ServerHandle, batches: number, nowMs: number): number[] =>
    sendOnSockets(pool, handle, batches, nowMs);

  it('goes past redirects for a while after an error or silence of a server that had answers', () => {
    const priorities: (number | undefined)[] = [];
    ({ pool } = openPool((to) => {
      priorities.push(to.priority);
      return createUpstreamUdp(to);
    }));
    const handle = pool.serverOf(server, resolver, 0);
    const [first = -1, second = -1] = sendOn(handle, 64, 0);
    const before = priorities.length;
    pool.failed(second, 1);
    assert.equal(pool.isStale(second, 1), false, 'a server that never answered is only down');
    pool.answered(first, 2);
    const fresh = pool.draw(handle, 100, 3);
    pool.sent(fresh, 3);
    pool.failed(fresh, 4);
    assert.equal(pool.isStale(fresh, 4), true, 'also of a socket without an answer');
    const direct = pool.draw(handle, 101, 5);
    assert.equal(priorities.at(-1), upstreamDirectPriority);
    assert.equal(priorities.filter((each) => each !== undefined).length, 1);
    assert.ok(priorities.length > before);
    pool.sent(direct, 5);
    pool.failed(direct, 6);
    assert.ok(pool.isStale(direct, 6), 'the usual way may only have been slow');
    assert.ok(!pool.isOpen(direct) && pool.isOpen(first));
    assert.equal(pool.isUnreachable(handle, 6), false, 'errors past redirects do not count');
    const proven = pool.draw(handle, 102, 6);
    assert.equal(priorities.filter((each) => each !== undefined).length, 1, 'and not used again');
    pool.sent(proven, 6);
    pool.answered(proven, 7);
    assert.equal(pool.drawAgain(handle, direct, 103, 7), proven, 'by a socket that had an answer');
    for (let batch = 104; pool.draw(handle, batch, 5 + upstreamDirectMs) === proven; batch++);
    assert.equal(priorities.at(-1), undefined, 'then as before');
    pool.backendsChanged(server);
    pool.draw(handle, 105, 7);
    assert.equal(priorities.at(-1), undefined, 'and when the agent says who is there');
  });

  it('asks again past redirects, on no socket that was answered just before its redirect led nowhere', () => {
    const direct: number[] = [];
    ({ pool } = openPool((to) => {
      if (to.priority !== undefined) direct.push(to.priority);
      return createUpstreamUdp(to);
    }));
    const handle = pool.serverOf(server, resolver, 0);
    const [silent = -1, ...others] = sendOn(handle, 500, 1000);
    assert.ok(others.length > 32, 'most places have a socket');
    for (const socket of others) while (pool.inFlightOf(socket) > 0) pool.answered(socket, 1001);
    assert.ok(pool.isStale(silent, silentMs), 'others were answered after it was asked');
    const again = pool.drawAgain(handle, silent, 501, silentMs);
    assert.ok(!others.includes(again) && again !== silent);
    assert.deepEqual(direct, [upstreamDirectPriority]);
    assert.equal(pool.drawAgain(handle, silent, 502, silentMs), again, 'one is enough');
    pool.sent(again, silentMs);
    assert.notEqual(
      pool.drawAgain(handle, again, 503, silentMs + upstreamSilenceMs),
      -1,
      'one past redirects that is silent is asked again as any',
    );
  });

  it('asks again by the socket past redirects that was answered last', () => {
    const handle = pool.serverOf(server, resolver, 0);
    const [silent = -1, other = -1] = sendOn(handle, 500, 1000);
    pool.answered(other, 1001);
    pool.failed(other, 1002);
    const direct = new Set<number>();
    for (let batch = 501; direct.size < 10; batch++) direct.add(pool.draw(handle, batch, silentMs));
    for (const socket of direct) {
      pool.sent(socket, silentMs);
      pool.answered(socket, silentMs + 1);
      assert.equal(pool.drawAgain(handle, silent, 1000, silentMs + 1), socket);
      pool.sent(socket, silentMs + 1);
      pool.failed(socket, silentMs + 2);
    }
  });

  it('asks again by a socket that was answered since the silent one was asked', () => {
    // No chance: the socket past redirects must not take the place of the one that is answered.
    let drawn = 0;
    ({ pool } = openPool(undefined, { u16: () => drawn++ }));
    const handle = pool.serverOf(server, resolver, 1000);
    const sockets = sendOn(handle, 500, 1000);
    const [silent = -1, proven = -1] = sockets;
    for (const socket of sockets.slice(1)) {
      while (pool.inFlightOf(socket) > 0) pool.unanswered(socket);
    }
    pool.sent(proven, 1000);
    pool.answered(proven, 1500);
    const past = pool.drawAgain(handle, silent, 600, silentMs);
    pool.sent(past, silentMs);
    pool.sent(proven, silentMs);
    pool.answered(proven, silentMs + 1);
    const pastSilentMs = silentMs + upstreamSilenceMs;
    assert.equal(pool.drawAgain(handle, past, 601, pastSilentMs), proven);
  });

  it('while it drains, asks again what is silent, without waiting for answers on other sockets', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const [silent = -1, other = -1] = sendOn(handle, 500, 1000);
    pool.answered(other, 1000);
    assert.ok(!pool.isStale(silent, silentMs), 'its server may just be slow');
    pool.drain();
    assert.ok(!pool.isStale(silent, 1000 + upstreamSilenceMs - 1));
    assert.ok(pool.isStale(silent, silentMs));
    const again = pool.drawAgain(handle, silent, 501, silentMs);
    assert.ok(again !== -1 && again !== silent);
    const down = pool.serverOf(
      server.map((octet) => octet ^ 1),
      resolver,
      1000,
    );
    const [unanswered = -1] = sendOn(down, 1, 1000);
    assert.ok(!pool.isStale(unanswered, silentMs), 'a server that never answered');
  });

  it('a socket of a server that was never answered is asked again as any', () => {
    const handle = pool.serverOf(server, resolver, 0);
    const [silent = -1] = sendOn(handle, 1, 1000);
    assert.equal(pool.drawAgain(handle, silent, 2, silentMs), pool.draw(handle, 2, silentMs));
  });

  it('does not ask again what a server never answered', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const [socket] = sendOn(handle, 1, 1000) as [number];
    pool.sweep(silentMs);
    assert.ok(!pool.isStale(socket, silentMs));
    assert.notEqual(pool.draw(handle, 1, silentMs), socket, 'but it is not used any more');
  });

  it('a slow server is not asked again', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const sockets = sendOn(handle, 20, 1000);
    for (const socket of sockets) while (pool.inFlightOf(socket) > 0) pool.answered(socket, 1000);
    const waiting = sendOn(handle, 20, 1001);
    pool.sweep(silentMs + 1);
    for (const socket of waiting)
      assert.ok(!pool.isStale(socket, silentMs + 1), 'no socket has answers meanwhile');
  });

  it('queries on a silent socket that was never answered are asked again when other sockets have answers', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const [silent, answered] = sendOn(handle, 12, 1000) as [number, number];
    pool.sweep(silentMs);
    assert.ok(!pool.isStale(silent, silentMs), 'nothing says that the server answers');
    pool.answered(answered, silentMs);
    assert.ok(pool.isStale(silent, silentMs));
  });

  it('queries on a socket past its life are asked again, too', () => {
    const handle = pool.serverOf(server, resolver, 0);
    const silent = pool.draw(handle, 1, 0);
    pool.sent(silent, pastAnyLife - 1);
    pool.sweep(pastAnyLife);
    const fresh = pool.draw(handle, 99, pastAnyLife);
    assert.notEqual(fresh, silent);
    pool.sent(fresh, pastAnyLife);
    pool.answered(fresh, pastAnyLife + 1);
    assert.ok(pool.isStale(silent, pastAnyLife + upstreamSilenceMs));
  });

  describe("when the node's netfilter drops what a new socket sends", () => {
    let handle: ServerHandle;
    let good: number[];
    let created: number;

    beforeEach(() => {
      created = 0;
      ({ pool } = openPool((to) => {
        created += 1;
        return createUpstreamUdp(to);
      }));
      handle = pool.serverOf(server, resolver, 1000);
      good = sendOn(handle, 40, 1000);
      for (const socket of good) while (pool.inFlightOf(socket) > 0) pool.answered(socket, 1001);
    });

    const dropNew = (fromBatch: number, nowMs: number): number => {
      for (let batch = fromBatch; ; batch++) {
        const socket = pool.draw(handle, batch, nowMs);
        if (good.includes(socket)) continue;
        pool.sent(socket, nowMs);
        pool.dropped(socket, nowMs);
        return socket;
      }
    };

    it('the others are used on, and none is opened until the next probe', () => {
      const gone = dropNew(100, 2000);
      assert.ok(pool.isStale(gone, 2000), 'its query is asked again');
      assert.ok(good.includes(pool.drawAgain(handle, gone, 200, 2000)), 'by one that was answered');
      const before = created;
      for (let batch = 300; batch < 500; batch++) {
        assert.ok(good.includes(pool.draw(handle, batch, 1999 + upstreamProbeMs)));
      }
      assert.equal(created, before);
      assert.ok(!pool.isUnreachable(handle, 2001));
      dropNew(500, 2000 + upstreamProbeMs);
      assert.equal(created, before + 1);
    });

    it('the others live on while that lasts', () => {
      dropNew(100, pastAnyLife);
      pool.sweep(pastAnyLife + 1);
      assert.ok(good.includes(pool.draw(handle, 200, pastAnyLife + 1)));
      pool.sweep(pastAnyLife + upstreamUnreachableMs);
      assert.ok(!good.includes(pool.draw(handle, 201, pastAnyLife + upstreamUnreachableMs)));
    });

    it('a server without another socket is unreachable after some', () => {
      pool.backendsChanged(server);
      for (let i = 0; i < upstreamErrorsInRowMin; i++) dropNew(100 + i, 2000 + i);
      assert.ok(pool.isUnreachable(handle, 2000 + upstreamErrorsInRowMin));
    });
  });
});
