// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** judge: what the host sends to an endpoint's address leaves by the endpoint's interface, or not at all (rule 18). */

import { after, beforeEach, describe, test } from 'node:test';
import {
  c4,
  c6,
  cni0,
  docker0,
  portC,
  portD,
  setUpBridge,
  strangerPort,
  tunnel,
} from './bridge-world.ts';
import { Fixture } from './fixture.ts';
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
  setUpJudge,
  strangerVeth,
  tcp,
  udp,
  uplink,
  vethA,
  vethB,
} from './judge-world.ts';
import { portP } from './kernel-world.ts';

const fixture = new Fixture();
after(() => fixture[Symbol.dispose]());
beforeEach(() => setUpJudge(fixture));

describe('what the host sends to an address of an endpoint leaves by its interface, too (rule 18)', () => {
  beforeEach(() => setUpBridge(fixture));
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
