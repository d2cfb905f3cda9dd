// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** from_pod: how many datagrams a pod may send to the shared socket, of which all pods' wait in one receive buffer. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { waitFor } from '@tandem/testing/wait';
import { Fixture } from './fixture.ts';
import { PaceStage } from './pace-stage.ts';

const perSecond = 64;
const burst = perSecond;
const fixture = new Fixture({}, true, { datagrams_per_second: perSecond });
after(() => fixture[Symbol.dispose]());

const families = [
  { family: 4, id: 1, pod: '10.1.0.11', neighbour: '10.1.0.12', server: '10.96.0.10' },
  { family: 6, id: 2, pod: 'fd00:1::11', neighbour: 'fd00:1::12', server: 'fd00:96::10' },
] as const;

const stage = new PaceStage(fixture, families, 'query_pace');
beforeEach(() => stage.reset());

/** A query: the third octet of the payload has QR, 0. */
function datagram(source: string, destination: string, octets = 30): PacketSpec {
  const payload = new Uint8Array(octets);
  return { ip: { source, destination }, udp: { sourcePort: 4000, destinationPort: 53 }, payload };
}

/** A burst of `most` passes, and what time frees meanwhile, at `rate` a second; then one is dropped. */
function assertBurst(frame: PacketSpec, most: number = burst, rate: number = perSecond): void {
  const began = process.hrtime.bigint();
  for (let count = 0; count < 100 * perSecond; count++) {
    const { verdict, counted } = fixture.frame('from_pod', frame);
    if (verdict === 'next') continue;
    assert.deepEqual(counted, { DROP_QUERY_RATE: 1 });
    const freed = (Number(process.hrtime.bigint() - began) / 1e9) * rate;
    assert.ok(count >= most - 1 && count <= most + freed + 2, `${count}, ${freed} freed`);
    return;
  }
  assert.fail('all pass');
}

/** Longer than the test takes. */
const later = (): bigint => process.hrtime.bigint() + 60_000_000_000n;

for (const { family, id, pod, neighbour, server } of families) {
  describe(`IPv${family}`, () => {
    const query = datagram(pod, server);
    const passes = (frame: PacketSpec, gsoSize = 0): boolean =>
      fixture.frame('from_pod', frame, { gsoSize }).verdict === 'next';

    test('a second’s worth at once, then as time passes; a neighbour has its own', async () => {
      assertBurst(query);
      const [event] = fixture.takeEvents();
      assert.equal(event?.read('endpoint_id'), id);
      assert.ok(passes(datagram(neighbour, server)));
      await waitFor(() => passes(query), { what: 'the next one' });
    });

    test('a segmented packet takes what its segments take, also where they are not counted in it', () => {
      // PACKET_VNET_HDR leaves gso_segs 0.
      const each = 20;
      const segments = datagram(pod, server, burst * each - 1);
      for (let sent = 0; sent <= burst; sent += burst) assert.ok(passes(segments, each), `${sent}`);
      assert.ok(!passes(query), 'what it took too much is paid back before the next one');
      stage.setSpent(id, 0n);
      assert.ok(passes(datagram(pod, server, 1400), 1));
      assert.ok(!passes(query), 'segments of one octet');
    });

    test('a datagram that takes more memory than a query takes as many more', () => {
      // As of a test run, 2304 octets: header, 1200 octets, struct skb_shared_info, in 2 KiB, and struct sk_buff.
      assertBurst(datagram(pod, server, 1200), burst / 3, perSecond / 3);
    });

    test('TCP, other ports, other servers and replies spend nothing and are not held up', () => {
      stage.setSpent(id, later());
      const tcp = { sourcePort: 4000, destinationPort: 53, flags: ['syn' as const] };
      assert.ok(passes({ ip: { source: pod, destination: server }, tcp }));
      assert.ok(passes({ ...query, udp: { sourcePort: 4000, destinationPort: 5353 } }));
      const elsewhere = family === 4 ? '10.96.0.11' : 'fd00:96::11';
      assert.ok(passes(datagram(pod, elsewhere)));
      const reply = datagram(pod, server);
      (reply.payload as Uint8Array)[2] = 0x80;
      assert.ok(passes(reply));
    });

    test('when the node has spent its own, each pod has what is guaranteed', () => {
      stage.setNodeSpent(later());
      for (const source of [pod, neighbour]) {
        assertBurst(datagram(source, server), burst / 16, perSecond / 16);
      }
    });

    test('what a pod was refused by the node’s pace does not keep it from its own later', () => {
      stage.setNodeSpent(later());
      assertBurst(query, burst / 16, perSecond / 16);
      stage.setNodeSpent(0n);
      for (let sent = 0; sent < burst / 2; sent++) assert.ok(passes(query), `${sent}`);
    });
  });
}
