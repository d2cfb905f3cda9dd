// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** from_pod: how fast a pod may open TCP connections to the shared socket, of which all pods' wait in one queue. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { after, beforeEach, describe, test } from 'node:test';
import type { PacketSpec, TcpFlag } from '@tandem/testing/packet-spec';
import { waitFor } from '@tandem/testing/wait';
import { Fixture } from './fixture.ts';
import { portP } from './kernel-world.ts';
import { PaceStage } from './pace-stage.ts';

const perSecond = 100;
/** A pod opens few up to a 32nd of it, and 64 at once. */
const fewPerSecond = Math.ceil(perSecond / 32);
const fewBurst = 64;
const membersMax = 4;
/** Time for which it counts that a queue was seen to fill up. */
const noteNs = 20_000_000n;
const fixture = new Fixture({}, true, { connects_per_second: perSecond });
after(() => fixture[Symbol.dispose]());

/** Addresses of the loopback, so that this process can have connections between them. */
const families = [
  { family: 4, id: 1, pod: '127.0.1.2', neighbour: '127.0.1.3', server: '127.0.1.53' },
  { family: 6, id: 2, pod: '::1', neighbour: 'fd00:1::12', server: '::1' },
] as const;
const secondNs = 1_000_000_000n;

const stage = new PaceStage(fixture, families, 'connect_pace');
beforeEach(() => stage.reset());

function segment(
  source: string,
  destination: string,
  flags: readonly TcpFlag[],
  sourcePort = 4000,
): PacketSpec {
  return { ip: { source, destination }, tcp: { sourcePort, destinationPort: 53, flags } };
}

const passes = (frame: PacketSpec): boolean => fixture.frame('from_pod', frame).verdict === 'next';

/** How many pass until one is dropped. */
function passed(frame: PacketSpec): number {
  for (let count = 0; count < 10 * perSecond; count++) {
    const { verdict, counted } = fixture.frame('from_pod', frame);
    if (verdict === 'next') continue;
    assert.deepEqual(counted, { DROP_CONNECT_RATE: 1 });
    return count;
  }
  return Number.POSITIVE_INFINITY;
}

/** When a SYN to a member last found a queue of its listener filling up, CLOCK_MONOTONIC in ns. */
function setFilling(family: number, member: number, seenNs: bigint): void {
  const key = Uint32Array.of((family === 6 ? membersMax : 0) + member);
  const value = BigUint64Array.of(seenNs);
  fixture.map('connect_queues').update(new Uint8Array(key.buffer), new Uint8Array(value.buffer));
}

/** Longer than the test takes. */
const later = (): bigint => process.hrtime.bigint() + 60n * secondNs;

for (const { family, id, pod, neighbour, server } of families) {
  describe(`IPv${family}`, () => {
    const syn = segment(pod, server, ['syn']);

    test('a second’s worth at once, then as time passes; a neighbour has its own', async () => {
      const count = passed(syn);
      // A burst takes time too, in which a few more become free.
      assert.ok(count >= perSecond && count < 2 * perSecond, `${count} at once`);
      const [event] = fixture.takeEvents();
      assert.equal(event?.read('endpoint_id'), id);
      assert.ok(passes(segment(neighbour, server, ['syn'])));
      await waitFor(() => passes(syn), { what: 'the next one' });
    });

    test('UDP, other ports and other servers spend nothing and are not held up', () => {
      stage.setSpent(id, later());
      const udp = { ip: syn.ip, udp: { sourcePort: 4000, destinationPort: 53 }, payload: 'data' };
      assert.ok(passes(udp as PacketSpec));
      assert.ok(
        passes({ ...syn, tcp: { sourcePort: 4000, destinationPort: 443, flags: ['syn'] } }),
      );
    });

    test('when the node has spent its own, each pod has what is guaranteed', () => {
      stage.setNodeSpent(later());
      for (const source of [pod, neighbour]) {
        const count = passed(segment(source, server, ['syn']));
        assert.ok(count >= perSecond / 16 && count <= perSecond / 8, `${count} at once`);
      }
    });

    test('while a queue of a member fills up, a pod that opens few connections goes on, one that opens many does not', async () => {
      for (let member = 0; member < 2; member++) {
        setFilling(family, member, process.hrtime.bigint() + secondNs);
        for (let opened = 0; opened < fewBurst; opened++) assert.ok(passes(syn), `${opened}`);
        assert.ok(passed(syn) <= 1 + fewPerSecond);
        assert.ok(passes(segment(neighbour, server, ['syn'])));
        setFilling(family === 4 ? 6 : 4, member, process.hrtime.bigint() + secondNs);
        setFilling(family, member, 0n);
        assert.ok(passes(syn), 'the other family has queues of its own');
        setFilling(family, member, process.hrtime.bigint() - noteNs);
        assert.ok(passes(syn), 'a note that is old');
        stage.reset();
        for (const each of [4, 6]) setFilling(each, member, 0n);
      }
    });

    test('what a pod was refused by the node’s pace does not keep it from its own later', () => {
      stage.setNodeSpent(later());
      passed(syn);
      stage.setNodeSpent(0n);
      assert.ok(passed(syn) > perSecond / 2);
    });

    test('segments of a connection pass; those of none are as a SYN, because of cookies', async () => {
      const listener = createServer().listen(portP, server);
      await once(listener, 'listening');
      const accepted = once(listener, 'connection');
      const client = connect({ host: server, port: portP, localAddress: pod });
      await once(client, 'connect');
      const [socket] = (await accepted) as [{ destroy(): void }];
      try {
        const { port } = client.address() as AddressInfo;
        stage.setSpent(id, later());
        for (const flags of [['ack'], ['ack', 'psh'], ['fin', 'ack'], ['rst']] as TcpFlag[][]) {
          assert.ok(passes(segment(pod, server, flags, port)), flags.join());
          assert.ok(!passes(segment(pod, server, flags, port ^ 1)), `${flags.join()} of none`);
        }
        assert.ok(!passes(segment(pod, server, ['syn'], port)), 'a SYN on it');
      } finally {
        client.destroy();
        socket.destroy();
        listener.close();
      }
    });
  });
}

test('a pod whose id is equal in its low bits has a pace of its own', () => {
  const [{ id, pod, neighbour, server }] = families;
  fixture.endpoint(neighbour, { id: id + (1 << 20), flags: ['DNS'] });
  stage.setSpent(id, later());
  assert.ok(!passes(segment(pod, server, ['syn'])));
  assert.ok(passes(segment(neighbour, server, ['syn'])));
});

test('a segment that is cut short passes nothing', () => {
  const [{ pod, server }] = families;
  const whole = segment(pod, server, ['syn']);
  const cut = { ip: { ...whole.ip, protocol: 6 }, payload: Uint8Array.of(15, 160, 0, 53) };
  assert.deepEqual(fixture.frame('from_pod', cut as PacketSpec).counted, { DROP_PARSE: 1 });
});
