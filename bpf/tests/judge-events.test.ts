// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: a drop spends the events of who caused it, so that no pod can hide the drops of another (F12). */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { buildPacket } from '@tandem/testing/packet';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { waitFor } from '@tandem/testing/wait';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  b4,
  type Facts,
  remote4,
  seenFromA,
  setUpJudge,
  strangerVeth,
  udp,
  uplink,
  vethA,
  vethB,
  withOut,
} from './judge-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpJudge(fixture));

const floodCount = 3000;

function flood(packet: PacketSpec, facts: Facts): void {
  fixture.facts(withOut(fixture, packet, facts));
  const data = buildPacket(packet);
  const ctx = new Uint8Array(48);
  ctx[0] = 4;
  ctx[1] = 2;
  const program = fixture.object.program('judge');
  const { counted } = fixture.counting(() =>
    program.testRun({ data, ctx, repeat: floodCount, dataOutSize: 0, ctxOutSize: 0 }),
  );
  assert.ok((counted['EVENTS_LIMITED'] ?? 0) > 0, 'the flood is limited');
  fixture.takeEvents();
  holdShares();
}

/** Keeps spent shares spent: a share grows by an event every 4 ms, and these tests are slower than that. */
function holdShares(): void {
  const paces = fixture.map('payer_pace');
  const later = process.hrtime.bigint() + 1_000_000_000_000n;
  for (const [key, value] of [...paces.entries()])
    paces.update(key, new Uint8Array(new BigUint64Array(value.length / 8).fill(later).buffer));
  const all = fixture.map('event_pace');
  all.update(new Uint8Array(4), new Uint8Array(all.valueBytes));
}

/** Is one drop of this packet told? */
function isTold(packet: PacketSpec, facts: Facts): boolean {
  fixture.facts(withOut(fixture, packet, facts));
  assert.equal(fixture.hook('judge', 'post-routing', packet).verdict, 'drop');
  return fixture.takeEvents().length === 1;
}

describe('a flood of drops leaves the events of others alone', () => {
  const open = (): void => fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: [] });
  const closed = (): void =>
    fixture.endpoint(b4, {
      id: 2,
      policyId: 2,
      ifindex: vethB,
      flags: ['ENFORCE_INGRESS', 'ENFORCE_EGRESS'],
    });

  test('of a pod to another, which denies it: what else the other drops is told', () => {
    open();
    closed();
    flood(udp(a4, b4), seenFromA);
    assert.ok(!isTold(udp(a4, b4), seenFromA), 'the share of the speaker is spent');
    assert.ok(isTold(udp(remote4, b4), { ifindex: uplink }), 'of the world to it');
    assert.ok(isTold(udp(b4, remote4), { ifindex: vethB }), 'of it to the world');
  });

  test("of a stranger with another pod's address: that pod's own are told", () => {
    flood(udp(a4, remote4), { ifindex: strangerVeth });
    assert.ok(!isTold(udp(a4, remote4), { ifindex: strangerVeth }));
    assert.ok(isTold(udp(a4, remote4), seenFromA));
  });

  test("of a stranger to a pod: the pod's are told", () => {
    flood(udp('9.9.9.9', b4), { ifindex: strangerVeth });
    assert.ok(isTold(udp(remote4, b4), { ifindex: uplink }));
  });

  test('of the world to a pod: those of the world to another are told', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_INGRESS'] });
    flood(udp(remote4, b4), { ifindex: uplink });
    assert.ok(isTold(udp(remote4, a4), { ifindex: uplink }));
  });

  test('of a pod: those of a pod whose id is equal in its low bits are told', () => {
    open();
    closed();
    fixture.endpoint(b4, { id: 1 + (1 << 20), ifindex: vethB, flags: ['ENFORCE_EGRESS'] });
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS'] });
    flood(udp(a4, remote4), seenFromA);
    assert.ok(!isTold(udp(a4, remote4), seenFromA));
    assert.ok(isTold(udp(b4, remote4), { ifindex: vethB }));
  });

  test('of an interface: those of the pod whose id is the index of that interface are told', () => {
    fixture.endpoint(a4, { id: strangerVeth, ifindex: vethA, flags: ['ENFORCE_EGRESS'] });
    flood(udp('9.9.9.9', b4), { ifindex: strangerVeth });
    assert.ok(!isTold(udp('9.9.9.9', b4), { ifindex: strangerVeth }));
    assert.ok(isTold(udp(a4, remote4), seenFromA));
  });
});

test('when others have spent the events of the CPU, a pod with few drops has those that are kept for it', async () => {
  const all = fixture.map('event_pace');
  const paces = fixture.map('payer_pace');
  const perCpu = (bytes: number, words: readonly bigint[]): Uint8Array =>
    new Uint8Array(
      BigUint64Array.from({ length: bytes / 8 }, (_, i) => words[i % words.length] ?? 0n).buffer,
    );
  const bootNs = (): bigint =>
    BigInt(Math.round(Number(readFileSync('/proc/uptime', 'utf8').split(' ')[0]) * 1e9));
  const isToldThen = async (packet: PacketSpec, facts: Facts): Promise<boolean> => {
    let told = false;
    const tryOnce = (): boolean => {
      const spent = bootNs() + 950_000_000n;
      all.update(new Uint8Array(4), perCpu(all.valueBytes, [spent]));
      told = isTold(packet, facts);
      // False: the test was slow, so the shared part of the rate has room again.
      return bootNs() + 760_000_000n < spent;
    };
    await waitFor(tryOnce, { what: 'a try while the events were spent' });
    return told;
  };
  fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS'] });
  fixture.endpoint(b4, { id: 2, ifindex: vethB, flags: ['ENFORCE_EGRESS'] });
  const id = (number: number): Uint8Array => new Uint8Array(Uint32Array.of(number).buffer);
  const guaranteedIsSpent = perCpu(paces.valueBytes, [0n, bootNs() + 1_000_000_000_000n]);
  paces.update(id(1), guaranteedIsSpent);
  assert.ok(!(await isToldThen(udp(a4, remote4), seenFromA)), 'one with many drops');
  assert.ok(await isToldThen(udp(b4, remote4), { ifindex: vethB }), 'one with few');
});

describe('one event per frame that a bridge floods', () => {
  const bridge = 30;
  const ports = [41, 42, 43, 44];
  const told = (packet: PacketSpec, out: number, facts: Facts = {}): number => {
    fixture.facts({ ifindex: bridge, bridge_port: vethA, ...facts, out });
    const got = fixture.hook('judge', 'post-routing', packet);
    assert.deepEqual(got, { verdict: 'drop', counted: { DROP_NO_MATCH: 1 } });
    return fixture.takeEvents().length;
  };
  const toldAt = (packet: PacketSpec, at = ports): number[] => at.map((out) => told(packet, out));
  const broadcast = udp(a4, '10.1.255.255');
  const multicast = udp(a6, 'ff02::fb', 5353);

  // A bridge floods a frame on one CPU, and `flood_told` is per CPU: this thread stays on one.
  before(() => {
    const cpu = /Cpus_allowed_list:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
    execFileSync('taskset', ['--pid', '--cpu-list', cpu ?? '0', String(process.pid)]);
  });

  beforeEach(() => {
    fixture.class('10.1.255.255', 32, 40);
    fixture.class('ff02::', 16, 40);
  });

  test('told at the first port, counted at the others, and the next frame is told again', () => {
    for (const packet of [broadcast, multicast, broadcast, broadcast]) {
      assert.deepEqual(toldAt(packet), [1, 0, 0, 0]);
    }
    assert.deepEqual(toldAt(broadcast, [41]), [1]);
    assert.deepEqual(toldAt(broadcast, [41]), [1]);
  });

  test('frames that differ, or came in by another port, have their own', () => {
    assert.deepEqual(toldAt(broadcast, [41, 42]), [1, 0]);
    assert.deepEqual(toldAt(udp(a4, '10.1.255.255', 444), [43, 44]), [1, 0]);
    assert.deepEqual(toldAt(udp(a4, '10.1.255.254'), [41, 42]), [1, 0]);
  });

  test('what comes between two ports of a frame costs an event, and hides none', () => {
    assert.deepEqual(toldAt(broadcast, [41]), [1]);
    assert.deepEqual(toldAt(multicast, [41]), [1]);
    assert.deepEqual(toldAt(broadcast, [42, 43]), [1, 0]);
  });

  test('a drop toward a pod, and of what no bridge switched, is told each time', () => {
    fixture.endpoint(b4, { id: 2, ifindex: vethB, policyId: 2, flags: ['ENFORCE_INGRESS'] });
    fixture.device(42, 'POD');
    for (const out of [vethB, vethB]) assert.equal(told(udp(a4, b4), out), 1);
    for (const out of ports)
      assert.equal(told(broadcast, out, { ifindex: vethA, bridge_port: 0 }), 1);
  });

  test('what is left of a frame much later is told', () => {
    assert.deepEqual(toldAt(broadcast, [41]), [1]);
    const map = fixture.map('flood_told');
    const value = map.lookup(new Uint8Array(4));
    assert.ok(value !== null);
    const words = new BigUint64Array(value.slice().buffer);
    for (let i = 1; i < words.length; i += 3) words[i] = (words[i] ?? 0n) - 200_000_000n;
    map.update(new Uint8Array(4), new Uint8Array(words.buffer));
    assert.deepEqual(toldAt(broadcast, [42, 43]), [1, 0]);
  });
});
