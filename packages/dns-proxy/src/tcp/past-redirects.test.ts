// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Bounds of the memory of servers that answered past redirects: whose is forgotten, and whose is not. */

import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { counter, createSharedCounters } from '../counters.ts';
import {
  tcpPastRedirectsMax,
  tcpPastRedirectsPerEndpointMax,
  upstreamDirectMs,
} from '../limits.ts';
import { PastRedirects } from './past-redirects.ts';

const largest = 1;
const other = 2;
const afterAll = 1 + upstreamDirectMs * 1e6;

let counters: Float64Array;
let past: PastRedirects;
beforeEach(() => {
  counters = createSharedCounters();
  past = new PastRedirects(counters);
});

function server(number: number): Uint8Array {
  const address = new Uint8Array(16);
  new DataView(address.buffer).setUint32(12, number);
  return address;
}

const forgotten = (): number => counters[counter.tcpPastRedirectsForgotten]!;

/** The node is full: `largest` has most, and each of the others a single one; their ids begin at 100. */
function fill(): void {
  for (let i = 0; i < tcpPastRedirectsPerEndpointMax; i++) past.add(largest, server(i), 1);
  for (let id = 100; past.size < tcpPastRedirectsMax; id++) past.add(id, server(0), 1);
}

test('an endpoint over its bound forgets its own oldest server', () => {
  past.add(other, server(0), 1);
  for (let i = 0; i < tcpPastRedirectsPerEndpointMax; i++) past.add(largest, server(i), 1);
  // Renewed: the second is the oldest by now.
  past.add(largest, server(0), 2);
  assert.equal(forgotten(), 0);
  past.add(largest, server(99), 3);
  const has = [0, 1, 2, 99].map((number) => past.has(largest, server(number), 3));
  assert.deepEqual(has, [true, false, true, true]);
  assert.ok(past.has(other, server(0), 3));
  assert.deepEqual([past.size, forgotten()], [1 + tcpPastRedirectsPerEndpointMax, 1]);
});

test('on a full node an endpoint with servers forgets its own, and one without takes a place of the largest', () => {
  fill();
  past.add(100, server(7), 2);
  assert.deepEqual([past.has(100, server(0), 2), past.has(100, server(7), 2)], [false, true]);
  past.add(other, server(7), 2);
  assert.deepEqual([past.has(largest, server(0), 2), past.has(other, server(7), 2)], [false, true]);
  assert.deepEqual([past.size, forgotten()], [tcpPastRedirectsMax, 2]);
});

test('no endpoint loses its only server to another', () => {
  for (let id = 100; past.size < tcpPastRedirectsMax; id++) past.add(id, server(0), 1);
  past.add(other, server(0), 1);
  assert.deepEqual([past.has(100, server(0), 1), past.has(other, server(0), 1)], [true, false]);
  assert.equal(forgotten(), 1);
});

test('what is over takes no place, and is not counted', () => {
  fill();
  past.add(other, server(0), afterAll);
  assert.deepEqual([past.size, forgotten()], [1, 0]);
});

test('an endpoint’s own that is over is not counted either', () => {
  for (let i = 0; i < tcpPastRedirectsPerEndpointMax; i++) past.add(largest, server(i), 1);
  past.add(largest, server(99), afterAll);
  assert.equal(forgotten(), 0);
});

test('a server is forgotten of one endpoint, or of all', () => {
  for (const id of [largest, other]) for (const i of [0, 1]) past.add(id, server(i), 1);
  past.delete(largest, server(0));
  past.deleteServer(server(1));
  const has = [largest, other].flatMap((id) => [0, 1].map((i) => past.has(id, server(i), 1)));
  assert.deepEqual([has, past.size], [[false, false, true, false], 1]);
  past.clear();
  assert.deepEqual([past.has(other, server(0), 1), past.size], [false, 0]);
});
