// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: who speaks and by which way. Safety rules 1, 3 and 6, T10. Interfaces: judge-interfaces.test.ts. */

import { after, beforeEach, describe, test } from 'node:test';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture } from './fixture.ts';
import {
  a4,
  addRule,
  b4,
  b6,
  conntrack,
  dns4,
  expectVerdict,
  remote4,
  remote6,
  seenFromA,
  setUpJudge,
  strangerVeth,
  tcp,
  udp,
  uplink,
  vethA,
  vethB,
} from './judge-world.ts';
import { mark, portP } from './kernel-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpJudge(fixture));

describe('a source counts only where it was verified (rule 3)', () => {
  beforeEach(() => addRule(fixture, 40));

  test("by the endpoint's own interface, and by no other", () => {
    expectVerdict(fixture, tcp(a4, remote4), { ifindex: vethA }, 'FORWARDED');
    for (const ifindex of [uplink, vethB, strangerVeth, 99]) {
      expectVerdict(fixture, tcp(a4, remote4), { ifindex }, 'DROP_UNVERIFIED');
    }
  });

  test('no mark makes up for the interface', () => {
    for (const forged of [mark, mark << 1, mark * 3, 0xffffffff]) {
      expectVerdict(
        fixture,
        tcp(a4, remote4),
        { mark: forged, ifindex: uplink },
        'DROP_UNVERIFIED',
      );
    }
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
    for (const foreign of [0x2000, 0x4000, 0x8000, 0xffffffff & ~mark]) {
      expectVerdict(
        fixture,
        tcp(a4, remote4),
        { mark: foreign >>> 0, ifindex: vethA },
        'FORWARDED',
      );
    }
  });

  test('tunnels of a node', () => {
    fixture.endpoint(a4, { id: 1, ifindex: vethA, flags: [] });
    for (const port of [4789, 8472, 6081]) {
      expectVerdict(fixture, udp(a4, '192.168.60.2', port), seenFromA, 'DROP_TUNNEL');
      expectVerdict(fixture, udp(a4, '192.168.60.1', port), seenFromA, 'DROP_TUNNEL', 'local-in');
      expectVerdict(fixture, udp(a4, remote4, port), seenFromA, 'FORWARDED');
      expectVerdict(fixture, tcp(a4, '192.168.60.2', port), seenFromA, 'FORWARDED');
    }
    // Weave's, Submariner's (F11): what the node has is configured
    for (const port of [6784, 4800]) {
      expectVerdict(fixture, udp(a4, '192.168.60.2', port), seenFromA, 'FORWARDED');
      fixture.tunnelPort(port);
      expectVerdict(fixture, udp(a4, '192.168.60.2', port), seenFromA, 'DROP_TUNNEL');
      expectVerdict(fixture, udp(a4, '192.168.60.1', port), seenFromA, 'DROP_TUNNEL', 'local-in');
    }
    // IP in IP, GRE, EtherIP, PIM (register), IPComp, L2TP version 3, MPLS in IP
    for (const protocol of [4, 41, 47, 97, 103, 108, 115, 137]) {
      const packet: PacketSpec = {
        ip: { source: a4, destination: '192.168.60.2', protocol },
        payload: 'x'.repeat(40),
      };
      expectVerdict(fixture, packet, seenFromA, 'DROP_TUNNEL');
      expectVerdict(fixture, packet, seenFromA, 'DROP_TUNNEL', 'local-in');
    }
  });
});

describe("this node's own address is believed of what it made alone (rule 3)", () => {
  const own4 = '192.168.60.1';
  const own6 = 'fd00:60::1';
  beforeEach(() => {
    fixture.class(own4, 32, 30, ['NODE', 'CLUSTER', 'HOST']);
    fixture.class(own6, 128, 30, ['NODE', 'CLUSTER', 'HOST']);
    addRule(fixture, 30, { policyId: 2, direction: 'ingress' });
  });
  const toB = [tcp(own4, b4), tcp(own6, b6), udp(own4, b4), udp(own6, b6)];
  const reply = { tracked: 1, info: conntrack.reply };

  test('from outside to a pod it is dropped, as a reply too, whatever the port of entry', () => {
    for (const ifindex of [uplink, 99]) {
      for (const packet of toB) {
        expectVerdict(fixture, packet, { ifindex }, 'DROP_UNVERIFIED');
        expectVerdict(fixture, packet, { ifindex, ...reply }, 'DROP_UNVERIFIED');
        expectVerdict(fixture, packet, { ifindex: 30, bridge_port: ifindex }, 'DROP_UNVERIFIED');
      }
    }
  });

  test('an error in its name that quotes a flow is dropped too', () => {
    const error: PacketSpec = { ip: { source: own6, destination: b6 }, icmp: { type: 1, code: 4 } };
    const related = { tracked: 1, info: conntrack.related };
    expectVerdict(fixture, error, { ifindex: uplink, ...related }, 'DROP_UNVERIFIED');
    expectVerdict(fixture, error, { ifindex: 0, ...related }, 'HOST');
  });

  test("the node's own packets, questions and answers, pass", () => {
    for (const ifindex of [0, 1]) {
      for (const packet of toB) {
        expectVerdict(fixture, packet, { ifindex }, 'HOST');
        expectVerdict(fixture, packet, { ifindex, ...reply }, 'FORWARDED');
      }
    }
  });

  test('another node and another host of its network are who they say', () => {
    expectVerdict(fixture, tcp('192.168.60.2', b4), { ifindex: uplink }, 'FORWARDED');
    expectVerdict(fixture, tcp(remote4, b4), { ifindex: uplink }, 'DROP_NO_MATCH');
  });

  test('what is for nobody of the pods, and what is delivered to the node, is not judged by it', () => {
    expectVerdict(fixture, tcp(own4, remote4), { ifindex: uplink }, 'NO_ENDPOINT');
    expectVerdict(fixture, tcp(own4, own4), { ifindex: uplink }, 'NO_ENDPOINT', 'local-in');
    // its own multicast, as it hears it
    expectVerdict(fixture, udp(own4, '224.0.0.1'), { ifindex: uplink }, 'NO_ENDPOINT', 'local-in');
    // a pod's answer to what the node asked of its own NodePort, translated back
    const answer = { ifindex: vethB, ...reply };
    expectVerdict(fixture, tcp(own4, own4), answer, 'NO_ENDPOINT', 'local-in');
  });

  test('neighbour discovery passes, which finds out whether another host has the address', () => {
    const solicit = (source: string): PacketSpec => ({
      ip: { source, destination: b6, ttl: 255 },
      icmp: { type: 135 },
      payload: new Uint8Array(16),
    });
    expectVerdict(fixture, solicit(own6), { ifindex: uplink }, 'FORWARDED');
    expectVerdict(fixture, udp(own6, b6), { ifindex: uplink }, 'DROP_UNVERIFIED');
  });
});

test("a link-local address of the node's, as another host has it at another link, is no host's", () => {
  fixture.class('fe80::1', 128, 40, ['NODE', 'LINK_LOCAL']);
  fixture.class('::1', 128, 30, ['NODE', 'CLUSTER']);
  addRule(fixture, 30, { policyId: 2, direction: 'ingress' });
  const from = udp('fe80::1', b6);
  expectVerdict(fixture, from, { ifindex: uplink }, 'DROP_NO_MATCH');
  addRule(fixture, 40, { policyId: 2, direction: 'ingress' });
  expectVerdict(fixture, from, { ifindex: uplink }, 'FORWARDED');
});

describe('steering cannot be walked around (rule 1)', () => {
  beforeEach(() => {
    // a node-local cache that listens on the ClusterIP: the address is the host's
    fixture.class(dns4, 32, 60, ['SERVICE', 'NODE', 'CLUSTER']);
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
    const ours = { ifindex: 0 };
    fixture.endpoint(a4, { id: 1, policyId: 1, ifindex: vethA, flags: ['ENFORCE_INGRESS'] });
    fixture.endpoint(b4, { id: 2, policyId: 2, ifindex: vethB, flags: ['ENFORCE_EGRESS'] });
    // the server is a pod of this node, so its address is an endpoint's
    expectVerdict(fixture, udp(b4, a4, 4000, portP), ours, 'HOST');
    expectVerdict(fixture, udp(b4, a4, 4000, 53), ours, 'DROP_NO_MATCH');
    expectVerdict(fixture, udp(b4, a4, 4000, portP), { ifindex: uplink }, 'DROP_UNVERIFIED');
    expectVerdict(fixture, udp(b4, a4, 4000, portP), { ifindex: vethB }, 'DROP_NO_MATCH');
    expectVerdict(fixture, udp(b4, a4, 4000, portP), { ifindex: 1 }, 'DROP_NO_MATCH');
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
    expectVerdict(fixture, tcp('192.168.60.1', remote4), { ifindex: 0 }, 'NO_ENDPOINT');
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
      { ifindex: vethB, tracked: 1, info: conntrack.reply },
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

  test('pods that are not known, as source and as destination, whatever their address', () => {
    const entered = { ifindex: strangerVeth };
    const left = { ifindex: uplink, out: strangerVeth };
    for (const address of ['10.1.0.99', remote4, '192.168.60.2', '192.168.60.1', '127.0.0.1']) {
      expectVerdict(fixture, tcp(address, remote4), entered, 'DROP_UNKNOWN_POD');
      expectVerdict(fixture, tcp(address, b4), entered, 'DROP_UNKNOWN_POD');
      expectVerdict(fixture, tcp(address, '192.168.60.1'), entered, 'DROP_UNKNOWN_POD', 'local-in');
      expectVerdict(fixture, tcp(remote4, address), left, 'DROP_UNKNOWN_POD');
      expectVerdict(
        fixture,
        tcp(b4, address),
        { ifindex: vethB, out: strangerVeth },
        'DROP_UNKNOWN_POD',
      );
    }
    expectVerdict(fixture, tcp('fd00:1::99', remote6), entered, 'DROP_UNKNOWN_POD');
    expectVerdict(fixture, tcp(remote6, 'fd00:1::99'), left, 'DROP_UNKNOWN_POD');
    expectVerdict(
      fixture,
      tcp('192.168.60.1', '10.1.0.99'),
      { ifindex: 0, out: strangerVeth },
      'NO_ENDPOINT',
    );
    expectVerdict(fixture, tcp('10.1.0.1', '10.1.0.1'), { ifindex: 1 }, 'NO_ENDPOINT', 'local-in');
    expectVerdict(
      fixture,
      tcp(remote4, '10.1.0.1'),
      { ifindex: uplink },
      'NO_ENDPOINT',
      'local-in',
    );
  });

  test("an address of this node's pod CIDR that is somewhere else is like any other", () => {
    expectVerdict(fixture, tcp('10.1.0.99', remote4), { ifindex: uplink }, 'NO_ENDPOINT');
    expectVerdict(fixture, tcp(remote4, '10.1.0.99'), { ifindex: uplink }, 'NO_ENDPOINT');
    expectVerdict(fixture, tcp('10.1.0.99', b4), { ifindex: uplink }, 'DROP_NO_MATCH');
    fixture.policy({ policyId: 2, peer: 20, direction: 'ingress', verdict: 'ALLOW' });
    expectVerdict(fixture, tcp('10.1.0.99', b4), { ifindex: uplink }, 'FORWARDED');
    addRule(fixture, 20);
    expectVerdict(fixture, tcp(a4, '10.1.0.99'), seenFromA, 'FORWARDED');
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
