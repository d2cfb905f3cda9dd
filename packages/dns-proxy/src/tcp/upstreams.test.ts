// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which connection to a server the next connection of a pod goes on with. */

import assert from 'node:assert/strict';
import { beforeEach, describe, test } from 'node:test';
import { createSharedCounters } from '../counters.ts';
import {
  tcpAloneMax,
  tcpAlonePerEndpointMax,
  tcpUpstreamKeepMs,
  tcpUpstreamsKeptMax,
  upstreamDirectMs,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { TcpBlocks } from './blocks.ts';
import type { TcpContext } from './context.ts';
import type { TcpQuery } from './query.ts';
import type { TcpStreamEvents } from './stream.ts';
import type { TcpUpstream } from './upstream.ts';
import { TcpUpstreams } from './upstreams.ts';

const endpointSlot = 1 as EndpointSlot;
const server: Uint8Array = new Uint8Array(16).fill(1);
const otherServer: Uint8Array = new Uint8Array(16).fill(2);
const nothing = (): void => undefined;
const events = {
  ...{ onReply: nothing, onTimeout: nothing, onClosed: nothing },
  ...{ mayAskAgain: () => true, mayReply: () => true },
};
const query = { framed: new Uint8Array(2), setId: nothing } as unknown as TcpQuery;

let upstreams: TcpUpstreams;
/** Ids of endpoints, by slot. */
let ownerId: Uint32Array;
/** Endpoints that have connections. */
let held: number;
/** Connections that were closed by us. */
let destroyed: number;
const context = {
  blocks: new TcpBlocks(),
  moment: { monotonicNs: 1, boottimeNs: 1 },
  random: { u16: () => 7 },
  system: {
    connect: (_: Uint8Array, { onConnect }: TcpStreamEvents) => {
      queueMicrotask(() => onConnect?.());
      const destroy = (): void => {
        destroyed += 1;
      };
      return { pause: nothing, resume: nothing, write: nothing, end: nothing, destroy };
    },
  },
} as unknown as TcpContext;

beforeEach(() => {
  held = 0;
  destroyed = 0;
  const hold = (): void => void (held += 1);
  const unhold = (): void => void (held -= 1);
  ownerId = Uint32Array.of(10, 11, 12);
  upstreams = new TcpUpstreams({ hold, unhold, ownerId }, createSharedCounters());
});

async function take(to: Uint8Array = server): Promise<TcpUpstream> {
  const upstream = upstreams.take(context, to, endpointSlot, events);
  await Promise.resolve();
  return upstream;
}

test('a pod’s next connection goes on with the last one to the same server', async () => {
  const first = await take();
  upstreams.giveBack(first, 1);
  assert.deepEqual([held, upstreams.size], [1, 1]);
  assert.notEqual(await take(otherServer), first);
  assert.equal(await take(), first);
  assert.deepEqual([held, upstreams.size], [0, 0]);
});

test('few are kept, and not for long: servers take few connections', async () => {
  const taken = await Promise.all(Array.from({ length: 20 }, () => take()));
  for (const each of taken) upstreams.giveBack(each, 1);
  assert.deepEqual([upstreams.size, destroyed], [tcpUpstreamsKeptMax, 20 - tcpUpstreamsKeptMax]);
  upstreams.sweep(tcpUpstreamKeepMs * 1e6);
  assert.equal(upstreams.size, tcpUpstreamsKeptMax);
  upstreams.sweep(1 + tcpUpstreamKeepMs * 1e6);
  assert.deepEqual([upstreams.size, destroyed, held], [0, 20, 0]);
});

test('an endpoint asks so many queries alone, and all endpoints so many', () => {
  const begin = (slot: number): boolean => upstreams.beginAlone(slot as EndpointSlot);
  for (let i = 0; i < tcpAlonePerEndpointMax; i++) assert.ok(begin(1));
  assert.ok(!begin(1));
  for (let i = tcpAlonePerEndpointMax; i < tcpAloneMax; i++) assert.ok(begin(100 + i));
  assert.ok(!begin(2));
  upstreams.endAlone(endpointSlot);
  assert.deepEqual([begin(2), begin(1)], [true, false]);
});

describe('a server that answered on a connection past redirects', () => {
  const isPast = (to: Uint8Array, slot = endpointSlot): boolean =>
    upstreams.take(redirecting, to, slot, events).isPastRedirects;
  const redirecting = {
    ...context,
    system: { ...context.system, connectPastRedirects: context.system.connect },
  } as unknown as TcpContext;

  test('is asked so for a while, by this endpoint alone', () => {
    assert.ok(!isPast(server));
    upstreams.answeredPast(server, endpointSlot, 1);
    assert.deepEqual(
      [isPast(server), isPast(otherServer), isPast(server, 2 as typeof endpointSlot)],
      [true, false, false],
    );
    upstreams.answeredPast(server, endpointSlot, 1 - upstreamDirectMs * 1e6);
    assert.ok(!isPast(server), 'that is over');
    upstreams.answeredPast(server, endpointSlot, 1);
    upstreams.failedPast(server, endpointSlot);
    assert.ok(!isPast(server), 'such a connection was refused since');
  });

  test('is asked as before when it has other backends, and the others are not', () => {
    for (const each of [server, otherServer]) upstreams.answeredPast(each, endpointSlot, 1);
    upstreams.backendsChanged(server);
    assert.deepEqual([isPast(server), isPast(otherServer)], [false, true]);
  });

  test('goes on with a connection past redirects that was kept for that while alone', async () => {
    upstreams.answeredPast(server, endpointSlot, 1);
    const kept = upstreams.take(redirecting, server, endpointSlot, events);
    await Promise.resolve();
    upstreams.giveBack(kept, 1);
    const own = upstreams.take(redirecting, server, endpointSlot, events, { isNew: true });
    assert.ok(own !== kept && own.isPastRedirects, 'a query that is asked alone has a new one');
    own.close();
    assert.equal(upstreams.take(redirecting, server, endpointSlot, events), kept);
    upstreams.giveBack(kept, 1);
    upstreams.answeredPast(server, endpointSlot, 1 - upstreamDirectMs * 1e6);
    assert.ok(!isPast(server));
  });

  test('is asked as before by the endpoint that has its slot then', () => {
    upstreams.answeredPast(server, endpointSlot, 1);
    ownerId[endpointSlot] = 20;
    assert.ok(!isPast(server));
    upstreams.failedPast(server, endpointSlot);
    ownerId[endpointSlot] = 11;
    assert.ok(isPast(server));
  });
});

describe('when a server has other backends than before', () => {
  test('what is kept for it is closed, and nothing else', async () => {
    const [first, other] = [await take(), await take(otherServer)];
    for (const each of [first, other]) upstreams.giveBack(each, 1);
    upstreams.backendsChanged(server);
    assert.deepEqual([destroyed, held, upstreams.size], [1, 1, 1]);
    assert.equal(await take(otherServer), other);
    assert.deepEqual([held, upstreams.size], [0, 0]);
  });

  test('what is in use takes what follows the queries in flight, and is not kept', async () => {
    const upstream = await take();
    upstream.send(query);
    upstream.retire();
    assert.ok(upstream.takesQueries, 'a query is in flight');
    const quiet = await take();
    quiet.retire();
    assert.ok(!quiet.takesQueries);
    upstreams.giveBack(quiet, 1);
    assert.deepEqual([destroyed, held, upstreams.size], [1, 0, 0]);
  });
});
