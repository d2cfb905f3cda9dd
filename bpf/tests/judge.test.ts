// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: identity, steering and policy of a packet at its hook. Safety rules 1, 3, 5, 6, 14 and 15. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { mappedAddressBytes } from '@tandem/testing/address';
import { buildFragments } from '@tandem/testing/packet';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture, mark, portP } from './fixture.ts';
import { learnInto } from './learning.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());

const a4 = '10.1.0.11';
const b4 = '10.1.0.12';
const a6 = 'fd00:1::11';
const b6 = 'fd00:1::12';
const dns4 = '10.96.0.10';
const remote4 = '203.0.113.10';
const remote6 = '2001:db8::10';
const vethA = 11;
const bridge = 12;
const uplink = 2;
const selector = 0x80000001;
const otherSelector = 0x80000002;
const seenFromA = { mark: mark.seen, ifindex: vethA };
const conntrack = { established: 0, related: 1, new: 2, reply: 3, untracked: 7 } as const;
const confirmed = 8;

beforeEach(() => {
  fixture.reset();
  for (const address of [a4, a6]) {
    fixture.endpoint(address, {
      id: 1,
      policyId: 1,
      ifindex: vethA,
      l3Ifindex: bridge,
      classId: 51,
      flags: ['ENFORCE_EGRESS'],
    });
  }
  for (const address of [b4, b6]) {
    fixture.endpoint(address, {
      id: 2,
      policyId: 2,
      ifindex: 13,
      l3Ifindex: 13,
      classId: 52,
      flags: ['ENFORCE_INGRESS'],
    });
  }
  fixture.class('10.1.0.0', 16, 20, ['CLUSTER', 'LOCAL_PODS']);
  fixture.class('fd00:1::', 64, 20, ['CLUSTER', 'LOCAL_PODS']);
  fixture.class('192.168.60.0', 24, 30, ['NODE', 'CLUSTER']);
  fixture.class('10.1.0.1', 32, 30, ['NODE', 'CLUSTER']);
  fixture.class('203.0.113.0', 24, 40);
});

type Hook = 'local-in' | 'post-routing';
type Facts = Readonly<Record<string, number | Uint8Array>>;

function udp(
  source: string,
  destination: string,
  destinationPort = 443,
  sourcePort = 4000,
): PacketSpec {
  return { ip: { source, destination }, udp: { sourcePort, destinationPort }, payload: 'data' };
}

function tcp(
  source: string,
  destination: string,
  destinationPort = 443,
  sourcePort = 4000,
): PacketSpec {
  return { ip: { source, destination }, tcp: { sourcePort, destinationPort, flags: ['syn'] } };
}

/** Judges one packet and checks the one counter that moves; a drop must also be told in one event. */
function expect(
  packet: PacketSpec | Uint8Array,
  facts: Facts,
  counter: string | null,
  hook: Hook = 'post-routing',
): void {
  fixture.facts(facts);
  const got = fixture.hook('judge', hook, packet);
  const isDrop = counter?.startsWith('DROP_') ?? false;
  assert.deepEqual(got.counted, counter === null ? {} : { [counter]: 1 });
  assert.equal(got.verdict, isDrop ? 'drop' : 'accept');
  const events = fixture.takeEvents();
  assert.equal(events.length, isDrop ? 1 : 0, 'events');
  if (isDrop)
    assert.equal(events[0]?.read('reason'), fixture.structs.number(`TD_COUNT_${counter}`));
}

function allow(
  peer: number,
  spec: {
    port?: number;
    protocol?: number;
    policyId?: number;
    verdict?: 'ALLOW' | 'DENY' | 'L7_DNS';
    direction?: 'ingress' | 'egress';
    ruleId?: number;
    portBits?: number;
  } = {},
): void {
  fixture.policy({ peer, direction: 'egress', verdict: 'ALLOW', ...spec });
}

describe('policy', () => {
  test('default deny, and the rule that allows', () => {
    expect(tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    allow(40, { protocol: 6, port: 443 });
    expect(tcp(a4, remote4), seenFromA, 'FORWARDED');
    expect(tcp(a4, remote4, 80), seenFromA, 'DROP_NO_MATCH');
    expect(udp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    expect(tcp(a4, '198.51.100.1'), seenFromA, 'DROP_NO_MATCH');
  });

  test('an endpoint that enforces nothing', () => {
    expect(tcp(b4, remote4), { mark: mark.seen, ifindex: 13 }, 'FORWARDED');
  });

  test('both ends are judged: egress of one, ingress of the other', () => {
    allow(52);
    expect(tcp(a4, b4), seenFromA, 'DROP_NO_MATCH');
    fixture.policy({ policyId: 2, peer: 51, direction: 'ingress', verdict: 'ALLOW' });
    expect(tcp(a4, b4), seenFromA, 'FORWARDED');
    expect(tcp(remote4, b4), { ifindex: uplink }, 'DROP_NO_MATCH');
    fixture.policy({
      policyId: 2,
      peer: 40,
      direction: 'ingress',
      verdict: 'ALLOW',
      protocol: 6,
      port: 443,
    });
    expect(tcp(remote4, b4), { ifindex: uplink }, 'FORWARDED');
  });

  test('IPv6 as IPv4', () => {
    fixture.class('2001:db8::', 32, 41);
    expect(udp(a6, remote6), seenFromA, 'DROP_NO_MATCH');
    allow(41, { protocol: 17, port: 443 });
    expect(udp(a6, remote6), seenFromA, 'FORWARDED');
  });

  test('the longest class, port prefixes, any protocol, ICMP types', () => {
    fixture.class(remote4, 32, 42);
    allow(40);
    expect(tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    allow(42, { protocol: 6, port: 8080, portBits: 14 });
    expect(tcp(a4, remote4, 8083), seenFromA, 'FORWARDED');
    expect(tcp(a4, remote4, 8084), seenFromA, 'DROP_NO_MATCH');
    const echo: PacketSpec = { ip: { source: a4, destination: remote4 }, icmp: { type: 8 } };
    expect(echo, seenFromA, 'DROP_NO_MATCH');
    allow(42, { protocol: 1, port: 8 << 8 });
    expect(echo, seenFromA, 'FORWARDED');
    expect({ ...echo, icmp: { type: 13 } }, seenFromA, 'DROP_NO_MATCH');
  });

  test('a wildcard peer is asked only with its flag, and any deny wins', () => {
    allow(0, { protocol: 6, port: 443 });
    expect(tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'WILD_EGRESS'] });
    expect(tcp(a4, remote4), seenFromA, 'FORWARDED');
    allow(40, { protocol: 6, port: 443, verdict: 'DENY', ruleId: 77 });
    expect(tcp(a4, remote4), seenFromA, 'DROP_POLICY_DENY');
    allow(40, { protocol: 6, port: 443 });
    allow(0, { protocol: 6, port: 443, verdict: 'DENY' });
    expect(tcp(a4, remote4), seenFromA, 'DROP_POLICY_DENY');
  });

  test('a pod is not cut off from itself', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'ENFORCE_INGRESS'] });
    expect(tcp(a4, a4), seenFromA, 'FORWARDED');
  });

  test('audit: an event, and the packet passes; the other end still judges', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'AUDIT'] });
    fixture.facts(seenFromA);
    const got = fixture.hook('judge', 'post-routing', tcp(a4, remote4));
    assert.deepEqual(got, { verdict: 'accept', counted: { AUDITED: 1, FORWARDED: 1 } });
    const [event] = fixture.takeEvents();
    assert.equal(event?.read('verdict'), fixture.structs.number('TD_VERDICT_ALLOW'));
    assert.equal(event?.read('reason'), fixture.structs.number('TD_COUNT_DROP_NO_MATCH'));
    const other = fixture.hook('judge', 'post-routing', tcp(a4, b4));
    assert.deepEqual(other, { verdict: 'drop', counted: { AUDITED: 1, DROP_NO_MATCH: 1 } });
  });
});

describe('the connection is judged, not the packet', () => {
  const tracked = { tracked: 1, info: conntrack.reply };

  test('a reply asks the question of its request', () => {
    const reply = tcp(remote4, a4, 4000, 443);
    expect(reply, { ...tracked, ifindex: uplink }, 'DROP_NO_MATCH');
    allow(40, { protocol: 6, port: 443 });
    expect(reply, { ...tracked, ifindex: uplink }, 'FORWARDED');
  });

  test('a reply of a pod is judged by its ingress policy', () => {
    const reply = tcp(b4, remote4, 4000, 443);
    const facts = { ...tracked, mark: mark.seen, ifindex: 13 };
    expect(reply, facts, 'DROP_NO_MATCH');
    fixture.policy({
      policyId: 2,
      peer: 40,
      direction: 'ingress',
      verdict: 'ALLOW',
      protocol: 6,
      port: 443,
    });
    expect(reply, facts, 'FORWARDED');
  });

  test('an ICMP reply is its request', () => {
    allow(40, { protocol: 1, port: 8 << 8 });
    const reply: PacketSpec = { ip: { source: remote4, destination: a4 }, icmp: { type: 0 } };
    expect(reply, { ...tracked, ifindex: uplink }, 'FORWARDED');
    expect(reply, { ifindex: uplink }, 'FORWARDED'); // a enforces no ingress
    expect(
      { ip: { source: a4, destination: remote4 }, icmp: { type: 0 } },
      seenFromA,
      'DROP_NO_MATCH',
    );
  });

  test('the event shows what the pod asked for', () => {
    fixture.facts({
      ...seenFromA,
      tracked: 1,
      info: conntrack.new,
      frontend: mappedAddressBytes('10.96.0.20'),
      frontend_port_be: 80,
    });
    fixture.hook('judge', 'post-routing', tcp(a4, remote4, 8080));
    const [event] = fixture.takeEvents();
    assert.ok(event !== undefined);
    assert.deepEqual(event.slice('destination'), mappedAddressBytes(remote4));
    assert.deepEqual(event.slice('original_destination'), mappedAddressBytes('10.96.0.20'));
    assert.equal(event.read('original_destination_port'), 80);
    assert.equal(event.read('destination_port'), 8080);
    assert.equal(event.read('endpoint_id'), 1);
    assert.equal(event.read('peer_class'), 40);
    assert.equal(event.read('direction'), 1);
    assert.equal(event.read('hook'), 3);
    assert.equal(event.read('ifindex'), vethA);
  });
});

describe('a source counts only where it was verified (rule 3)', () => {
  beforeEach(() => allow(40));

  test('mark and interface, both', () => {
    expect(tcp(a4, remote4), { mark: mark.seen, ifindex: vethA }, 'FORWARDED');
    expect(tcp(a4, remote4), { mark: mark.seen, ifindex: bridge }, 'FORWARDED');
    expect(tcp(a4, remote4), { mark: 0, ifindex: vethA }, 'DROP_UNVERIFIED');
    expect(tcp(a4, remote4), { mark: mark.socket, ifindex: vethA }, 'DROP_UNVERIFIED');
    expect(tcp(a4, remote4), { mark: mark.seen, ifindex: uplink }, 'DROP_UNVERIFIED');
    expect(tcp(a4, remote4), { mark: 0, ifindex: uplink }, 'DROP_UNVERIFIED');
    expect(tcp(a4, remote4), { mark: mark.seen, ifindex: 13 }, 'DROP_UNVERIFIED');
  });

  test('replies too, and a pod to itself', () => {
    expect(
      tcp(a4, remote4),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'DROP_UNVERIFIED',
    );
    expect(tcp(a4, a4), { ifindex: uplink }, 'DROP_UNVERIFIED');
    expect(tcp(a4, remote4), { ifindex: uplink }, 'DROP_UNVERIFIED', 'local-in');
  });

  test("bits of other programs' marks do not matter", () => {
    expect(tcp(a4, remote4), { mark: mark.seen | 0x4000, ifindex: vethA }, 'FORWARDED');
  });

  test('tunnels of a node', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: [] });
    for (const port of [4789, 8472, 6081]) {
      expect(udp(a4, '192.168.60.2', port), seenFromA, 'DROP_TUNNEL');
      expect(udp(a4, '192.168.60.1', port), seenFromA, 'DROP_TUNNEL', 'local-in');
      expect(udp(a4, remote4, port), seenFromA, 'FORWARDED');
      expect(tcp(a4, '192.168.60.2', port), seenFromA, 'FORWARDED');
    }
    for (const protocol of [4, 41, 47]) {
      const packet: PacketSpec = {
        ip: { source: a4, destination: '192.168.60.2', protocol },
        payload: 'x'.repeat(40),
      };
      expect(packet, seenFromA, 'DROP_TUNNEL');
      expect(packet, seenFromA, 'DROP_TUNNEL', 'local-in');
    }
  });
});

describe('steering cannot be walked around (rule 1)', () => {
  beforeEach(() => {
    fixture.class(dns4, 32, 60, ['SERVICE']);
    allow(60, { protocol: 17, port: 53, verdict: 'L7_DNS' });
    allow(60, { protocol: 6, port: 53, verdict: 'L7_DNS' });
  });

  test('L7-DNS that was not redirected', () => {
    expect(udp(a4, dns4, 53), seenFromA, 'DROP_NOT_REDIRECTED');
    expect(tcp(a4, dns4, 53), seenFromA, 'DROP_NOT_REDIRECTED');
    expect(udp(a4, dns4, 53), seenFromA, 'DROP_NOT_REDIRECTED', 'local-in');
  });

  test('L7-DNS beats an allow of the wildcard', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'WILD_EGRESS'] });
    allow(0, { protocol: 17, port: 53 });
    expect(udp(a4, dns4, 53), seenFromA, 'DROP_NOT_REDIRECTED');
  });

  test('the redirected query, at LOCAL_IN and on port P only', () => {
    const redirected = { mark: mark.redirect, ifindex: vethA };
    expect(udp(a4, dns4, portP), redirected, null, 'local-in');
    expect(tcp(a4, dns4, portP), redirected, null, 'local-in');
    expect(udp(a4, dns4, portP), redirected, 'DROP_NOT_REDIRECTED');
    expect(udp(a4, dns4, 53), redirected, 'DROP_NOT_REDIRECTED', 'local-in');
    expect(
      { ip: { source: a4, destination: dns4, protocol: 132 }, payload: 'x'.repeat(12) },
      redirected,
      'DROP_NOT_REDIRECTED',
      'local-in',
    );
    expect(
      udp(a4, dns4, portP),
      { mark: mark.redirect, ifindex: uplink },
      'DROP_UNVERIFIED',
      'local-in',
    );
    expect(
      udp(remote4, dns4, portP),
      { mark: mark.redirect, ifindex: uplink },
      'DROP_NOT_REDIRECTED',
      'local-in',
    );
  });

  test('our reply, of the host and from port P only', () => {
    const ours = { mark: mark.socket, ifindex: 0 };
    fixture.endpoint(a4, { id: 1, policyId: 1, ifindex: vethA, flags: ['ENFORCE_INGRESS'] });
    fixture.endpoint(b4, { id: 2, policyId: 2, ifindex: 13, flags: ['ENFORCE_EGRESS'] });
    // the server is a pod of this node, so its address is an endpoint's
    expect(udp(b4, a4, 4000, portP), ours, 'HOST');
    expect(udp(b4, a4, 4000, 53), ours, 'DROP_NO_MATCH');
    expect(udp(b4, a4, 4000, portP), { mark: mark.socket, ifindex: uplink }, 'DROP_UNVERIFIED');
    expect(udp(b4, a4, 4000, portP), { mark: 0, ifindex: 0 }, 'DROP_NO_MATCH');
  });

  test("our query with the pod's own address: judged as the pod's, L7-DNS allows it", () => {
    expect(udp(a4, dns4, 53), { ifindex: 0 }, 'FORWARDED');
    expect(udp(a4, remote4, 53), { ifindex: 0 }, 'DROP_NO_MATCH');
    expect(
      udp(dns4, a4, 4000, 53),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'FORWARDED',
      'local-in',
    );
    expect(
      udp(dns4, a4, 4000, 53),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'DROP_NOT_REDIRECTED',
    );
  });

  test("port P of the node is nobody else's (T10)", () => {
    expect(udp(a4, '192.168.60.1', portP), seenFromA, 'DROP_PORT', 'local-in');
    expect(tcp(remote4, '192.168.60.1', portP), { ifindex: uplink }, 'DROP_PORT', 'local-in');
    expect(udp('192.168.60.1', '192.168.60.1', portP), { ifindex: 1 }, 'DROP_PORT', 'local-in');
    allow(40, { protocol: 17, port: portP });
    expect(udp(a4, remote4, portP), seenFromA, 'FORWARDED');
    expect(
      udp(remote4, '192.168.60.1', portP),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'NO_ENDPOINT',
      'local-in',
    );
  });
});

describe('host and strangers (rule 6)', () => {
  test('the host is what came in nowhere, by no address', () => {
    expect(tcp('192.168.60.1', b4), { ifindex: 0 }, 'HOST');
    expect(tcp('169.254.1.1', b4), { ifindex: 0 }, 'HOST');
    expect(tcp('192.168.60.1', b4), { ifindex: uplink }, 'DROP_NO_MATCH');
    expect(tcp('192.168.60.1', remote4), { ifindex: 0 }, 'HOST');
    expect(tcp(remote4, '192.168.60.1'), { ifindex: uplink }, 'NO_ENDPOINT', 'local-in');
  });

  test("a pod's reply to the host", () => {
    expect(
      tcp(b4, '192.168.60.1', 4000, 443),
      { mark: mark.seen, ifindex: 13, tracked: 1, info: conntrack.reply },
      'HOST',
      'local-in',
    );
  });

  test('a pod to the host is judged', () => {
    expect(tcp(a4, '192.168.60.1', 6443), seenFromA, 'DROP_NO_MATCH', 'local-in');
    allow(30, { protocol: 6, port: 6443 });
    expect(tcp(a4, '192.168.60.1', 6443), seenFromA, 'FORWARDED', 'local-in');
    expect(
      tcp('192.168.60.1', a4, 4000, 6443),
      { ifindex: 0, tracked: 1, info: conntrack.reply },
      'FORWARDED',
    );
  });

  test('unknown pods of this node, as source and as destination', () => {
    expect(tcp('10.1.0.99', remote4), { ifindex: 17 }, 'DROP_UNKNOWN_POD');
    expect(tcp('10.1.0.99', '192.168.60.1'), { ifindex: 17 }, 'DROP_UNKNOWN_POD', 'local-in');
    expect(tcp('10.1.0.99', b4), { mark: mark.seen, ifindex: 17 }, 'DROP_UNKNOWN_POD');
    expect(tcp(remote4, '10.1.0.99'), { ifindex: uplink }, 'DROP_UNKNOWN_POD');
    expect(tcp('fd00:1::99', remote6), { ifindex: 17 }, 'DROP_UNKNOWN_POD');
    expect(tcp('192.168.60.1', '10.1.0.99'), { ifindex: 0 }, 'HOST');
    expect(tcp('10.1.0.1', '10.1.0.1'), { ifindex: 1 }, 'HOST', 'local-in');
    expect(tcp(remote4, '10.1.0.1'), { ifindex: uplink }, 'NO_ENDPOINT', 'local-in');
  });

  test('hold: nothing but the host', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['HOLD'] });
    expect(tcp(a4, remote4), seenFromA, 'DROP_HOLD');
    expect(tcp(remote4, a4), { ifindex: uplink }, 'DROP_HOLD');
    expect(tcp(a4, '192.168.60.1'), seenFromA, 'DROP_HOLD', 'local-in');
    expect(udp(a4, dns4, portP), { mark: mark.redirect, ifindex: vethA }, 'DROP_HOLD', 'local-in');
    expect(tcp('192.168.60.1', a4), { ifindex: 0 }, 'HOST');
    expect(
      tcp(a4, '192.168.60.1', 4000, 443),
      { ...seenFromA, tracked: 1, info: conntrack.reply },
      'HOST',
      'local-in',
    );
  });
});

describe('packets of no connection', () => {
  test('neighbour and listener discovery on the link, nowhere else', () => {
    for (const type of [133, 135, 136]) {
      const packet = (ttl: number): PacketSpec => ({
        ip: { source: a6, destination: b6, ttl },
        icmp: { type },
        payload: new Uint8Array(16),
      });
      expect(packet(255), seenFromA, 'FORWARDED');
      expect(packet(254), seenFromA, 'DROP_NO_MATCH');
    }
    const report: PacketSpec = {
      ip: { source: a6, destination: 'ff02::16', ttl: 1 },
      icmp: { type: 143 },
    };
    expect(report, seenFromA, 'FORWARDED');
  });

  test('fragments that nobody reassembled', () => {
    allow(40);
    const [head, tail] = buildFragments({ ...udp(a4, remote4), payload: 'x'.repeat(64) }, 32);
    assert.ok(head !== undefined && tail !== undefined);
    expect(head, seenFromA, 'DROP_FRAGMENT');
    expect(tail, seenFromA, 'DROP_FRAGMENT');
    const [transit] = buildFragments(
      { ...udp(remote4, '192.168.60.1'), payload: 'x'.repeat(64) },
      32,
    );
    assert.ok(transit !== undefined);
    expect(transit, { ifindex: uplink }, 'NO_ENDPOINT', 'local-in');
  });

  test('a transport header cut short', () => {
    allow(40);
    expect(
      { ip: { source: a4, destination: remote4, protocol: 6 }, payload: 'xy' },
      seenFromA,
      'DROP_PARSE',
    );
    expect(
      { ip: { source: remote4, destination: '192.168.60.1', protocol: 6 }, payload: 'xy' },
      { ifindex: uplink },
      'NO_ENDPOINT',
      'local-in',
    );
  });
});

describe('ICMP errors (rule 14)', () => {
  const error = (source: string, destination: string): PacketSpec => ({
    ip: { source, destination },
    icmp: { type: 3, code: 1, quoted: tcp(destination, source) },
  });
  const flow = (client: string, frontend: string, backend: string): Facts => ({
    tracked: 1,
    info: conntrack.related,
    client: mappedAddressBytes(client),
    frontend: mappedAddressBytes(frontend),
    backend: mappedAddressBytes(backend),
  });

  test('of a router, and of a party', () => {
    expect(
      error('198.51.100.7', a4),
      { ...flow(a4, remote4, remote4), ifindex: uplink },
      'RELATED',
    );
    expect(error(a4, remote4), { ...flow(a4, remote4, remote4), ...seenFromA }, 'RELATED');
    expect(error(a4, remote4), { ...flow(remote4, a4, a4), ...seenFromA }, 'RELATED');
    expect(error(a4, remote4), { ...flow(remote4, dns4, a4), ...seenFromA }, 'RELATED');
  });

  test('of a pod about a flow of others', () => {
    expect(error(a4, b4), { ...flow(b4, remote4, remote4), ...seenFromA }, 'DROP_ICMP_ERROR');
    const error6: PacketSpec = {
      ip: { source: a6, destination: b6 },
      icmp: { type: 1, quoted: tcp(b6, remote6) },
    };
    expect(error6, { ...flow(b6, remote6, remote6), ...seenFromA }, 'DROP_ICMP_ERROR');
    expect(error6, { ...flow(b6, a6, a6), ...seenFromA }, 'RELATED');
  });

  test('without a flow it is a packet like any other', () => {
    expect(error(a4, remote4), seenFromA, 'DROP_NO_MATCH');
  });

  test('related, but no error: judged as new', () => {
    expect(tcp(a4, remote4), { ...flow(a4, remote4, remote4), ...seenFromA }, 'DROP_NO_MATCH');
  });
});

describe('learned addresses', () => {
  const now = (): number => Number(process.hrtime.bigint() / 1_000_000_000n);
  const established = { ...seenFromA, tracked: 1, info: conntrack.established };

  beforeEach(() => {
    for (const address of [a4, a6]) {
      fixture.endpoint(address, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'FQDN'] });
    }
    allow(selector, { protocol: 6, port: 443 });
  });

  test('open what the selector allows, and nothing else', () => {
    expect(tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    expect(tcp(a4, remote4), seenFromA, 'FORWARDED');
    expect(tcp(a4, remote4, 80), seenFromA, 'DROP_NO_MATCH');
    expect(tcp(a4, '203.0.113.11'), seenFromA, 'DROP_NO_MATCH');
    expect(
      tcp(remote4, a4, 4000, 443),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'FORWARDED',
    );
    learnInto(fixture, [{ op: 'ADD', address: remote6, selector, expires: now() + 60 }]);
    expect(tcp(a6, remote6), seenFromA, 'FORWARDED');
  });

  test('only for policies with selectors, and only where no rule denies', () => {
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    allow(40, { protocol: 6, port: 443, verdict: 'DENY' });
    expect(tcp(a4, remote4), seenFromA, 'DROP_POLICY_DENY');
    fixture.reset();
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS'] });
    allow(selector, { protocol: 6, port: 443 });
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    expect(tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
  });

  test('never for what the cluster knows (rule 5)', () => {
    const flags = ['CLUSTER', 'NODE', 'SERVICE', 'LINK_LOCAL'] as const;
    for (const [i, flag] of flags.entries()) {
      const address = `198.51.100.${i + 1}`;
      learnInto(fixture, [{ op: 'ADD', address, selector, expires: now() + 60 }]);
      expect(tcp(a4, address), seenFromA, 'FORWARDED');
      fixture.class(address, 32, 70 + i, [flag]);
      expect(tcp(a4, address), seenFromA, 'DROP_NO_MATCH');
    }
    // a pod of this node, learned before it became one
    learnInto(fixture, [{ op: 'ADD', address: '198.51.100.9', selector, expires: now() + 60 }]);
    fixture.endpoint('198.51.100.9', { id: 3, ifindex: 19 });
    expect(tcp(a4, '198.51.100.9'), seenFromA, 'DROP_NO_MATCH');
  });

  test('expiry: new connections end, confirmed ones live (rule 15)', () => {
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() - 2 }]);
    expect(tcp(a4, remote4), seenFromA, 'DROP_FQDN_EXPIRED');
    expect(
      tcp(a4, remote4),
      { ...seenFromA, tracked: 1, info: conntrack.new },
      'DROP_FQDN_EXPIRED',
    );
    expect(tcp(a4, remote4), { ...seenFromA, info: conntrack.untracked }, 'DROP_FQDN_EXPIRED');
    expect(
      tcp(a4, remote4),
      { ...seenFromA, tracked: 1, info: conntrack.new, status: confirmed },
      'FORWARDED',
    );
    expect(tcp(a4, remote4), established, 'FORWARDED');
    expect(
      tcp(remote4, a4, 4000, 443),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'FORWARDED',
    );
    learnInto(fixture, [{ op: 'REMOVE', address: remote4, selector }]);
    expect(tcp(a4, remote4), established, 'DROP_NO_MATCH');
  });

  test('an expired selector of another policy is no reason', () => {
    learnInto(fixture, [
      { op: 'ADD', address: remote4, selector: otherSelector, expires: now() - 2 },
    ]);
    expect(tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
  });

  test('on any page', () => {
    const filler = Array.from({ length: 63 }, (_, i) => ({
      op: 'ADD' as const,
      address: remote4,
      selector: (0x80000100 + i) >>> 0,
      expires: now() + 60,
    }));
    learnInto(fixture, [...filler, { op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    expect(tcp(a4, remote4), seenFromA, 'FORWARDED');
  });

  test('the time of use is kept, at most once a second', () => {
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires: now() + 60 }]);
    const used = (): number => {
      const key = fixture.structs.bytes('td_fqdn_key', { addr: mappedAddressBytes(remote4) });
      const page = fixture.map('fqdn').lookup(key);
      assert.ok(page !== null);
      return fixture.structs.read('td_fqdn', page, 'last_used_ns');
    };
    assert.equal(used(), 0);
    expect(tcp(a4, remote4), seenFromA, 'FORWARDED');
    const first = used();
    assert.ok(first > 0);
    expect(tcp(a4, remote4), seenFromA, 'FORWARDED');
    assert.equal(used(), first);
  });
});

describe('judge_root', () => {
  const slot = (): void => {
    const fd = new Uint8Array(4);
    new DataView(fd.buffer).setUint32(0, fixture.object.program('judge').fd, true);
    fixture.map('judge_slot').update(new Uint8Array(4), fd);
  };

  test('with a judge: its verdict', () => {
    slot();
    try {
      fixture.facts(seenFromA);
      const got = fixture.hook('judge_root', 'post-routing', tcp(a4, remote4));
      assert.deepEqual(got, { verdict: 'drop', counted: { DROP_NO_MATCH: 1 } });
    } finally {
      fixture.map('judge_slot').delete(new Uint8Array(4));
    }
  });

  test('with a cleared slot: nothing of pods, all else', () => {
    const dropped = { verdict: 'drop', counted: { DROP_NO_PROGRAM: 1 } };
    const root = (packet: PacketSpec): unknown =>
      fixture.hook('judge_root', 'post-routing', packet);
    assert.deepEqual(root(tcp(b4, remote4)), dropped);
    assert.deepEqual(root(tcp(remote4, b4)), dropped);
    assert.deepEqual(root(tcp(b6, remote6)), dropped);
    assert.deepEqual(root(tcp('10.1.0.99', remote4)), dropped, 'unknown pods too');
    assert.deepEqual(root(tcp(remote4, '192.168.60.1')), { verdict: 'accept', counted: {} });
    assert.deepEqual(root(tcp(remote6, '2001:db8::2')), { verdict: 'accept', counted: {} });
  });
});
