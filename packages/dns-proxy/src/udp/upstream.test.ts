// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, it } from 'node:test';
import { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { upstreamSocketLifetimeMs, upstreamSocketTimeoutsMax } from '../limits.ts';
import { RandomPool } from '../query/random.ts';
import { UdpPool } from './upstream.ts';

/** 127.0.0.1: nobody answers, and nothing is sent. */
const server = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 127, 0, 0, 1);
const pastAnyLife = upstreamSocketLifetimeMs * 2;

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

  it('keeps a socket past its life until what it sent is answered', () => {
    const index = pool.serverIndex(server, 0);
    const handle = pool.draw(index, 1, 0);
    pool.sent(handle);
    pool.sent(handle);
    pool.sweep(pastAnyLife);
    assert.equal(pool.openSockets, 1);
    assert.notEqual(pool.draw(index, 2, pastAnyLife), handle, 'nothing new is sent from it');
    pool.answered(handle);
    pool.sweep(pastAnyLife);
    assert.equal(pool.openSockets, 2);
    pool.timedOut(handle);
    pool.sweep(pastAnyLife);
    assert.equal(pool.openSockets, 1);
    assert.equal(loop.remove(handle), false, 'its socket is closed');
  });

  it('replaces a socket that gets no answers', () => {
    const index = pool.serverIndex(server, 0);
    const handle = pool.draw(index, 1, 0);
    for (let i = 0; i < upstreamSocketTimeoutsMax; i++) {
      pool.sent(handle);
      pool.timedOut(handle);
    }
    assert.notEqual(pool.draw(index, 1, 0), handle, 'not even for the same batch');
  });

  it('draws one socket for a batch', () => {
    const index = pool.serverIndex(server, 0);
    const handle = pool.draw(index, 7, 0);
    for (let i = 0; i < 10; i++) assert.equal(pool.draw(index, 7, 0), handle);
    assert.equal(pool.openSockets, 1);
  });
});
