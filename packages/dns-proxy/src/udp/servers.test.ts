// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import assert from 'node:assert/strict';
import { test } from 'node:test';
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
const resolver: ServerOwner = { endpointId: 0, policyId: 0, isResolver: true };
const ownerOf = (endpointId: number, policyId = endpointId): ServerOwner => ({
  endpointId,
  policyId,
  isResolver: false,
});

class Fixture {
  readonly forgotten: string[] = [];
  readonly servers: UpstreamServers = new UpstreamServers(({ address }) => {
    this.forgotten.push(address.subarray(12).join('.'));
  });
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
  assert.equal(asked, upstreamServersPerPolicyMax);
  assert.ok(world.ask(ownerOf(50, 50)), 'another policy has its own');
});

test('an endpoint without servers gets an idle place of the endpoint that has most', () => {
  const world = new Fixture();
  const holders = upstreamServersMax / upstreamServersPerEndpointMax;
  for (let endpoint = 1; endpoint <= holders; endpoint++) {
    // The last one has one server less, and the neighbour has that place.
    const count = upstreamServersPerEndpointMax - (endpoint === holders ? 1 : 0);
    for (let i = 0; i < count; i++) world.ask(ownerOf(endpoint), 0);
  }
  const neighbour = world.ask(ownerOf(1000), 0) as UpstreamServer;
  assert.ok(world.ask(ownerOf(1001)));
  assert.equal(world.forgotten.length, 1);
  assert.ok(world.servers.find(neighbour.handle), 'never the only server of another');
});

test('resolvers of the cluster have places of their own, for one another only', () => {
  const world = new Fixture();
  for (let i = 0; i < upstreamResolversMax; i++) assert.ok(world.ask(resolver, 0));
  assert.equal(world.servers.resolvers, upstreamResolversMax);
  assert.ok(world.ask(resolver, 0));
  assert.deepEqual(world.forgotten, ['198.18.0.1']);
  assert.ok(world.ask(ownerOf(1)), 'they take none of the others');
});

test('a server changes hands when policy says otherwise whether it is a resolver', () => {
  const world = new Fixture();
  const address = addressOf(9);
  const server = world.servers.take(address, ownerOf(1), 0);
  assert.equal(world.servers.resolvers, 0);
  assert.equal(world.servers.take(address, resolver, 0), server);
  assert.equal(world.servers.resolvers, 1);
  assert.equal(world.servers.take(address, ownerOf(2), 0), server);
  assert.equal(world.servers.resolvers, 0);
  assert.equal(server?.endpointId, 2);
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
