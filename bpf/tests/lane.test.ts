// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** from_pod: which datagrams to the members are of a pod that asks little, and which wait in the second receive buffer. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';

/** A pod asks little up to a 32nd of it, 10 a second, and 64 at once. */
const perSecond = 320;
const littlePerSecond = perSecond / 32;
const littleBurst = 64;
const light = 0;
const heavy = 0x5444_ffff;
const fixture = new Fixture({}, true, { datagrams_per_second: perSecond });
after(() => fixture[Symbol.dispose]());

const families = [
  { family: 4, id: 1, pod: '10.1.0.11', neighbour: '10.1.0.12', server: '10.96.0.10' },
  { family: 6, id: 2, pod: 'fd00:1::11', neighbour: 'fd00:1::12', server: 'fd00:96::10' },
] as const;

beforeEach(() => {
  fixture.reset();
  fixture.map('node_query_pace').update(new Uint8Array(4), new Uint8Array(8));
  fixture.member(0, 'LIVE');
  families.forEach(({ pod, neighbour, server, id }) => {
    fixture.endpoint(pod, { id, flags: ['DNS'] });
    fixture.endpoint(neighbour, { id: 10 + id, flags: ['DNS'] });
    for (const protocol of [6, 17]) fixture.dnsServer(server, protocol);
  });
});

function setSpentLight(endpointId: number, spent: bigint): void {
  const key = new Uint8Array(Uint32Array.of(endpointId).buffer);
  const pace = fixture.structs.bytes('td_pod_pace', { spent_light: spent });
  fixture.map('query_pace').update(key, pace);
}

/** A query: the third octet of the payload has QR, 0. */
function datagram(source: string, destination: string, octets = 30): PacketSpec {
  const payload = new Uint8Array(octets);
  return { ip: { source, destination }, udp: { sourcePort: 4000, destinationPort: 53 }, payload };
}

function laneOf(frame: PacketSpec, options: { gsoSize?: number; priority?: number } = {}): number {
  const { verdict, priority } = fixture.frame('from_pod', frame, options);
  assert.equal(verdict, 'next');
  return priority;
}

const now = (): bigint => process.hrtime.bigint();
const msNs = 1_000_000n;
/** Time that the burst stands for, 6.4 s. */
const burstNs = BigInt(Math.round((littleBurst / littlePerSecond) * 1e9));

for (const { family, id, pod, neighbour, server } of families) {
  describe(`IPv${family}`, () => {
    const query = datagram(pod, server);

    test('a burst is light, what goes beyond is heavy, whatever the pod wrote; a neighbour has its own', () => {
      const began = now();
      let first = 0;
      while (laneOf(query, { priority: heavy }) === light) first += 1;
      const freed = Number(now() - began) / 1e9 / (1 / littlePerSecond);
      assert.ok(first >= littleBurst && first <= littleBurst + freed + 1, `${first}, ${freed}`);
      assert.equal(laneOf(query, { priority: light }), heavy);
      assert.equal(laneOf(datagram(neighbour, server), { priority: heavy }), light);
    });

    test('what is heavy counts: a pod that goes on asking much gets nothing of the first lane', () => {
      setSpentLight(id, now() + burstNs);
      for (let sent = 0; sent < littleBurst; sent++) assert.equal(laneOf(query), heavy);
      // It is as much behind as it can be; what one query stands for has passed meanwhile.
      setSpentLight(id, now() + 2n * burstNs);
      assert.equal(laneOf(query), heavy);
      setSpentLight(id, now() + 2n * burstNs - 110n * msNs);
      assert.equal(laneOf(query), heavy);
    });

    test('a pod that has asked nothing for as long as a burst lasts is light again', () => {
      for (let sent = 0; sent < 3 * littleBurst; sent++) laneOf(query);
      const value = fixture.map('query_pace').lookup(new Uint8Array(Uint32Array.of(id).buffer));
      assert.ok(value !== null);
      const spent = BigInt(fixture.structs.read('td_pod_pace', value, 'spent_light'));
      assert.ok(spent <= now() + 2n * burstNs, 'never further behind than two bursts');
      // As if that time, and that of two queries, had passed.
      setSpentLight(id, spent - burstNs - 200n * msNs);
      assert.equal(laneOf(query), light);
    });

    test('a packet that does not fit into the burst is heavy as a whole', () => {
      const each = 20;
      const segments = (count: number): PacketSpec => datagram(pod, server, count * each - 1);
      assert.equal(laneOf(segments(littleBurst), { gsoSize: each }), light);
      setSpentLight(id, 0n);
      assert.equal(laneOf(segments(littleBurst + 1), { gsoSize: each }), heavy);
      setSpentLight(id, 0n);
      assert.equal(laneOf(segments(littleBurst / 2), { gsoSize: each }), light);
      assert.equal(laneOf(segments(littleBurst), { gsoSize: each }), heavy);
    });

    test('of other packets the priority is left alone', () => {
      setSpentLight(id, now() + 2n * burstNs);
      const tcp = { sourcePort: 4000, destinationPort: 53, flags: ['syn' as const] };
      const others: PacketSpec[] = [
        { ip: { source: pod, destination: server }, tcp },
        { ...query, udp: { sourcePort: 4000, destinationPort: 5353 } },
        datagram(pod, family === 4 ? '10.96.0.11' : 'fd00:96::11'),
      ];
      for (const frame of others) assert.equal(laneOf(frame, { priority: 5 }), 5);
    });
  });
}

test('without a rate all are light', () => {
  using unlimited = new Fixture({}, true, { datagrams_per_second: 0 });
  unlimited.member(0, 'LIVE');
  unlimited.endpoint('10.1.0.11', { id: 1, flags: ['DNS'] });
  unlimited.dnsServer('10.96.0.10', 17);
  const frame = datagram('10.1.0.11', '10.96.0.10');
  for (let sent = 0; sent < 2 * littleBurst; sent++) {
    assert.equal(unlimited.frame('from_pod', frame, { priority: heavy }).priority, light);
  }
});
