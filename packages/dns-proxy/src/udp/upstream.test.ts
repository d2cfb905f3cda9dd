// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { createUpstreamUdp } from '@tandem/dns-sockets/upstream';
import {
  upstreamDirectMs,
  upstreamDirectPriority,
  upstreamErrorsInRowMin,
  upstreamGiveUpMs,
  upstreamProbeMs,
  upstreamServersPerEndpointMax,
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

  it('goes past redirects for a while after an error or silence of a server that had answers', () => {
    const priorities: (number | undefined)[] = [];
    pool.close();
    pool = new UdpPool(loop, new RandomPool(), (to) => {
      priorities.push(to.priority);
      return createUpstreamUdp(to);
    });
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
    assert.ok(!pool.isStale(direct, 6), 'nobody else was answered past redirects');
    const proven = pool.draw(handle, 102, 6);
    pool.sent(proven, 6);
    pool.answered(proven, 7);
    assert.ok(pool.isStale(direct, 7), 'conntrack may lead its port through the redirect still');
    assert.equal(pool.drawAgain(handle, direct, 103, 7), proven, 'by a socket that had an answer');
    for (let batch = 104; pool.draw(handle, batch, 5 + upstreamDirectMs) === proven; batch++);
    assert.equal(priorities.at(-1), undefined, 'then as before');
    pool.backendsChanged(server);
    pool.draw(handle, 105, 7);
    assert.equal(priorities.at(-1), undefined, 'and when the agent says who is there');
  });

  it('asks again past redirects, on no socket that was answered just before its redirect led nowhere', () => {
    const direct: number[] = [];
    pool.close();
    pool = new UdpPool(loop, new RandomPool(), (to) => {
      if (to.priority !== undefined) direct.push(to.priority);
      return createUpstreamUdp(to);
    });
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
    pool.close();
    // No chance: the socket past redirects must not take the place of the one that is answered.
    let drawn = 0;
    pool = new UdpPool(loop, { u16: () => drawn++ });
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

  it('a socket of a server that was never answered is asked again as any', () => {
    const handle = pool.serverOf(server, resolver, 0);
    const [silent = -1] = sendOn(handle, 1, 1000);
    assert.equal(pool.drawAgain(handle, silent, 2, silentMs), pool.draw(handle, 2, silentMs));
  });

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

  it('does not ask again what a server never answered', () => {
    const handle = pool.serverOf(server, resolver, 1000);
    const [socket] = sendOn(handle, 1, 1000) as [number];
    pool.sweep(silentMs);
    assert.ok(!pool.isStale(socket, silentMs));
    assert.notEqual(pool.draw(handle, 1, silentMs), socket, 'but it is not used any more');
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
      assert.ok(!pool.isStale(socket, silentMs + 1), 'no socket has answers meanwhile');
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

  describe("when the node's netfilter drops what a new socket sends", () => {
    let handle: number;
    let good: number[];
    let created: number;

    beforeEach(() => {
      pool.close();
      created = 0;
      pool = new UdpPool(loop, new RandomPool(), (to) => {
        created += 1;
        return createUpstreamUdp(to);
      });
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
    pool.heardUntil(1050);
    assert.ok(!pool.isRefused(waiting, 1002, secondMs), 'what lies unread may be the answer');
    pool.heardUntil(Infinity);
    pool.heard(waiting);
    assert.ok(!pool.isRefused(waiting, 1002, secondMs), 'any datagram says that it is there');
  });

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
