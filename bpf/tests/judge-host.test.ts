// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: what is delivered to the node is for the node, whatever address it bears (ADR 12, rule 19). */

import { after, beforeEach, describe, test } from 'node:test';
import { Fixture } from './fixture.ts';
import {
  a4,
  a6,
  addRule,
  b4,
  conntrack,
  expectVerdict,
  seenFromA,
  setUpJudge,
  tcp,
  udp,
  vethA,
  vethB,
} from './judge-world.ts';
import { mark, portP } from './kernel-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpJudge(fixture));

describe('at LOCAL_IN the destination is the host (F8)', () => {
  const places4 = ['192.168.60.1', '255.255.255.255', '10.1.255.255', '224.0.0.1', '203.0.113.1'];
  const places6 = ['fe80::1', 'ff02::1', 'ff02::fb', 'ff05::2', '2001:db8::1'];
  const places = [
    ...places4.map((to) => [a4, to] as const),
    ...places6.map((to) => [a6, to] as const),
  ];
  for (const [from, to] of places) {
    test(`${to}: a rule for the world does not open it, one for the host does`, () => {
      fixture.class('0.0.0.0', 0, 40);
      fixture.class('::', 0, 40);
      fixture.class('::1', 128, 30, ['NODE', 'CLUSTER']);
      addRule(fixture, 40);
      expectVerdict(fixture, udp(from, to), seenFromA, 'DROP_NO_MATCH', 'local-in');
      addRule(fixture, 30);
      expectVerdict(fixture, udp(from, to), seenFromA, 'FORWARDED', 'local-in');
    });
  }

  for (const [from, to, prefix, bits] of [
    [a4, '255.255.255.255', '0.0.0.0', 0],
    [a4, '10.1.255.255', '10.1.255.255', 32],
    [a6, 'ff02::fb', 'ff00::', 8],
  ] as const) {
    test(`${to}: a rule that denies its prefix denies it, whatever is allowed of the host`, () => {
      fixture.class('::1', 128, 30, ['NODE', 'CLUSTER']);
      fixture.class(prefix, bits, 40);
      addRule(fixture, 30);
      addRule(fixture, 40, { verdict: 'DENY', protocol: 17, port: 5353 });
      expectVerdict(fixture, udp(from, to, 5353), seenFromA, 'DROP_POLICY_DENY', 'local-in');
      expectVerdict(fixture, udp(from, to, 5354), seenFromA, 'FORWARDED', 'local-in');
    });
  }

  test("a link-local address that pods may not claim is the host's like any other", () => {
    fixture.class('::1', 128, 30, ['NODE', 'CLUSTER']);
    fixture.class('fe80::1', 128, 40, ['NODE', 'LINK_LOCAL']);
    addRule(fixture, 40);
    expectVerdict(fixture, udp(a6, 'fe80::1'), seenFromA, 'DROP_NO_MATCH', 'local-in');
    addRule(fixture, 30);
    expectVerdict(fixture, udp(a6, 'fe80::1'), seenFromA, 'FORWARDED', 'local-in');
    addRule(fixture, 40, { verdict: 'DENY' });
    expectVerdict(fixture, udp(a6, 'fe80::1'), seenFromA, 'DROP_POLICY_DENY', 'local-in');
  });

  test('a rule that denies a prefix around an address of the node is none for the node', () => {
    fixture.class('192.168.60.1', 32, 30, ['NODE', 'CLUSTER']);
    fixture.class('192.168.60.0', 24, 40);
    addRule(fixture, 30);
    addRule(fixture, 40, { verdict: 'DENY' });
    expectVerdict(fixture, udp(a4, '192.168.60.1'), seenFromA, 'FORWARDED', 'local-in');
  });

  test('the answer of the host from such an address is judged as the request', () => {
    const reply = { ifindex: 0, tracked: 1, info: conntrack.reply, out: vethA };
    addRule(fixture, 30);
    expectVerdict(fixture, udp('192.168.60.1', a4), reply, 'FORWARDED');
  });

  test('node-local DNS keeps its own class', () => {
    fixture.class('169.254.20.10', 32, 61, ['NODE', 'CLUSTER']);
    addRule(fixture, 30);
    const query = udp(a4, '169.254.20.10', 53);
    expectVerdict(fixture, query, seenFromA, 'DROP_NO_MATCH', 'local-in');
    addRule(fixture, 61, { protocol: 17, port: 53 });
    expectVerdict(fixture, query, seenFromA, 'FORWARDED', 'local-in');
    expectVerdict(fixture, udp(a4, '169.254.20.10', 54), seenFromA, 'DROP_NO_MATCH', 'local-in');
  });

  for (const [from, to] of [
    [a4, '127.0.0.53'],
    [a6, '::1'],
  ] as const) {
    test(`${to} is no address of a pod's packet, steered or not; an answer to the host may have it`, () => {
      addRule(fixture, 30);
      fixture.class('::1', 128, 30, ['NODE', 'CLUSTER']);
      expectVerdict(fixture, udp(from, to), seenFromA, 'DROP_PARSE', 'local-in');
      expectVerdict(
        fixture,
        udp(from, to, portP),
        { ...seenFromA, mark },
        'DROP_PARSE',
        'local-in',
      );
      expectVerdict(
        fixture,
        tcp(from, to),
        { ...seenFromA, tracked: 1, info: conntrack.reply },
        'HOST',
        'local-in',
      );
    });
  }

  test("a pod's answer to the host's own question by a link-local address passes", () => {
    expectVerdict(
      fixture,
      tcp(b4, '169.254.1.1'),
      { ifindex: vethB, tracked: 1, info: conntrack.reply },
      'HOST',
      'local-in',
    );
  });
});
