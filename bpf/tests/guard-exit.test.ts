// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** guard_exit and to_pod drop frames of unknown ports that a bridge switches past netfilter (safety rule 6). */

import assert from 'node:assert/strict';
import { after, beforeEach, test } from 'node:test';
import { mappedAddressBytes } from '@tandem/testing/address';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());

const own4 = '10.1.0.11';
const own6 = 'fd00:1::11';
const ports = { host: 0, pod: 7, trusted: 8, unknown: 9 } as const;
/** linux/if_packet.h: what is routed or for the host, and what a bridge switches. */
const kinds = { host: 0, broadcast: 1, multicast: 2, otherHost: 3 } as const;

beforeEach(() => {
  fixture.reset();
  for (const address of [own4, own6]) fixture.endpoint(address, { id: 1 });
  fixture.device(ports.pod, 'POD');
  fixture.device(ports.trusted, 'TRUSTED');
});

const udp = { sourcePort: 4000, destinationPort: 80 };
const frames: Readonly<Record<string, PacketSpec>> = {
  ARP: { arp: { operation: 'reply', senderAddress: '10.1.2.1', targetAddress: own4 } },
  IPv4: { ip: { source: '192.0.2.1', destination: own4 }, udp },
  IPv6: { ip: { source: '2001:db8::1', destination: own6 }, udp },
  'a VLAN tag': {
    ethernet: { vlans: [{ id: 7 }] },
    ip: { source: '192.0.2.1', destination: own4 },
    udp,
  },
  'another ethertype': { ethernet: { type: 0x88b5 }, payload: 'x'.repeat(60) },
};

/** enum test_bridge of tests/include: which bridge the frame leaves by, and whether its ingress is a port of it. */
const ofPods = 1 | 2;
const hasIngress = 4;
const isDestination = 8;
const bridges = {
  'the bridge of pods switches it': ofPods | hasIngress,
  "it is for the bridge's own address": ofPods | hasIngress | isDestination,
  'another bridge switches it': 1 | hasIngress,
  "it is for that one's own address": 1 | hasIngress | isDestination,
  'it comes by no port': ofPods,
  "it comes by no port, for the bridge's own address": ofPods | isDestination,
  'the device is no port': 0,
} as const;

/** Whether it is switched, if its ingress is a stranger's. */
function isSwitched(kind: string, bridge: number): boolean {
  if ((bridge & hasIngress) === 0) return false;
  return kind !== 'host' || (bridge & isDestination) !== 0;
}

for (const [name, frame] of Object.entries(frames)) {
  for (const [who, ingress] of Object.entries(ports)) {
    test(`${name} of ${who}, out of a trusted port`, () => {
      for (const [kind, number] of Object.entries(kinds)) {
        for (const [what, bridge] of Object.entries(bridges)) {
          fixture.facts({ frame_kind: number, bridge });
          const isDropped =
            who === 'unknown' && (bridge & ofPods) === ofPods && isSwitched(kind, bridge);
          const { verdict, counted } = fixture.frame('guard_exit', frame, { ingress });
          assert.equal(verdict, isDropped ? 'drop' : 'next', `${kind}, ${what}`);
          const { DROP_UNKNOWN_POD: dropped = 0 } = counted;
          assert.equal(dropped, isDropped ? 1 : 0, `${kind}, ${what}`);
        }
      }
    });
  }
}

test("to a pod's address nothing is switched from an unknown port, whatever netfilter saw of it", () => {
  for (const frame of [frames['IPv4'], frames['IPv6']] as PacketSpec[]) {
    for (const [who, ingress] of Object.entries(ports)) {
      for (const [kind, number] of Object.entries(kinds)) {
        for (const [what, bridge] of Object.entries(bridges)) {
          fixture.facts({ frame_kind: number, bridge });
          const isDropped = who === 'unknown' && kind !== 'host' && isSwitched(kind, bridge);
          const { verdict, counted } = fixture.frame('to_pod', frame, { ingress });
          assert.equal(verdict, isDropped ? 'drop' : 'next', `${who}, ${kind}, ${what}`);
          const { DROP_UNKNOWN_POD: dropped = 0 } = counted;
          assert.equal(dropped, isDropped ? 1 : 0, `${who}, ${kind}, ${what}`);
        }
      }
    }
  }
});

test('a drop is reported once, as of the port by which the frame came in', () => {
  for (const [name, source, family] of [
    ['ARP', '10.1.2.1', 4],
    ['IPv4', '192.0.2.1', 4],
    ['IPv6', '2001:db8::1', 6],
    ['a VLAN tag', null, 0],
    ['another ethertype', null, 0],
  ] as const) {
    fixture.reset();
    fixture.facts({ frame_kind: kinds.otherHost, bridge: ofPods | hasIngress });
    const frame = frames[name];
    assert.ok(frame !== undefined);
    fixture.frame('guard_exit', frame, { ingress: ports.unknown });
    const [event, ...more] = fixture.takeEvents();
    assert.ok(event !== undefined && more.length === 0, name);
    assert.equal(fixture.reason(event.read('reason')), 'DROP_UNKNOWN_POD', name);
    assert.equal(event.read('hook'), 5, name);
    assert.equal(event.read('ifindex'), ports.unknown, name);
    assert.equal(event.read('family'), family, name);
    const expected = source === null ? new Uint8Array(16) : mappedAddressBytes(source);
    assert.deepEqual(Uint8Array.from(event.slice('source')), expected, name);
  }
});

test('who floods spends its own events, and its drops are counted on', () => {
  const { IPv4: frame } = frames;
  assert.ok(frame !== undefined);
  fixture.facts({ frame_kind: kinds.otherHost, bridge: ofPods | hasIngress });
  const drop = (ingress: number): number => {
    const { counted } = fixture.frame('guard_exit', frame, { ingress });
    assert.equal(counted['DROP_UNKNOWN_POD'], 1);
    return counted['EVENTS_LIMITED'] ?? 0;
  };
  let limited = 0;
  for (let i = 0; i < 1000 && limited === 0; i++) limited = drop(ports.unknown);
  assert.equal(limited, 1);
  assert.equal(drop(ports.unknown + 1), 0, 'of another port');
});
