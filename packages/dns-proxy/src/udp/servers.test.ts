// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { noPolicy, type PolicyId } from '@tandem/core/ids';
import {
  upstreamResolversMax,
  upstreamServerIdleMs,
  upstreamServersMax,
  upstreamServersPerEndpointMax,
  upstreamServersPerPolicyMax,
} from '../limits.ts';
import { type ServerOwner, type UpstreamServer, UpstreamServers } from './servers.ts';

const addressOf = (n: number): Uint8Array =>
  Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 198, 18, n >> 8, n & 0xff);
const resolver: ServerOwner = { endpointId: 0, policyId: noPolicy, isResolver: true };
const ownerOf = (endpointId: number, policyId = endpointId): ServerOwner => ({
  endpointId,
  policyId: policyId as PolicyId,
  isResolver: false,
});

class Fixture {
  readonly forgotten: string[] = [];
  resolversEvicted = 0;
  readonly servers: UpstreamServers = new UpstreamServers(
    ({ address }) => {
      this.forgotten.push(address.subarray(12).join('.'));
    },
    () => {
      this.resolversEvicted += 1;
    },
  );
  #next = 0;

  /** Takes a server of a new address, and has a query in flight there. */
  ask(owner: ServerOwner, inFlight = 1): UpstreamServer | undefined {
    this.#next += 1;
    const server = this.servers.take(addressOf(this.#next), owner, this.#next);
    if (server !== undefined) server.inFlight = inFlight;
    return server;
  }
}

test('silent servers of one endpoint take no place of another, nor of the cluster (F1)', () => {
  const world = new Fixture();
  const kubeDns = world.ask(resolver, 0);
  const neighbour = world.ask(ownerOf(2), 0);
  const asked = Array.from({ length: 300 }, () => world.ask(ownerOf(7)));
  assert.equal(asked.filter(Boolean).length, upstreamServersPerEndpointMax);
  assert.deepEqual(world.forgotten, [], 'nothing idle of others is forgotten for it');
  assert.equal(world.servers.find((kubeDns as UpstreamServer).handle), kubeDns);
  assert.equal(world.servers.find((neighbour as UpstreamServer).handle), neighbour);
});

test('an endpoint over its bound gives up its own oldest idle server', () => {
  const world = new Fixture();
  world.ask(ownerOf(2), 0);
  for (let i = 0; i < upstreamServersPerEndpointMax; i++) world.ask(ownerOf(7), i === 0 ? 1 : 0);
  assert.ok(world.ask(ownerOf(7)));
  assert.equal(world.resolversEvicted, 0);
  assert.deepEqual(world.forgotten, ['198.18.0.3'], 'not the busy one, not the other endpoint’s');
});

test('endpoints of one policy share the bound of the policy', () => {
  const world = new Fixture();
  let asked = 0;
  for (let endpoint = 1; endpoint <= 8; endpoint++) {
    for (let i = 0; i < upstreamServersPerEndpointMax; i++) {
      if (world.ask(ownerOf(endpoint, 99)) !== undefined) asked += 1;
    }
  }
  assert.ok(asked < upstreamServersPerPolicyMax && asked > upstreamServersPerPolicyMax / 2);
  assert.ok(world.ask(ownerOf(60, 99)), 'the next endpoint of the policy has a place');
  assert.ok(world.ask(ownerOf(50, 50)), 'another policy has its own');
});

test('silent servers of many endpoints leave places free for others', () => {
  const world = new Fixture();
  for (let endpoint = 1; endpoint <= 40; endpoint++) {
    for (let i = 0; i < 100; i++) world.ask(ownerOf(endpoint, endpoint & ~3));
  }
  for (let endpoint = 1000; endpoint < 1010; endpoint++) {
    assert.ok(world.ask(ownerOf(endpoint, 1000)));
    assert.ok(world.ask(ownerOf(endpoint + 100, 4)), 'others of its policy took all they could');
  }
  assert.deepEqual(world.forgotten, []);
});

test('an endpoint without servers gets an idle place of the endpoint that has most', () => {
  const world = new Fixture();
  for (let i = 0; i < 5; i++) world.ask(ownerOf(1), 0);
  // One server each, until there is no place left.
  for (let endpoint = 2; endpoint <= upstreamServersMax - 4; endpoint++) {
    world.ask(ownerOf(endpoint), 0);
  }
  assert.ok(world.ask(ownerOf(1001), 0));
  assert.deepEqual(world.forgotten, ['198.18.0.1'], 'never the only server of another');
});

test('a server that two endpoints ask is one for each, with its own bounds', () => {
  const world = new Fixture();
  const address = addressOf(9);
  const first = world.servers.take(address, ownerOf(1), 0) as UpstreamServer;
  const second = world.servers.take(address, ownerOf(2), 0) as UpstreamServer;
  assert.notEqual(first.handle, second.handle);
  assert.deepEqual([first.endpointId, second.endpointId], [1, 2]);
  assert.equal(world.servers.take(address, ownerOf(1), 1), first);
  assert.deepEqual([...world.servers.byAddress(address)], [first, second]);
});

test('resolvers of the cluster have places of their own, for one another only', () => {
  const world = new Fixture();
  for (let i = 0; i < upstreamResolversMax; i++) assert.ok(world.ask(resolver, 0));
  assert.equal(world.servers.resolvers, upstreamResolversMax);
  assert.ok(world.ask(resolver, 0));
  assert.deepEqual(world.forgotten, ['198.18.0.1']);
  assert.equal(world.resolversEvicted, 1);
  assert.ok(world.ask(ownerOf(1)), 'they take none of the others');
});

test('what policy calls a resolver of the cluster is no server of an endpoint', () => {
  const world = new Fixture();
  const address = addressOf(9);
  const own = world.servers.take(address, ownerOf(1), 0);
  assert.equal(world.servers.resolvers, 0);
  const shared = world.servers.take(address, resolver, 0);
  assert.notEqual(shared, own);
  assert.equal(world.servers.resolvers, 1);
  assert.equal(world.servers.take(address, { ...resolver, endpointId: 2 }, 0), shared);
  world.servers.sweep(upstreamServerIdleMs);
  assert.deepEqual([world.servers.resolvers, world.resolversEvicted], [0, 0], 'gone, not evicted');
});

test('a handle does not mean a later server of the same place', () => {
  const world = new Fixture();
  const old = world.servers.take(addressOf(1), ownerOf(1), 0) as UpstreamServer;
  world.servers.sweep(upstreamServerIdleMs);
  assert.equal(world.servers.find(old.handle), undefined);
  for (let i = 0; i < 2000; i++) {
    const server = world.servers.take(addressOf(2 + i), ownerOf(2), i) as UpstreamServer;
    assert.ok(server.handle > 0);
    assert.notEqual(server.handle, old.handle);
  }
  assert.equal(world.servers.find(old.handle), undefined);
});
