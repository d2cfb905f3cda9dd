// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** guard_entry: what comes in by a bridge port and makes no connection; and guard_entry_root without it. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  b4,
  type Facts,
  remote4,
  remote6,
  setUpJudge,
  strangerVeth,
  tcp,
  udp,
  vethA,
} from './judge-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());

const cni0 = 30;
const podPort = 32;
const strangerPort = 34;
const dockerPort = 35;
const trustedPort = 36;
const ownPort = 37;
const c4 = '10.1.2.11';
const host4 = '192.168.60.1';
const host6 = 'fd00:60::1';

beforeEach(() => {
  setUpJudge(fixture);
  fixture.endpoint(c4, {
    ...{ id: 3, policyId: 3, classId: 53, flags: ['BRIDGED'] },
    ...{ ifindex: podPort, l3Ifindex: cni0 },
  });
  fixture.device(strangerPort, 'STRANGER');
  fixture.device(dockerPort, 'OUTSIDE');
  fixture.device(trustedPort, 'TRUSTED');
  fixture.device(ownPort, 'OWN');
  fixture.class(host4, 32, 30, ['NODE', 'CLUSTER', 'HOST']);
  fixture.class(host6, 128, 30, ['NODE', 'CLUSTER', 'HOST']);
});

const by = (port: number): Facts => ({ ifindex: cni0, bridge_port: port });
const rows: readonly (readonly [name: string, PacketSpec, Facts, reason: string | null])[] = [
  ['a pod by its own port', udp(c4, remote4), by(podPort), null],
  ['a pod that nobody knows', udp('10.1.2.99', b4), by(strangerPort), 'DROP_UNKNOWN_POD'],
  ['it, as the world', udp(remote4, c4), by(strangerPort), 'DROP_UNKNOWN_POD'],
  ['it, as the world, IPv6', udp(remote6, a6), by(strangerPort), 'DROP_UNKNOWN_POD'],
  ['it, as a pod of the bridge', udp(c4, b4), by(strangerPort), 'DROP_UNVERIFIED'],
  ['it, as a pod elsewhere', udp(b4, c4), by(strangerPort), 'DROP_UNVERIFIED'],
  ['it, as a pod elsewhere, IPv6', tcp(a6, remote6), by(strangerPort), 'DROP_UNVERIFIED'],
  ['somebody behind a trusted port', udp(remote4, c4), by(trustedPort), null],
  ['somebody there, as a pod', udp(c4, b4), by(trustedPort), 'DROP_UNVERIFIED'],
  ['a container of another bridge', udp('172.17.0.2', c4), by(dockerPort), null],
  ['it, as a pod', udp(a4, c4), by(dockerPort), 'DROP_UNVERIFIED'],
  ['somebody there, as the node', udp(host4, c4), by(trustedPort), 'DROP_UNVERIFIED'],
  ['somebody there, as the node, IPv6', udp(host6, a6), by(trustedPort), 'DROP_UNVERIFIED'],
  [
    'a container, as the node, to a Service',
    udp(host4, remote4),
    by(dockerPort),
    'DROP_UNVERIFIED',
  ],
  ['somebody there, as another node', udp('192.168.60.2', c4), by(trustedPort), null],
  ['the node, by a veth pair of its own', udp(host4, remote4), by(ownPort), null],
  ['somebody else by it, as a pod', udp(c4, remote4), by(ownPort), 'DROP_UNVERIFIED'],
  [
    'a neighbour with the same address',
    {
      ip: { source: host6, destination: a6, ttl: 255 },
      icmp: { type: 136 },
      payload: new Uint8Array(16),
    },
    by(trustedPort),
    null,
  ],
  // Conntrack makes an entry of it, and `judge` drops it before it is confirmed.
  ['a stranger by no bridge', udp(a4, c4), { ifindex: strangerVeth }, null],
  ['a pod by no bridge', udp(a4, c4), { ifindex: vethA }, null],
  ['the host', udp(host4, c4), {}, null],
];
for (const [name, packet, facts, reason] of rows) {
  test(`${name}: ${reason ?? 'passes'}`, () => {
    fixture.facts(facts);
    const got = fixture.hook('guard_entry', 'pre-routing', packet);
    const counted = reason === null ? {} : { [reason]: 1 };
    assert.deepEqual(got, { verdict: reason === null ? 'accept' : 'drop', counted });
    const events = fixture.takeEvents();
    assert.deepEqual(
      events.map((event) => [event.read('reason'), event.read('hook'), event.read('ifindex')]),
      reason === null
        ? []
        : [[fixture.structs.number(`TD_COUNT_${reason}`), 4, facts['bridge_port']]],
    );
  });
}

describe('guard_entry_root', () => {
  const root = (packet: PacketSpec, facts: Facts): unknown => {
    fixture.facts(facts);
    return fixture.hook('guard_entry_root', 'pre-routing', packet);
  };
  const dropped = (reason: string): unknown => ({ verdict: 'drop', counted: { [reason]: 1 } });
  const passed = { verdict: 'accept', counted: {} };

  test('with a guard: its verdict', () => {
    const fd = new Uint8Array(4);
    new DataView(fd.buffer).setUint32(0, fixture.object.program('guard_entry').fd, true);
    fixture.map('guard_entry_slot').update(new Uint8Array(4), fd);
    try {
      assert.deepEqual(root(udp(b4, c4), by(strangerPort)), dropped('DROP_UNVERIFIED'));
    } finally {
      fixture.map('guard_entry_slot').delete(new Uint8Array(4));
    }
  });

  test('with a cleared slot: nothing of pods by a bridge port, all else', () => {
    assert.deepEqual(root(udp(remote4, c4), by(podPort)), dropped('DROP_NO_PROGRAM'));
    assert.deepEqual(root(udp('10.1.0.99', remote4), by(dockerPort)), dropped('DROP_NO_PROGRAM'));
    assert.deepEqual(root(udp('172.17.0.2', remote4), by(dockerPort)), passed);
    assert.deepEqual(root(udp(c4, remote4), { ifindex: podPort }), passed);
  });
});
