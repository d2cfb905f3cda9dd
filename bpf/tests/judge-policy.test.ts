// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: what policy says, of both ends, for the connection; and judge_root without a judge. */

import assert from 'node:assert/strict';
import { after, beforeEach, describe, test } from 'node:test';
import { mappedAddressBytes } from '@tandem/testing/address';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  addRule,
  b4,
  b6,
  conntrack,
  expectVerdict,
  remote4,
  remote6,
  seenFromA,
  selector,
  setUpJudge,
  tcp,
  udp,
  uplink,
  vethA,
  vethB,
  withOut,
} from './judge-world.ts';
import { learnInto } from './learning.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpJudge(fixture));

describe('policy', () => {
  test('default deny, and the rule that allows', () => {
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    addRule(fixture, 40, { protocol: 6, port: 443 });
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'FORWARDED');
    expectVerdict(fixture, tcp(a4, remote4, 80), seenFromA, 'DROP_NO_MATCH');
    expectVerdict(fixture, udp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    expectVerdict(fixture, tcp(a4, '198.51.100.1'), seenFromA, 'DROP_NO_MATCH');
  });

  test('an endpoint that enforces nothing', () => {
    expectVerdict(fixture, tcp(b4, remote4), { ifindex: vethB }, 'FORWARDED');
  });

  test('both ends are judged: egress of one, ingress of the other', () => {
    addRule(fixture, 52);
    expectVerdict(fixture, tcp(a4, b4), seenFromA, 'DROP_NO_MATCH');
    fixture.policy({ policyId: 2, peer: 51, direction: 'ingress', verdict: 'ALLOW' });
    expectVerdict(fixture, tcp(a4, b4), seenFromA, 'FORWARDED');
    expectVerdict(fixture, tcp(remote4, b4), { ifindex: uplink }, 'DROP_NO_MATCH');
    fixture.policy({
      policyId: 2,
      peer: 40,
      direction: 'ingress',
      verdict: 'ALLOW',
      protocol: 6,
      port: 443,
    });
    expectVerdict(fixture, tcp(remote4, b4), { ifindex: uplink }, 'FORWARDED');
  });

  test('IPv6 as IPv4', () => {
    fixture.class('2001:db8::', 32, 41);
    expectVerdict(fixture, udp(a6, remote6), seenFromA, 'DROP_NO_MATCH');
    addRule(fixture, 41, { protocol: 17, port: 443 });
    expectVerdict(fixture, udp(a6, remote6), seenFromA, 'FORWARDED');
  });

  test('the longest class, port prefixes, any protocol, ICMP types', () => {
    fixture.class(remote4, 32, 42);
    addRule(fixture, 40);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    addRule(fixture, 42, { protocol: 6, port: 8080, portBits: 14 });
    expectVerdict(fixture, tcp(a4, remote4, 8083), seenFromA, 'FORWARDED');
    expectVerdict(fixture, tcp(a4, remote4, 8084), seenFromA, 'DROP_NO_MATCH');
    const echo: PacketSpec = { ip: { source: a4, destination: remote4 }, icmp: { type: 8 } };
    expectVerdict(fixture, echo, seenFromA, 'DROP_NO_MATCH');
    addRule(fixture, 42, { protocol: 1, port: 8 << 8 });
    expectVerdict(fixture, echo, seenFromA, 'FORWARDED');
    expectVerdict(fixture, { ...echo, icmp: { type: 13 } }, seenFromA, 'DROP_NO_MATCH');
  });

  test('a wildcard peer is asked only with its flag, and any deny wins', () => {
    addRule(fixture, 0, { protocol: 6, port: 443 });
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'WILD_EGRESS'] });
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'FORWARDED');
    addRule(fixture, 40, { protocol: 6, port: 443, verdict: 'DENY', ruleId: 77 });
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_POLICY_DENY');
    addRule(fixture, 40, { protocol: 6, port: 443 });
    addRule(fixture, 0, { protocol: 6, port: 443, verdict: 'DENY' });
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_POLICY_DENY');
  });

  test('a decided entry of a class includes the wildcard, nothing and DNS included', () => {
    const flags = ['ENFORCE_EGRESS', 'WILD_EGRESS'];
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags });
    fixture.endpoint(a6, { id: 1, ifindex: vethA, flags });
    fixture.class('2001:db8::', 32, 40);
    const rows = [
      ['ALLOW', 'DENY', 'FORWARDED'],
      ['ALLOW', 'L7_DNS', 'FORWARDED'],
      ['NONE', 'ALLOW', 'DROP_NO_MATCH'],
      ['NONE', 'DENY', 'DROP_NO_MATCH'],
      ['L7_DNS', 'ALLOW', 'DROP_NOT_REDIRECTED'],
      ['L7_DNS', 'DENY', 'DROP_NOT_REDIRECTED'],
      ['DENY', 'ALLOW', 'DROP_POLICY_DENY'],
    ] as const;
    for (const [verdict, wildcard, want] of rows) {
      addRule(fixture, 0, { verdict: wildcard });
      addRule(fixture, 40, { verdict, isDecided: true });
      for (const packet of [tcp(a4, remote4), udp(a4, remote4), tcp(a6, remote6)])
        expectVerdict(fixture, packet, seenFromA, want);
      // A longer prefix without the bit is joined with the wildcard again, and is the only one that counts.
      addRule(fixture, 40, { verdict: 'ALLOW', protocol: 6, port: 8443 });
      const joined = {
        ALLOW: 'FORWARDED',
        DENY: 'DROP_POLICY_DENY',
        L7_DNS: 'DROP_NOT_REDIRECTED',
      };
      expectVerdict(fixture, tcp(a4, remote4, 8443), seenFromA, joined[wildcard]);
    }
  });

  test('learned names are asked after a decided entry that says nothing', () => {
    const flags = ['ENFORCE_EGRESS', 'WILD_EGRESS', 'FQDN'];
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags });
    addRule(fixture, 0, { verdict: 'DENY' });
    addRule(fixture, 40, { verdict: 'NONE', isDecided: true });
    addRule(fixture, selector, { protocol: 6, port: 443 });
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
    const expires = Math.floor(Number(process.hrtime.bigint() / 1_000_000_000n)) + 1000;
    learnInto(fixture, [{ op: 'ADD', address: remote4, selector, expires, namespaceId: 150 }]);
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'FORWARDED');
    expectVerdict(fixture, udp(a4, remote4), seenFromA, 'DROP_NO_MATCH');
  });

  test('a decided entry of ingress', () => {
    const flags = ['ENFORCE_INGRESS', 'WILD_INGRESS'];
    fixture.endpoint(b4, { id: 2, policyId: 2, ifindex: vethB, flags });
    const entry = { policyId: 2, direction: 'ingress' } as const;
    fixture.policy({ ...entry, peer: 0, verdict: 'DENY' });
    expectVerdict(fixture, tcp(remote4, b4), { ifindex: uplink }, 'DROP_POLICY_DENY');
    fixture.policy({ ...entry, peer: 40, verdict: 'ALLOW', isDecided: true });
    expectVerdict(fixture, tcp(remote4, b4), { ifindex: uplink }, 'FORWARDED');
    fixture.policy({ ...entry, peer: 0, verdict: 'ALLOW' });
    fixture.policy({ ...entry, peer: 40, verdict: 'NONE', isDecided: true });
    expectVerdict(fixture, tcp(remote4, b4), { ifindex: uplink }, 'DROP_NO_MATCH');
  });

  test('a pod is not cut off from itself', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'ENFORCE_INGRESS'] });
    expectVerdict(fixture, tcp(a4, a4), seenFromA, 'FORWARDED');
  });

  test('audit: an event, and the packet passes; the other end still judges', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'AUDIT'] });
    fixture.facts(seenFromA);
    const got = fixture.hook('judge', 'post-routing', tcp(a4, remote4));
    assert.deepEqual(got, { verdict: 'accept', counted: { AUDITED: 1, FORWARDED: 1 } });
    const [event] = fixture.takeEvents();
    assert.equal(event?.read('verdict'), fixture.structs.number('TD_VERDICT_ALLOW'));
    assert.equal(event?.read('reason'), fixture.structs.number('TD_COUNT_DROP_NO_MATCH'));
    fixture.facts(withOut(fixture, tcp(a4, b4), seenFromA));
    const other = fixture.hook('judge', 'post-routing', tcp(a4, b4));
    assert.deepEqual(other, { verdict: 'drop', counted: { AUDITED: 1, DROP_NO_MATCH: 1 } });
  });
});

describe('the connection is judged, not the packet', () => {
  const tracked = { tracked: 1, info: conntrack.reply };

  test('a reply asks the question of its request', () => {
    const reply = tcp(remote4, a4, 4000, 443);
    expectVerdict(fixture, reply, { ...tracked, ifindex: uplink }, 'DROP_NO_MATCH');
    addRule(fixture, 40, { protocol: 6, port: 443 });
    expectVerdict(fixture, reply, { ...tracked, ifindex: uplink }, 'FORWARDED');
  });

  test('a reply of a pod is judged by its ingress policy', () => {
    const reply = tcp(b4, remote4, 4000, 443);
    const facts = { ...tracked, ifindex: vethB };
    expectVerdict(fixture, reply, facts, 'DROP_NO_MATCH');
    fixture.policy({
      policyId: 2,
      peer: 40,
      direction: 'ingress',
      verdict: 'ALLOW',
      protocol: 6,
      port: 443,
    });
    expectVerdict(fixture, reply, facts, 'FORWARDED');
  });

  test('an ICMP reply is its request', () => {
    addRule(fixture, 40, { protocol: 1, port: 8 << 8 });
    const reply: PacketSpec = { ip: { source: remote4, destination: a4 }, icmp: { type: 0 } };
    expectVerdict(fixture, reply, { ...tracked, ifindex: uplink }, 'FORWARDED');
    expectVerdict(fixture, reply, { ifindex: uplink }, 'FORWARDED'); // a enforces no ingress
    expectVerdict(
      fixture,
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
