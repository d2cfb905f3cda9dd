// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: who speaks and by which way. Safety rules 1, 3 and 6, T10. */

import { after, beforeEach, describe, test } from 'node:test';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture, mark, portP } from './fixture.ts';
import {
  a4,
  addRule,
  b4,
  bridge,
  conntrack,
  dns4,
  expectVerdict,
  remote4,
  remote6,
  seenFromA,
  setUpJudge,
  tcp,
  udp,
  uplink,
  vethA,
} from './judge-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpJudge(fixture));

describe('a source counts only where it was verified (rule 3)', () => {
  beforeEach(() => addRule(fixture, 40));

  test('mark and interface, both', () => {
    expectVerdict(fixture, tcp(a4, remote4), { mark: 0, ifindex: vethA }, 'FORWARDED');
    expectVerdict(fixture, tcp(a4, remote4), { mark: 0, ifindex: bridge }, 'FORWARDED');
    expectVerdict(fixture, tcp(a4, remote4), { mark: 0, ifindex: vethA }, 'DROP_UNVERIFIED');
    expectVerdict(
      fixture,
      tcp(a4, remote4),
      { mark: mark.socket, ifindex: vethA },
      'DROP_UNVERIFIED',
    );
    expectVerdict(fixture, tcp(a4, remote4), { mark: 0, ifindex: uplink }, 'DROP_UNVERIFIED');
    expectVerdict(fixture, tcp(a4, remote4), { mark: 0, ifindex: uplink }, 'DROP_UNVERIFIED');
    expectVerdict(fixture, tcp(a4, remote4), { mark: 0, ifindex: 13 }, 'DROP_UNVERIFIED');
  });

  test('replies too, and a pod to itself', () => {
    expectVerdict(
      fixture,
      tcp(a4, remote4),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'DROP_UNVERIFIED',
    );
    expectVerdict(fixture, tcp(a4, a4), { ifindex: uplink }, 'DROP_UNVERIFIED');
    expectVerdict(fixture, tcp(a4, remote4), { ifindex: uplink }, 'DROP_UNVERIFIED', 'local-in');
  });

  test("bits of other programs' marks do not matter", () => {
    expectVerdict(fixture, tcp(a4, remote4), { mark: 0x4000, ifindex: vethA }, 'FORWARDED');
  });

  test('tunnels of a node', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: [] });
    for (const port of [4789, 8472, 6081]) {
      expectVerdict(fixture, udp(a4, '192.168.60.2', port), seenFromA, 'DROP_TUNNEL');
      expectVerdict(fixture, udp(a4, '192.168.60.1', port), seenFromA, 'DROP_TUNNEL', 'local-in');
      expectVerdict(fixture, udp(a4, remote4, port), seenFromA, 'FORWARDED');
      expectVerdict(fixture, tcp(a4, '192.168.60.2', port), seenFromA, 'FORWARDED');
    }
    for (const protocol of [4, 41, 47]) {
      const packet: PacketSpec = {
        ip: { source: a4, destination: '192.168.60.2', protocol },
        payload: 'x'.repeat(40),
      };
      expectVerdict(fixture, packet, seenFromA, 'DROP_TUNNEL');
      expectVerdict(fixture, packet, seenFromA, 'DROP_TUNNEL', 'local-in');
    }
  });
});

describe('steering cannot be walked around (rule 1)', () => {
  beforeEach(() => {
    fixture.class(dns4, 32, 60, ['SERVICE']);
    addRule(fixture, 60, { protocol: 17, port: 53, verdict: 'L7_DNS' });
    addRule(fixture, 60, { protocol: 6, port: 53, verdict: 'L7_DNS' });
  });

  test('L7-DNS that was not redirected', () => {
    expectVerdict(fixture, udp(a4, dns4, 53), seenFromA, 'DROP_NOT_REDIRECTED');
    expectVerdict(fixture, tcp(a4, dns4, 53), seenFromA, 'DROP_NOT_REDIRECTED');
    expectVerdict(fixture, udp(a4, dns4, 53), seenFromA, 'DROP_NOT_REDIRECTED', 'local-in');
  });

  test('L7-DNS beats an allow of the wildcard', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['ENFORCE_EGRESS', 'WILD_EGRESS'] });
    addRule(fixture, 0, { protocol: 17, port: 53 });
    expectVerdict(fixture, udp(a4, dns4, 53), seenFromA, 'DROP_NOT_REDIRECTED');
  });

  test('the redirected query, at LOCAL_IN and on port P only', () => {
    const redirected = { mark, ifindex: vethA };
    expectVerdict(fixture, udp(a4, dns4, portP), redirected, null, 'local-in');
    expectVerdict(fixture, tcp(a4, dns4, portP), redirected, null, 'local-in');
    expectVerdict(fixture, udp(a4, dns4, portP), redirected, 'DROP_NOT_REDIRECTED');
    expectVerdict(fixture, udp(a4, dns4, 53), redirected, 'DROP_NOT_REDIRECTED', 'local-in');
    expectVerdict(
      fixture,
      { ip: { source: a4, destination: dns4, protocol: 132 }, payload: 'x'.repeat(12) },
      redirected,
      'DROP_NOT_REDIRECTED',
      'local-in',
    );
    expectVerdict(
      fixture,
      udp(a4, dns4, portP),
      { mark, ifindex: uplink },
      'DROP_UNVERIFIED',
      'local-in',
    );
    expectVerdict(
      fixture,
      udp(remote4, dns4, portP),
      { mark, ifindex: uplink },
      'DROP_NOT_REDIRECTED',
      'local-in',
    );
  });

  test('our reply, of the host and from port P only', () => {
    const ours = { mark: mark.socket, ifindex: 0 };
    fixture.endpoint(a4, { id: 1, policyId: 1, ifindex: vethA, flags: ['ENFORCE_INGRESS'] });
    fixture.endpoint(b4, { id: 2, policyId: 2, ifindex: 13, flags: ['ENFORCE_EGRESS'] });
    // the server is a pod of this node, so its address is an endpoint's
    expectVerdict(fixture, udp(b4, a4, 4000, portP), ours, 'HOST');
    expectVerdict(fixture, udp(b4, a4, 4000, 53), ours, 'DROP_NO_MATCH');
    expectVerdict(
      fixture,
      udp(b4, a4, 4000, portP),
      { mark: mark.socket, ifindex: uplink },
      'DROP_UNVERIFIED',
    );
    expectVerdict(fixture, udp(b4, a4, 4000, portP), { mark: 0, ifindex: 0 }, 'DROP_NO_MATCH');
  });

  test("our query with the pod's own address: judged as the pod's, L7-DNS allows it", () => {
    expectVerdict(fixture, udp(a4, dns4, 53), { ifindex: 0 }, 'FORWARDED');
    expectVerdict(fixture, udp(a4, remote4, 53), { ifindex: 0 }, 'DROP_NO_MATCH');
    expectVerdict(
      fixture,
      udp(dns4, a4, 4000, 53),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'FORWARDED',
      'local-in',
    );
    expectVerdict(
      fixture,
      udp(dns4, a4, 4000, 53),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'DROP_NOT_REDIRECTED',
    );
  });

  test("port P of the node is nobody else's (T10)", () => {
    expectVerdict(fixture, udp(a4, '192.168.60.1', portP), seenFromA, 'DROP_PORT', 'local-in');
    expectVerdict(
      fixture,
      tcp(remote4, '192.168.60.1', portP),
      { ifindex: uplink },
      'DROP_PORT',
      'local-in',
    );
    expectVerdict(
      fixture,
      udp('192.168.60.1', '192.168.60.1', portP),
      { ifindex: 1 },
      'DROP_PORT',
      'local-in',
    );
    addRule(fixture, 40, { protocol: 17, port: portP });
    expectVerdict(fixture, udp(a4, remote4, portP), seenFromA, 'FORWARDED');
    expectVerdict(
      fixture,
      udp(remote4, '192.168.60.1', portP),
      { ifindex: uplink, tracked: 1, info: conntrack.reply },
      'NO_ENDPOINT',
      'local-in',
    );
  });
});

describe('host and strangers (rule 6)', () => {
  test('the host is what came in nowhere, by no address', () => {
    expectVerdict(fixture, tcp('192.168.60.1', b4), { ifindex: 0 }, 'HOST');
    expectVerdict(fixture, tcp('169.254.1.1', b4), { ifindex: 0 }, 'HOST');
    expectVerdict(fixture, tcp('192.168.60.1', b4), { ifindex: uplink }, 'DROP_NO_MATCH');
    expectVerdict(fixture, tcp('192.168.60.1', remote4), { ifindex: 0 }, 'HOST');
    expectVerdict(
      fixture,
      tcp(remote4, '192.168.60.1'),
      { ifindex: uplink },
      'NO_ENDPOINT',
      'local-in',
    );
  });

  test("a pod's reply to the host", () => {
    expectVerdict(
      fixture,
      tcp(b4, '192.168.60.1', 4000, 443),
      { mark: 0, ifindex: 13, tracked: 1, info: conntrack.reply },
      'HOST',
      'local-in',
    );
  });

  test('a pod to the host is judged', () => {
    expectVerdict(fixture, tcp(a4, '192.168.60.1', 6443), seenFromA, 'DROP_NO_MATCH', 'local-in');
    addRule(fixture, 30, { protocol: 6, port: 6443 });
    expectVerdict(fixture, tcp(a4, '192.168.60.1', 6443), seenFromA, 'FORWARDED', 'local-in');
    expectVerdict(
      fixture,
      tcp('192.168.60.1', a4, 4000, 6443),
      { ifindex: 0, tracked: 1, info: conntrack.reply },
      'FORWARDED',
    );
  });

  test('unknown pods of this node, as source and as destination', () => {
    expectVerdict(fixture, tcp('10.1.0.99', remote4), { ifindex: 17 }, 'DROP_UNKNOWN_POD');
    expectVerdict(
      fixture,
      tcp('10.1.0.99', '192.168.60.1'),
      { ifindex: 17 },
      'DROP_UNKNOWN_POD',
      'local-in',
    );
    expectVerdict(fixture, tcp('10.1.0.99', b4), { mark: 0, ifindex: 17 }, 'DROP_UNKNOWN_POD');
    expectVerdict(fixture, tcp(remote4, '10.1.0.99'), { ifindex: uplink }, 'DROP_UNKNOWN_POD');
    expectVerdict(fixture, tcp('fd00:1::99', remote6), { ifindex: 17 }, 'DROP_UNKNOWN_POD');
    expectVerdict(fixture, tcp('192.168.60.1', '10.1.0.99'), { ifindex: 0 }, 'HOST');
    expectVerdict(fixture, tcp('10.1.0.1', '10.1.0.1'), { ifindex: 1 }, 'HOST', 'local-in');
    expectVerdict(
      fixture,
      tcp(remote4, '10.1.0.1'),
      { ifindex: uplink },
      'NO_ENDPOINT',
      'local-in',
    );
  });

  test('hold: nothing but the host', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: ['HOLD'] });
    expectVerdict(fixture, tcp(a4, remote4), seenFromA, 'DROP_HOLD');
    expectVerdict(fixture, tcp(remote4, a4), { ifindex: uplink }, 'DROP_HOLD');
    expectVerdict(fixture, tcp(a4, '192.168.60.1'), seenFromA, 'DROP_HOLD', 'local-in');
    expectVerdict(fixture, udp(a4, dns4, portP), { mark, ifindex: vethA }, 'DROP_HOLD', 'local-in');
    expectVerdict(fixture, tcp('192.168.60.1', a4), { ifindex: 0 }, 'HOST');
    expectVerdict(
      fixture,
      tcp(a4, '192.168.60.1', 4000, 443),
      { ...seenFromA, tracked: 1, info: conntrack.reply },
      'HOST',
      'local-in',
    );
  });
});
