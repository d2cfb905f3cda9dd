// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * judge: addresses in use. An open connection keeps an expired address usable for new connections of its
 * selector, for a bounded time, and nothing else does. docs/adr/0010-addresses-in-use.md, safety rule 15.
 */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { mappedAddressBytes } from '@tandem/testing/address';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  addRule,
  confirmed,
  conntrack,
  expectVerdict,
  type Facts,
  otherSelector,
  remote4,
  remote6,
  seenFromA,
  selector,
  setUpJudge,
  tcp,
  tcpState,
  udp,
  uplink,
  vethA,
} from './judge-world.ts';
import { liveIdleSeconds, liveSeconds } from './kernel-world.ts';
import { learn, learnInto } from './learning.ts';

const fixture = new Fixture();
const without = new Fixture({}, true, { fqdn_live_s: 0 });
const small = new Fixture({ fqdn_live: 2 });
after(() => {
  for (const each of [fixture, without, small]) each[Symbol.dispose]();
});

const c4 = '10.1.0.13';
const vethC = 17;
const seenFromC = { ifindex: vethC };
const established = { tracked: 1, info: conntrack.established } as const;
const openTcp = { ...seenFromA, ...established, tcp_state: tcpState.established } as const;
const openUdp = { ...seenFromA, ...established } as const;
const newConnection = { ...seenFromA, tracked: 1, info: conntrack.new } as const;
const expiredDrop = 'DROP_FQDN_EXPIRED';
const now = (): number => Number(process.hrtime.bigint() / 1_000_000_000n);

/** Pod a and pod c of other policies under name policy; TCP and UDP to 443 by `selector`. */
function setUp(at: Fixture): void {
  setUpJudge(at);
  for (const address of [a4, a6]) {
    at.endpoint(address, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'FQDN'] });
  }
  at.endpoint(c4, { id: 3, policyId: 3, ifindex: vethC, flags: ['ENFORCE_EGRESS', 'FQDN'] });
  for (const protocol of [6, 17]) addRule(at, selector, { protocol, port: 443 });
}

/** An address that expired so many seconds ago. */
function expired(at: Fixture, address: string, ago = 2, id = selector): void {
  learnInto(at, [{ op: 'ADD', address, selector: id, expires: now() - ago }]);
}

/** A new connection: passes only because another one uses the address. */
function expectLive(at: Fixture, packet: PacketSpec, facts: Facts = newConnection): void {
  const before = liveCounter(at, 'PASSED');
  expectVerdict(at, packet, facts, 'FORWARDED');
  assert.equal(liveCounter(at, 'PASSED') - before, 1);
}

function liveCounter(at: Fixture, name: 'PASSED' | 'FULL'): number {
  return at.sumOfCpus('fqdn_live_counters', at.structs.number(`TD_LIVE_${name}`));
}

/** Without `learn`, which would forget the uses too: so that a slot with another expiry can take its place. */
function forgetSlots(at: Fixture): void {
  const map = at.map('fqdn');
  for (const [key] of [...map.entries()]) map.delete(key);
}

interface Noted {
  readonly key: Uint8Array;
  readonly until: number;
}

function noted(at: Fixture): Noted[] {
  return [...at.map('fqdn_live').entries()].map(([key, value]) => ({
    key,
    until: at.structs.read('td_fqdn_live', value, 'until_s'),
  }));
}

/** As if the last use of every pair was so many seconds longer ago. */
function ageBy(at: Fixture, seconds: number): void {
  for (const [key, value] of [...at.map('fqdn_live').entries()]) {
    const until = at.structs.read('td_fqdn_live', value, 'until_s');
    at.structs.write('td_fqdn_live', value, 'until_s', until - seconds);
    at.map('fqdn_live').update(key, value);
  }
}

beforeEach(() => {
  for (const each of [fixture, without, small]) setUp(each);
});

for (const [name, packet] of [
  ['TCP over IPv4', tcp(a4, remote4)],
  ['TCP over IPv6', tcp(a6, remote6)],
  ['UDP over IPv4', udp(a4, remote4)],
  ['UDP over IPv6', udp(a6, remote6)],
] as const) {
  const address = packet.ip?.destination ?? '';
  const open = packet.udp === undefined ? openTcp : openUdp;

  describe(name, () => {
    test('a packet of an open connection keeps its expired address for new ones', () => {
      expired(fixture, address);
      expectVerdict(fixture, packet, newConnection, expiredDrop);
      expectVerdict(fixture, packet, open, 'FORWARDED');
      expectLive(fixture, packet);
      expectLive(fixture, packet, seenFromA);
    });

    test('when it was idle too long, new ones are dropped, the open one goes on', () => {
      expired(fixture, address);
      expectVerdict(fixture, packet, open, 'FORWARDED');
      ageBy(fixture, liveIdleSeconds - 20);
      expectLive(fixture, packet);
      ageBy(fixture, 20);
      expectVerdict(fixture, packet, newConnection, expiredDrop);
      expectVerdict(fixture, packet, open, 'FORWARDED');
    });

    test('past the bound new ones are dropped however busy it is, the open one goes on', () => {
      expired(fixture, address, liveSeconds - 20);
      expectVerdict(fixture, packet, open, 'FORWARDED');
      expectLive(fixture, packet);
      forgetSlots(fixture);
      expired(fixture, address, liveSeconds);
      assert.equal(noted(fixture).length, 1, 'of a moment ago');
      expectVerdict(fixture, packet, newConnection, expiredDrop);
      setUp(fixture);
      expired(fixture, address, liveSeconds);
      expectVerdict(fixture, packet, open, 'FORWARDED');
      assert.deepEqual(noted(fixture), []);
      expectVerdict(fixture, packet, newConnection, expiredDrop);
    });

    test('a time of use that lies past the bound, or further ahead than any use, opens nothing', () => {
      expired(fixture, address);
      expectVerdict(fixture, packet, open, 'FORWARDED');
      ageBy(fixture, -20);
      expectVerdict(fixture, packet, newConnection, expiredDrop);
    });

    test('with the option at 0 nothing is kept and nothing is noted', () => {
      expired(without, address);
      expectVerdict(without, packet, open, 'FORWARDED');
      assert.deepEqual(noted(without), []);
      expectVerdict(without, packet, newConnection, expiredDrop);
    });
  });
}

describe('what is no use of an address', () => {
  const cases: readonly (readonly [string, PacketSpec, Facts])[] = [
    ['a first packet', tcp(a4, remote4), newConnection],
    [
      'a TCP connection that was not answered',
      tcp(a4, remote4),
      { ...newConnection, status: confirmed, tcp_state: tcpState.synSent },
    ],
    [
      'a one-way UDP stream that began before expiry',
      udp(a4, remote4),
      { ...newConnection, status: confirmed },
    ],
    ['an untracked packet', udp(a4, remote4), { ...seenFromA, info: conntrack.untracked }],
    [
      'a reply over TCP',
      tcp(remote4, a4, 4000, 443),
      { ifindex: uplink, tracked: 1, info: conntrack.reply, tcp_state: tcpState.established },
    ],
    [
      'a reply over UDP',
      udp(remote4, a4, 4000, 443),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
    ],
    ...(['synReceived', 'finWait', 'closeWait', 'lastAck', 'timeWait', 'close'] as const).map(
      (state) =>
        [
          `a TCP connection in ${state}`,
          tcp(a4, remote4),
          { ...openTcp, tcp_state: tcpState[state] },
        ] as const,
    ),
    [
      'what the node itself sends with the address of a pod',
      tcp(a4, remote4),
      { ...openTcp, ifindex: 0, mark: 0 },
    ],
    ['a packet that policy denies by its port', tcp(a4, remote4, 80), openTcp],
  ];
  for (const [name, packet, facts] of cases) {
    test(name, () => {
      expired(fixture, remote4);
      for (let i = 0; i < 2; i++) {
        fixture.facts(facts);
        fixture.hook('judge', 'post-routing', packet);
      }
      assert.deepEqual(noted(fixture), []);
      fixture.takeEvents();
      expectVerdict(fixture, tcp(a4, remote4), newConnection, expiredDrop);
    });
  }

  test('another protocol: an answered ping', () => {
    addRule(fixture, selector);
    expired(fixture, remote4);
    const ping: PacketSpec = {
      ip: { source: a4, destination: remote4 },
      icmp: { type: 8, code: 0 },
    };
    expectVerdict(fixture, ping, { ...seenFromA, ...established }, 'FORWARDED');
    assert.deepEqual(noted(fixture), []);
  });

  test('under audit, where what policy denies may be open', () => {
    const flags = ['ENFORCE_EGRESS', 'FQDN', 'AUDIT'];
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags });
    expired(fixture, remote4);
    expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
    assert.deepEqual(noted(fixture), []);
  });

  test('a name that lasts longer than use would count', () => {
    learnInto(fixture, [
      { op: 'ADD', address: remote4, selector, expires: now() + liveIdleSeconds + 5 },
    ]);
    expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
    assert.deepEqual(noted(fixture), []);
  });
});

describe('whom it helps', () => {
  test('use before expiry counts after it', () => {
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 5 }]);
    expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
    assert.equal(noted(fixture).length, 1);
    forgetSlots(fixture);
    expired(fixture, remote4);
    expectLive(fixture, tcp(a4, remote4));
  });

  test('every policy that names the selector, and no other', () => {
    expired(fixture, remote4);
    expired(fixture, remote4, 2, otherSelector);
    addRule(fixture, otherSelector, { policyId: 3, protocol: 6, port: 443 });
    expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
    expectLive(fixture, tcp(a4, remote4));
    expectVerdict(fixture, tcp(c4, remote4), { ...newConnection, ...seenFromC }, expiredDrop);
    addRule(fixture, selector, { policyId: 3, protocol: 6, port: 443 });
    expectLive(fixture, tcp(c4, remote4), { ...newConnection, ...seenFromC });
  });

  test('not another address of the same selector', () => {
    expired(fixture, remote4);
    expired(fixture, '203.0.113.11');
    expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
    expectVerdict(fixture, tcp(a4, '203.0.113.11'), newConnection, expiredDrop);
  });

  test('each selector of a busy address is noted, in whatever order packets come', () => {
    expired(fixture, remote4);
    expired(fixture, remote4, 2, otherSelector);
    addRule(fixture, otherSelector, { policyId: 3, protocol: 6, port: 443 });
    for (let i = 0; i < 100; i++) expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
    const fromC = { ...openTcp, ...seenFromC };
    expectVerdict(
      fixture,
      tcp(c4, remote4),
      { ...fromC, tcp_state: tcpState.finWait },
      'FORWARDED',
    );
    expectVerdict(fixture, tcp(c4, remote4), fromC, 'FORWARDED');
    assert.equal(noted(fixture).length, 2);
    expectLive(fixture, tcp(c4, remote4), { ...newConnection, ...seenFromC });
  });

  test('on any page and in any slot', () => {
    const ids = Array.from({ length: 64 }, (_, i) => (0x80000100 + i) >>> 0);
    for (const id of ids) expired(fixture, remote4, 2, id);
    for (const id of [ids[0], ids[15], ids[16], ids[63]]) {
      assert.ok(id !== undefined);
      addRule(fixture, id, { policyId: 3, protocol: 6, port: 443 });
      expectVerdict(fixture, tcp(c4, remote4), { ...openTcp, ...seenFromC }, 'FORWARDED');
      expectLive(fixture, tcp(c4, remote4), { ...newConnection, ...seenFromC });
    }
  });

  test('an address that the cluster knows stays closed (rule 5), a deny beats it', () => {
    expired(fixture, remote4);
    expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
    fixture.class(remote4, 32, 70, ['NODE']);
    expectVerdict(fixture, tcp(a4, remote4), newConnection, 'DROP_NO_MATCH');
    fixture.class(remote4, 32, 40);
    addRule(fixture, 40, { protocol: 6, port: 443, verdict: 'DENY' });
    expectVerdict(fixture, tcp(a4, remote4), newConnection, 'DROP_POLICY_DENY');
  });
});

describe('what ends it', () => {
  for (const request of [
    { op: 'REMOVE' as const, address: remote4, selector },
    { op: 'EXPIRE' as const, address: remote4, expires: now() + 100 },
  ]) {
    test(`${request.op} of the slot: nothing is left that a later one could inherit`, () => {
      expired(fixture, remote4);
      expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
      assert.equal(noted(fixture).length, 1);
      assert.deepEqual(learn(fixture, [request]), ['OK']);
      assert.deepEqual(noted(fixture), []);
      expectVerdict(fixture, tcp(a4, remote4), newConnection, 'DROP_NO_MATCH');
      expired(fixture, remote4);
      expectVerdict(fixture, tcp(a4, remote4), newConnection, expiredDrop);
    });
  }

  describe('another slot at a full address takes its place', () => {
    /** 64 selectors, of which the namespace touched `selector` longest ago, and one more. */
    const crowd = (): void => {
      for (let i = 0; i < 64; i++) {
        const request = { op: 'ADD', address: remote4, selector: selector + 100 + i } as const;
        assert.deepEqual(learn(fixture, [{ ...request, expires: now() + 100 }]), ['OK']);
      }
    };

    test('nothing is left of the use', () => {
      expired(fixture, remote4);
      expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
      assert.equal(noted(fixture).length, 1);
      crowd();
      assert.deepEqual(noted(fixture), []);
      expectVerdict(fixture, tcp(a4, remote4), newConnection, 'DROP_NO_MATCH');
    });

    test('the use stays where another namespace has the selector', () => {
      expired(fixture, remote4);
      const expires = now() - 2;
      learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires, namespaceId: 2 }]);
      expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
      crowd();
      assert.equal(noted(fixture).length, 1);
      expectLive(fixture, tcp(a4, remote4));
    });
  });

  test('an entry that was made for another pair opens nothing', () => {
    expired(fixture, remote4);
    expectVerdict(fixture, tcp(a4, remote4), openTcp, 'FORWARDED');
    const [[, value] = []] = [...fixture.map('fqdn_live').entries()];
    assert.ok(value !== undefined);
    const { structs } = fixture;
    const key = structs.bytes('td_fqdn_live_key', {
      addr: mappedAddressBytes('203.0.113.11'),
      selector,
    });
    fixture.map('fqdn_live').update(key, value);
    expired(fixture, '203.0.113.11');
    expectVerdict(fixture, tcp(a4, '203.0.113.11'), newConnection, expiredDrop);
  });

  test('without room nothing is noted, which is counted once a second, and packets pass', () => {
    const addresses = ['203.0.113.11', '203.0.113.12', '203.0.113.13'];
    for (const address of addresses) expired(small, address);
    const before = liveCounter(small, 'FULL');
    for (const address of addresses) {
      for (let i = 0; i < 20; i++) expectVerdict(small, tcp(a4, address), openTcp, 'FORWARDED');
    }
    const full = liveCounter(small, 'FULL') - before;
    assert.ok(full >= 1 && full <= 3, `${full}`);
    expectVerdict(small, tcp(a4, '203.0.113.13'), newConnection, expiredDrop);
    expectLive(small, tcp(a4, '203.0.113.11'));
  });
});
