// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * judge: the interfaces by which a packet enters and leaves decide its endpoints (ADR 12, rules 3 and 6).
 * Bridged pods: `ifindex` is the bridge, `bridge_port` the port that br_netfilter saw.
 */

import { after, beforeEach, describe, test } from 'node:test';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import { Fixture, portP } from './fixture.ts';
import {
  a4,
  a6,
  addRule,
  b4,
  b6,
  conntrack,
  expectVerdict,
  type Facts,
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

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpJudge(fixture));

const cni0 = 30;
const docker0 = 31;
const portC = 32;
const portD = 33;
const strangerPort = 34;
const dockerPort = 35;
const tunnel = 36;
const c4 = '10.1.2.11';
const c6 = 'fd00:1:2::11';
const d4 = '10.1.2.12';

/** Two pods on a bridge, open but for c's egress: allowed are the world and d. */
function setUpBridge(): void {
  for (const address of [c4, c6]) {
    fixture.endpoint(address, {
      id: 3,
      policyId: 3,
      ifindex: portC,
      l3Ifindex: cni0,
      classId: 53,
      flags: ['ENFORCE_EGRESS', 'BRIDGED'],
    });
  }
  fixture.endpoint(d4, {
    id: 4,
    policyId: 4,
    ifindex: portD,
    l3Ifindex: cni0,
    classId: 54,
    flags: ['BRIDGED'],
  });
  fixture.device(cni0, 'STRANGER');
  fixture.device(strangerPort, 'STRANGER');
  fixture.device(docker0, 'OUTSIDE');
  fixture.device(dockerPort, 'OUTSIDE');
  fixture.device(tunnel, 'OUTSIDE');
  for (const peer of [40, 41, 52, 54]) addRule(fixture, peer, { policyId: 3 });
  fixture.class('2001:db8::', 32, 41);
}

interface Row {
  readonly name: string;
  readonly packet: PacketSpec;
  readonly facts: Facts;
  readonly counter: string;
  readonly hook?: 'local-in';
}

function testRows(rows: readonly Row[]): void {
  for (const { name, packet, facts, counter, hook = 'post-routing' } of rows) {
    test(name, () => expectVerdict(fixture, packet, facts, counter, hook));
  }
}

describe('verified by the port of entry, and by nothing else', () => {
  beforeEach(setUpBridge);
  const fromC = { ifindex: cni0, bridge_port: portC };
  testRows([
    { name: 'routed from the port', packet: tcp(c4, remote4), facts: fromC, counter: 'FORWARDED' },
    { name: 'IPv6', packet: tcp(c6, remote6), facts: fromC, counter: 'FORWARDED' },
    {
      name: 'switched from the port: the index of entry is the port itself',
      packet: tcp(c4, d4),
      facts: { ifindex: portC, bridge_port: portC },
      counter: 'FORWARDED',
    },
    {
      name: 'ingress redirected (ifb): no bridge fact, the port as index',
      packet: tcp(c4, d4),
      facts: { ifindex: portC },
      counter: 'FORWARDED',
    },
    {
      name: 'the bridge alone: br_netfilter is off, the port is not known, and l3_ifindex proves nothing',
      packet: tcp(c4, remote4),
      facts: { ifindex: cni0 },
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'the port of a neighbour',
      packet: tcp(c4, remote4),
      facts: { ifindex: cni0, bridge_port: portD },
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'the bridge port counts, not the index beside it',
      packet: tcp(c4, d4),
      facts: { ifindex: portC, bridge_port: portD },
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'a port that is not known',
      packet: tcp(c4, remote4),
      facts: { ifindex: cni0, bridge_port: strangerPort },
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'the veth of a pod beside the bridge',
      packet: tcp(c4, remote4),
      facts: seenFromA,
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'the uplink, a tunnel, a foreign bridge',
      packet: tcp(c4, remote4),
      facts: { ifindex: tunnel },
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'at LOCAL_IN too',
      packet: tcp(c4, '192.168.60.1'),
      facts: { ifindex: cni0, bridge_port: portD },
      counter: 'DROP_UNVERIFIED',
      hook: 'local-in',
    },
    {
      name: 'replies too',
      packet: tcp(c4, remote4),
      facts: { ifindex: tunnel, tracked: 1, info: conntrack.reply },
      counter: 'DROP_UNVERIFIED',
    },
  ]);
});

describe('a reused index: the endpoint names it, but the interface is another one', () => {
  beforeEach(() => {
    setUpBridge();
    addRule(fixture, 40);
    // the kernel removed the entry of `pod_devices` with the old interface
    for (const ifindex of [vethA, portC, vethB]) fixture.device(ifindex, 'STRANGER');
  });
  testRows([
    {
      name: 'verifies nothing',
      packet: tcp(a4, remote4),
      facts: seenFromA,
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'verifies nothing on a bridge',
      packet: tcp(c4, remote4),
      facts: { ifindex: cni0, bridge_port: portC },
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'delivers nothing (F5)',
      packet: tcp(remote4, a4),
      facts: { ifindex: uplink, out: vethA },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'delivers nothing that is routed onto a bridge',
      packet: tcp(remote4, c4),
      facts: { ifindex: uplink, out: cni0 },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'delivers nothing that a bridge switches',
      packet: tcp(d4, c4),
      facts: { ifindex: portD, bridge_port: portD, out: portC },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: "delivers nothing of the host's either (rule 18)",
      packet: tcp('192.168.60.1', a4),
      facts: { ifindex: 0, out: vethA },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'delivers nothing that the host routes onto a bridge, IPv6',
      packet: udp('fd00:1:2::1', c6),
      facts: { ifindex: 0, out: cni0 },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'as a trusted interface it verifies nothing either',
      packet: tcp(b4, remote4),
      facts: { ifindex: uplink },
      counter: 'DROP_UNVERIFIED',
    },
  ]);
  test('delivers nothing as the interface of something that is no pod', () => {
    fixture.device(vethA, 'TRUSTED');
    expectVerdict(fixture, tcp(remote4, a4), { ifindex: uplink, out: vethA }, 'DROP_UNKNOWN_POD');
  });
});

describe('delivered by the interface of the destination (F5)', () => {
  beforeEach(setUpBridge);
  testRows([
    {
      name: 'its veth',
      packet: tcp(remote4, a4),
      facts: { ifindex: uplink, out: vethA },
      counter: 'FORWARDED',
    },
    {
      name: 'its bridge, routed',
      packet: tcp(remote4, d4),
      facts: { ifindex: uplink, out: cni0 },
      counter: 'FORWARDED',
    },
    {
      name: 'its port, switched',
      packet: tcp(c4, d4),
      facts: { ifindex: portC, bridge_port: portC, out: portD },
      counter: 'FORWARDED',
    },
    {
      name: 'hairpin: a pod to itself by a Service',
      packet: tcp(c4, c4),
      facts: { ifindex: portC, bridge_port: portC, out: portC },
      counter: 'FORWARDED',
    },
    {
      name: 'the veth of another pod',
      packet: tcp(remote4, a4),
      facts: { ifindex: uplink, out: vethB },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'a new veth with the old address',
      packet: tcp(remote4, a4),
      facts: { ifindex: uplink, out: strangerVeth },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'the port of another pod',
      packet: tcp(c4, d4),
      facts: { ifindex: portC, bridge_port: portC, out: portC },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'the uplink',
      packet: tcp(c4, d4),
      facts: { ifindex: cni0, bridge_port: portC, out: uplink },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'another bridge',
      packet: tcp(remote4, d4),
      facts: { ifindex: uplink, out: docker0 },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'the bridge of a pod that is on none',
      packet: tcp(remote4, a4),
      facts: { ifindex: uplink, out: cni0 },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'replies too',
      packet: tcp(remote4, a4, 4000, 443),
      facts: { ifindex: uplink, out: strangerVeth, tracked: 1, info: conntrack.reply },
      counter: 'DROP_UNKNOWN_POD',
    },
  ]);
});

describe('what the host sends to an address of an endpoint leaves by its interface, too (rule 18)', () => {
  beforeEach(setUpBridge);
  /** A new connection, by the loopback interface too, and an open one. */
  const senders: readonly Facts[] = [
    { ifindex: 0 },
    { ifindex: 1 },
    { ifindex: 0, tracked: 1, info: conntrack.established },
  ];
  const ways: readonly (readonly [to: string, out: number, isWay: boolean, name: string])[] = [
    [b4, vethB, true, 'its veth'],
    [b6, vethB, true, 'its veth, IPv6'],
    [c4, cni0, true, 'its bridge'],
    [c6, cni0, true, 'its bridge, IPv6'],
    [c4, portC, true, 'its port'],
    [b4, vethA, false, 'the veth of another pod'],
    [b6, strangerVeth, false, 'a new veth, IPv6'],
    [b4, uplink, false, 'the uplink'],
    [b4, cni0, false, 'the bridge of other pods'],
    [c6, strangerVeth, false, 'a new veth that has a bridged address, IPv6'],
    [c4, portD, false, 'the port of another pod'],
    [c4, docker0, false, 'a foreign bridge'],
  ];
  for (const [to, out, isWay, name] of ways) {
    const own = to.includes(':') ? 'fd00:1::1' : '192.168.60.1';
    test(`${to} by ${name}: ${isWay ? 'passes' : 'dropped'}`, () => {
      for (const facts of senders) {
        for (const packet of [udp(own, to), tcp(own, to)]) {
          expectVerdict(fixture, packet, { ...facts, out }, isWay ? 'HOST' : 'DROP_UNKNOWN_POD');
        }
      }
    });
    if (!isWay) {
      test(`${to} by ${name}: an answer to it is dropped`, () => {
        const facts = { ifindex: 0, out, tracked: 1, info: conntrack.reply };
        expectVerdict(fixture, tcp(own, to, 4000, 443), facts, 'DROP_UNKNOWN_POD');
      });
    }
    test(`${to} by ${name}: an answer of the shared socket ${isWay ? 'passes' : 'is dropped'}`, () => {
      const source = to.includes(':') ? 'fd00:96::10' : '10.96.0.10';
      for (const packet of [udp(source, to, 4000, portP), tcp(source, to, 4000, portP)]) {
        expectVerdict(fixture, packet, { ifindex: 0, out }, isWay ? 'HOST' : 'DROP_UNKNOWN_POD');
      }
    });
    test(`${to} by ${name}: ${isWay ? 'passes' : 'dropped'} in the name of a pod, as the members ask`, () => {
      const source = to.includes(':') ? a6 : a4;
      addRule(fixture, 52);
      addRule(fixture, 53);
      addRule(fixture, 51, { policyId: 2, direction: 'ingress' });
      const reason = isWay ? 'FORWARDED' : 'DROP_UNKNOWN_POD';
      expectVerdict(fixture, udp(source, to), { ifindex: 0, out }, reason);
    });
  }
  test('an address that is no endpoint’s passes by any interface: a pod that starts, docker, the world', () => {
    for (const out of [strangerVeth, cni0, strangerPort, docker0, tunnel, uplink]) {
      for (const to of ['10.1.2.99', 'fd00:1:2::99', remote4]) {
        const own = to.includes(':') ? 'fd00:1:2::1' : '192.168.60.1';
        expectVerdict(fixture, udp(own, to), { ifindex: 0, out }, 'NO_ENDPOINT');
      }
    }
  });
});

describe('strangers, in and out (rule 6, F4, F6)', () => {
  beforeEach(setUpBridge);
  const sources = [remote4, '10.1.1.11', '192.168.60.2', '192.168.60.1', '10.1.2.99'];
  const ways: readonly (readonly [name: string, facts: Facts])[] = [
    ['a veth', { ifindex: strangerVeth }],
    ['a port, routed', { ifindex: cni0, bridge_port: strangerPort }],
    ['a port, switched', { ifindex: strangerPort, bridge_port: strangerPort }],
    ['a bridge of pods without br_netfilter', { ifindex: cni0 }],
  ];
  for (const [name, facts] of ways) {
    test(`by ${name}, whatever source it claims, to the world, pods and the host`, () => {
      for (const source of sources) {
        for (const destination of [remote4, a4, d4]) {
          expectVerdict(fixture, udp(source, destination), facts, 'DROP_UNKNOWN_POD');
        }
        expectVerdict(fixture, udp(source, '192.168.60.1'), facts, 'DROP_UNKNOWN_POD', 'local-in');
      }
      expectVerdict(fixture, udp('2001:db8::99', remote6), facts, 'DROP_UNKNOWN_POD');
    });
  }
  testRows([
    {
      name: 'an answer of a stranger to the host, too: its interface is not known yet',
      packet: tcp('10.1.2.99', '192.168.60.1'),
      facts: { ifindex: strangerVeth, tracked: 1, info: conntrack.reply },
      counter: 'DROP_UNKNOWN_POD',
      hook: 'local-in',
    },
    {
      name: 'a stranger about itself to its neighbours',
      packet: {
        ip: { source: '::', destination: 'ff02::1:ff00:11', ttl: 255 },
        icmp: { type: 135 },
        payload: new Uint8Array(16),
      },
      facts: { ifindex: strangerPort, bridge_port: strangerPort, out: portC },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'to a veth that is not known, from the world',
      packet: tcp(remote4, '10.1.2.99'),
      facts: { ifindex: uplink, out: strangerVeth },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'to a port that is not known, from a pod that may',
      packet: tcp(d4, '10.1.2.99'),
      facts: { ifindex: portD, bridge_port: portD, out: strangerPort },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: "routed onto the pods' bridge, to an address of no endpoint",
      packet: tcp(remote4, '10.1.2.99'),
      facts: { ifindex: uplink, out: cni0 },
      counter: 'DROP_UNKNOWN_POD',
    },
    {
      name: 'the host may speak to it',
      packet: tcp('10.1.2.1', '10.1.2.99'),
      facts: { ifindex: 0, out: strangerVeth },
      counter: 'NO_ENDPOINT',
    },
    {
      name: 'docker: its bridge to the world',
      packet: tcp('172.17.0.2', remote4),
      facts: { ifindex: docker0, bridge_port: dockerPort },
      counter: 'NO_ENDPOINT',
    },
    {
      name: 'docker: its bridge to the host',
      packet: tcp('172.17.0.2', '172.17.0.1'),
      facts: { ifindex: docker0, bridge_port: dockerPort },
      counter: 'NO_ENDPOINT',
      hook: 'local-in',
    },
    {
      name: 'docker: the world to it',
      packet: tcp(remote4, '172.17.0.2'),
      facts: { ifindex: uplink, out: docker0 },
      counter: 'NO_ENDPOINT',
    },
    {
      name: 'docker: to a pod, as the world: judged by ingress policy',
      packet: tcp('172.17.0.2', b4),
      facts: { ifindex: docker0, bridge_port: dockerPort },
      counter: 'DROP_NO_MATCH',
    },
    {
      name: 'a tunnel: a remote pod to a pod',
      packet: tcp('10.1.1.11', d4),
      facts: { ifindex: tunnel },
      counter: 'FORWARDED',
    },
    {
      name: "a remote pod whose address lies in this node's pod CIDR (F6)",
      packet: tcp('10.1.0.99', d4),
      facts: { ifindex: tunnel },
      counter: 'FORWARDED',
    },
    {
      name: 'to that remote pod (F6)',
      packet: tcp(d4, '10.1.0.99'),
      facts: { ifindex: cni0, bridge_port: portD, out: tunnel },
      counter: 'FORWARDED',
    },
  ]);
});

describe('the interface of an endpoint, and a source that is none', () => {
  const nd = (type: number, ttl = 255): PacketSpec => ({
    ip: { source: 'fe80::11', destination: 'ff02::1', ttl },
    icmp: { type },
    payload: new Uint8Array(16),
  });
  const report: PacketSpec = {
    ip: { source: 'fe80::11', destination: 'ff02::16', ttl: 1 },
    icmp: { type: 143 },
  };
  testRows([
    ...[133, 135, 136].map((type) => ({
      name: `ICMPv6 ${type} on the link passes`,
      packet: nd(type),
      facts: seenFromA,
      counter: 'NO_ENDPOINT',
      hook: 'local-in' as const,
    })),
    {
      name: 'a listener report passes',
      packet: report,
      facts: seenFromA,
      counter: 'NO_ENDPOINT',
      hook: 'local-in',
    },
    {
      name: 'discovery that crossed a router',
      packet: nd(135, 254),
      facts: seenFromA,
      counter: 'DROP_UNVERIFIED',
      hook: 'local-in',
    },
    {
      name: 'echo from its link-local address',
      packet: nd(128),
      facts: seenFromA,
      counter: 'DROP_UNVERIFIED',
      hook: 'local-in',
    },
    {
      name: 'UDP from an address of the world',
      packet: udp('9.9.9.9', remote4),
      facts: seenFromA,
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'an answer to the host with the address of the Service that the host asked',
      packet: tcp('10.96.0.20', '192.168.60.1', 4000, 443),
      facts: { ...seenFromA, tracked: 1, info: conntrack.reply },
      counter: 'NO_ENDPOINT',
      hook: 'local-in',
    },
    {
      name: 'a request to the host with that address',
      packet: tcp('10.96.0.20', '192.168.60.1'),
      facts: { ...seenFromA, tracked: 1, info: conntrack.new },
      counter: 'DROP_UNVERIFIED',
      hook: 'local-in',
    },
    {
      name: 'an answer to others: before source translation it has the own address',
      packet: tcp('10.96.0.20', remote4, 4000, 443),
      facts: { ...seenFromA, tracked: 1, info: conntrack.reply },
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: "UDP from the node's address",
      packet: udp('192.168.60.1', b4),
      facts: seenFromA,
      counter: 'DROP_UNVERIFIED',
    },
    {
      name: 'no address (DHCP)',
      packet: udp('0.0.0.0', '255.255.255.255', 67),
      facts: seenFromA,
      counter: 'DROP_UNVERIFIED',
      hook: 'local-in',
    },
  ]);
});
