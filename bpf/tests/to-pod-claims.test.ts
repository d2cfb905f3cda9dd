// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * to_pod: who may claim which address to the pod, by the interface by which the frame came in: the host (0), the
 * port of another pod, a trusted port, or one that is not known. And what a bridge floods makes no event (F12).
 */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { addressBytes, macBytes } from '@tandem/testing/address';
import { buildPacket } from '@tandem/testing/packet';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());

const own4 = '10.1.2.11';
const own6 = 'fd00:1:2::11';
const other4 = '10.1.2.12';
const other6 = 'fd00:1:2::12';
const third4 = '10.1.2.13';
const third6 = 'fd00:1:2::13';
const gateway4 = '10.1.2.1';
const gateway6 = 'fe80::1';
const global6 = 'fd00:1:2::1';
const uplink4 = '192.168.50.2';
/** Other nodes, or routers of the node's routes: they may be behind a trusted port. */
const router4 = '192.168.50.3';
const router6 = 'fd00:50::3';
/** As addr_gen_mode random or stable-privacy makes it: of no Ethernet address. */
const random6 = 'fe80::5a3c:91d2:ab01:77e4';
const ownMac = '02:00:00:00:00:0b';

const ingress = { host: 0, 'another pod': 7, 'a trusted port': 2, 'an unknown port': 99 } as const;
type Ingress = keyof typeof ingress;

function setUp(mac?: Uint8Array): void {
  fixture.reset();
  for (const address of [own4, own6]) {
    fixture.endpoint(address, { id: 1, flags: ['BRIDGED'], ...(mac === undefined ? {} : { mac }) });
  }
  for (const address of [other4, other6]) fixture.endpoint(address, { id: 2, ifindex: 7 });
  for (const address of [third4, third6]) fixture.endpoint(address, { id: 3, ifindex: 8 });
  fixture.device(2, 'TRUSTED');
  for (const own of [gateway4, global6, uplink4]) {
    fixture.class(own, own.includes(':') ? 128 : 32, 30, ['NODE', 'CLUSTER', 'HOST']);
  }
  for (const router of [router4, router6]) {
    fixture.class(router, router.includes(':') ? 128 : 32, 31, ['NODE', 'CLUSTER']);
  }
  // As the agent writes link-local addresses that the node has at a bridge.
  for (const address of [gateway6, random6]) fixture.class(address, 128, 5, ['NODE', 'LINK_LOCAL']);
}

function arp(senderAddress: string, operation: 'request' | 'reply' = 'request'): PacketSpec {
  return { arp: { operation, senderAddress, targetAddress: own4 } };
}

function discovery(
  type: number,
  source: string,
  options: { readonly target?: string; readonly to?: string; readonly ttl?: number } = {},
): PacketSpec {
  const { target, to = 'ff02::1', ttl = 255 } = options;
  return {
    ip: { source, destination: to, ttl },
    icmp: { type },
    payload: target === undefined ? new Uint8Array(24) : addressBytes(target),
  };
}

const unknown = 'DROP_UNKNOWN_POD';
const spoofed = 'DROP_SPOOFED';
const nd = 'DROP_ND';
/** Counter of the drop by ingress: host, another pod (7), a trusted port, an unknown port. `null`: passes. */
type Answers = readonly [
  host: string | null,
  pod: string | null,
  trusted: string | null,
  unknown: string | null,
];

const rows: readonly (readonly [name: string, frame: PacketSpec, answers: Answers])[] = [
  ['ARP of the gateway', arp(gateway4), [null, spoofed, spoofed, unknown]],
  ['ARP reply of the gateway', arp(gateway4, 'reply'), [null, spoofed, spoofed, unknown]],
  [
    "ARP of the node's address at another interface",
    arp(uplink4),
    [null, spoofed, spoofed, unknown],
  ],
  [
    'ARP reply of a router behind the trusted port',
    arp(router4, 'reply'),
    [null, spoofed, null, unknown],
  ],
  ['ARP of the other pod', arp(other4), [null, null, spoofed, unknown]],
  ['ARP of a third pod', arp(third4), [null, spoofed, spoofed, unknown]],
  ["ARP of the pod's own address", arp(own4), [null, spoofed, spoofed, unknown]],
  ['ARP of an address of nobody', arp('10.1.2.99'), [null, null, null, unknown]],
  ['ARP probe', arp('0.0.0.0'), [null, null, null, unknown]],
  ['router advertisement', discovery(134, gateway6), [null, nd, nd, nd]],
  [
    'router advertisement to the pod alone',
    discovery(134, gateway6, { to: own6 }),
    [null, nd, nd, nd],
  ],
  ['redirect', discovery(137, gateway6, { to: own6 }), [null, nd, nd, nd]],
  [
    'advertisement of the gateway',
    discovery(136, global6, { target: global6 }),
    [null, spoofed, spoofed, unknown],
  ],
  [
    'advertisement of the gateway from a link-local address',
    discovery(136, 'fe80::99', { target: global6, to: own6 }),
    [null, spoofed, spoofed, unknown],
  ],
  [
    'solicitation of the gateway',
    discovery(135, global6, { target: own6 }),
    [null, spoofed, spoofed, unknown],
  ],
  [
    'advertisement of a router behind the trusted port',
    discovery(136, router6, { target: router6, to: own6 }),
    [null, spoofed, null, unknown],
  ],
  // A link-local address of the node and one of a router there are of the same class.
  [
    "advertisement of the gateway's link-local address",
    discovery(136, gateway6, { target: gateway6 }),
    [null, spoofed, null, unknown],
  ],
  [
    "advertisement of the gateway's link-local address from an address of the speaker",
    discovery(136, other6, { target: gateway6, to: own6 }),
    [null, spoofed, null, unknown],
  ],
  [
    "advertisement of the bridge's random address",
    discovery(136, other6, { target: random6 }),
    [null, spoofed, null, unknown],
  ],
  [
    "solicitation from the bridge's random address",
    discovery(135, random6, { target: own6 }),
    [null, spoofed, null, unknown],
  ],
  [
    'advertisement of the other pod',
    discovery(136, other6, { target: other6, to: own6 }),
    [null, null, spoofed, unknown],
  ],
  [
    'advertisement of a third pod from the other',
    discovery(136, other6, { target: third6, to: own6 }),
    [null, spoofed, spoofed, unknown],
  ],
  [
    'advertisement of a link-local address of nobody',
    discovery(136, 'fe80::12', { target: 'fe80::12', to: 'fe80::11' }),
    [null, null, null, unknown],
  ],
  [
    "solicitation from the gateway's link-local address",
    discovery(135, gateway6, { target: own6 }),
    [null, spoofed, null, unknown],
  ],
  [
    'solicitation of the other pod',
    discovery(135, other6, { target: own6 }),
    [null, null, spoofed, unknown],
  ],
  [
    'solicitation of a third pod',
    discovery(135, third6, { target: own6 }),
    [null, spoofed, spoofed, unknown],
  ],
  [
    'duplicate address detection',
    discovery(135, '::', { target: 'fe80::11' }),
    [null, null, null, unknown],
  ],
  [
    'listener query of the gateway',
    discovery(130, gateway6, { ttl: 1 }),
    [null, spoofed, null, unknown],
  ],
];

describe('claims, by the interface by which they came in', () => {
  beforeEach(() => setUp());
  for (const [name, frame, answers] of rows) {
    for (const [i, who] of (Object.keys(ingress) as Ingress[]).entries()) {
      const drop = answers[i] ?? null;
      test(`${name}, from ${who}: ${drop ?? 'passes'}`, () => {
        const got = fixture.frame('to_pod', frame, { ingress: ingress[who] });
        assert.equal(got.verdict, drop === null ? 'next' : 'drop');
        const passed = frame.ip?.destination === own6 ? {} : { NEIGHBOUR: 1 };
        assert.deepEqual(got.counted, drop === null ? passed : { [drop]: 1 });
        assert.equal(fixture.takeEvents().length, drop === null ? 0 : 1, 'events');
      });
    }
  }

  test('ARP of other protocols, and cut short', () => {
    const whole = buildPacket(arp(other4));
    for (const frame of [whole.subarray(0, 41), whole.with(18, 8), whole.with(15, 6)]) {
      const got = fixture.frame('to_pod', new Uint8Array(frame), { ingress: 7 });
      assert.deepEqual(got.counted, { DROP_PARSE: 1 });
    }
  });

  test('an advertisement without its target', () => {
    const spec: PacketSpec = {
      ip: { source: other6, destination: own6, ttl: 255 },
      icmp: { type: 136 },
      payload: new Uint8Array(15),
    };
    assert.deepEqual(fixture.frame('to_pod', spec, { ingress: 7 }).counted, { DROP_PARSE: 1 });
  });
});

describe('what a bridge floods (F12)', () => {
  const udp = (destination: string, mac: string): PacketSpec => ({
    ethernet: { destination: mac },
    ip: { source: destination.includes(':') ? other6 : other4, destination },
    udp: { sourcePort: 1, destinationPort: 2 },
    payload: 'x',
  });
  const flooded: readonly (readonly [name: string, frame: PacketSpec])[] = [
    ['a broadcast', udp('10.1.2.255', 'ff:ff:ff:ff:ff:ff')],
    ['an IPv4 group', udp('224.0.0.251', '01:00:5e:00:00:fb')],
    ['an IPv6 group', udp('ff02::fb', '33:33:00:00:00:fb')],
    ["another pod's address in a broadcast", udp(third4, 'ff:ff:ff:ff:ff:ff')],
  ];
  const unicast = udp(third4, '02:00:00:00:00:0d');
  const counted = (frame: PacketSpec): Readonly<Record<string, number>> => {
    const got = fixture.frame('to_pod', frame, { ingress: 7 });
    assert.equal(got.verdict, 'drop');
    return got.counted;
  };

  for (const mac of [undefined, macBytes(ownMac)]) {
    describe(mac === undefined ? 'MAC not known' : 'MAC known', () => {
      beforeEach(() => setUp(mac));
      for (const [name, frame] of flooded) {
        test(`${name} is counted, not told`, () => {
          assert.deepEqual(counted(frame), { FLOODED: 1 });
          assert.equal(fixture.takeEvents().length, 0);
        });
      }

      test(`a unicast frame for another MAC is ${mac === undefined ? 'told' : 'flooded'}`, () => {
        assert.deepEqual(counted(unicast), {
          [mac === undefined ? 'DROP_NOT_FOR_POD' : 'FLOODED']: 1,
        });
        assert.equal(fixture.takeEvents().length, mac === undefined ? 1 : 0);
      });

      test("what is for the pod's MAC and not for its address is told", () => {
        assert.deepEqual(counted(udp(third4, ownMac)), { DROP_NOT_FOR_POD: 1 });
        assert.equal(fixture.takeEvents().length, 1);
      });

      test("a broadcast frame with the pod's own address passes", () => {
        const got = fixture.frame('to_pod', udp(own4, 'ff:ff:ff:ff:ff:ff'), { ingress: 7 });
        assert.equal(got.verdict, 'next');
      });
    });
  }

  test('3,000 broadcasts of a pod take none of the events of others', () => {
    setUp();
    const data = buildPacket(udp('10.1.2.255', 'ff:ff:ff:ff:ff:ff'));
    const { counted: sums } = fixture.counting(() =>
      fixture.object.program('to_pod').testRun({ data, repeat: 3000 }),
    );
    assert.deepEqual(sums, { FLOODED: 3000 });
    counted(unicast);
    assert.equal(fixture.takeEvents().length, 1);
  });
});
