// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * judge: the interfaces by which a packet enters and leaves decide its endpoints (ADR 12, rules 3 and 6).
 * Bridged pods: `ifindex` is the bridge, `bridge_port` the port that br_netfilter saw.
 */

import { after, beforeEach, describe, test } from 'node:test';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import {
  c4,
  c6,
  cni0,
  d4,
  docker0,
  dockerPort,
  portC,
  portD,
  setUpBridge,
  strangerPort,
  tunnel,
} from './bridge-world.ts';
import { Fixture } from './fixture.ts';
import {
  a4,
  addRule,
  b4,
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
  beforeEach(() => setUpBridge(fixture));
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
    setUpBridge(fixture);
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
  beforeEach(() => setUpBridge(fixture));
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

describe('strangers, in and out (rule 6, F4, F6)', () => {
  beforeEach(() => setUpBridge(fixture));
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
