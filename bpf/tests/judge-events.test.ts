// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: a drop spends the events of who caused it, so that no pod can hide the drops of another (F12). */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { buildPacket } from '@tandem/testing/packet';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  a4,
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

/** What is spent stays so: a share grows by an event every 4 ms, and these tests are slower than that. */
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
