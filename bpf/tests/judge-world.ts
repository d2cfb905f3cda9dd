// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The pods and classes of the judge tests, packets between them, and what is checked of a verdict. */

import assert from 'node:assert/strict';
import { mappedAddressBytes } from '@tandem/testing/address';
import { buildPacket } from '@tandem/testing/packet';
import { parsePacket } from '@tandem/testing/packet-parse';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import type { Fixture } from './fixture.ts';

export const a4 = '10.1.0.11';
export const b4 = '10.1.0.12';
export const a6 = 'fd00:1::11';
export const b6 = 'fd00:1::12';
export const dns4 = '10.96.0.10';
export const remote4 = '203.0.113.10';
export const remote6 = '2001:db8::10';
export const vethA = 11;
export const vethB = 13;
export const uplink = 2;
/** The interface of a pod that is not known. */
export const strangerVeth = 17;
export const selector = 0x80000001;
export const otherSelector = 0x80000002;
export const seenFromA: { readonly ifindex: number } = { ifindex: vethA };
export const conntrack = { established: 0, related: 1, new: 2, reply: 3, untracked: 7 } as const;
export const confirmed = 8;
/** enum tcp_conntrack. */
export const tcpState = {
  none: 0,
  synSent: 1,
  synReceived: 2,
  established: 3,
  finWait: 4,
  closeWait: 5,
  lastAck: 6,
  timeWait: 7,
  close: 8,
} as const;

/** Pod a enforces egress, pod b ingress, each behind a veth of its own; a stranger; the classes of a node. */
export function setUpJudge(fixture: Fixture): void {
  fixture.reset();
  for (const address of [a4, a6]) {
    fixture.endpoint(address, {
      id: 1,
      policyId: 1,
      ifindex: vethA,
      classId: 51,
      flags: ['ENFORCE_EGRESS'],
    });
  }
  for (const address of [b4, b6]) {
    fixture.endpoint(address, {
      id: 2,
      policyId: 2,
      ifindex: vethB,
      classId: 52,
      flags: ['ENFORCE_INGRESS'],
    });
  }
  fixture.device(uplink, 'TRUSTED');
  fixture.device(strangerVeth, 'STRANGER');
  for (const port of [4789, 8472, 6081]) fixture.tunnelPort(port);
  fixture.class('10.1.0.0', 16, 20, ['CLUSTER', 'LOCAL_PODS']);
  fixture.class('fd00:1::', 64, 20, ['CLUSTER', 'LOCAL_PODS']);
  fixture.class('192.168.60.0', 24, 30, ['NODE', 'CLUSTER']);
  fixture.class('10.1.0.1', 32, 30, ['NODE', 'CLUSTER']);
  fixture.class('::1', 128, 30, ['NODE', 'CLUSTER']);
  fixture.class('203.0.113.0', 24, 40);
}

export type Hook = 'local-in' | 'post-routing';
export type Facts = Readonly<Record<string, number | Uint8Array>>;

export function udp(
  source: string,
  destination: string,
  destinationPort = 443,
  sourcePort = 4000,
): PacketSpec {
  return { ip: { source, destination }, udp: { sourcePort, destinationPort }, payload: 'data' };
}

export function tcp(
  source: string,
  destination: string,
  destinationPort = 443,
  sourcePort = 4000,
): PacketSpec {
  return { ip: { source, destination }, tcp: { sourcePort, destinationPort, flags: ['syn'] } };
}

/** `facts` with the interface by which the packet leaves: the endpoint's that it is for, else the uplink. */
export function withOut(fixture: Fixture, packet: PacketSpec | Uint8Array, facts: Facts): Facts {
  const bytes = packet instanceof Uint8Array ? packet : buildPacket(packet);
  const destination = parsePacket(bytes).ip?.destination ?? '::';
  const endpoint = fixture.map('endpoints').lookup(mappedAddressBytes(destination));
  if (endpoint === null) return { out: uplink, ...facts };
  return { out: fixture.structs.read('td_endpoint', endpoint, 'veth_ifindex'), ...facts };
}

/**
 * Judges one packet and checks the one counter that moves; a drop must also be told in one event. The packet
 * leaves as withOut() says.
 */
export function expectVerdict(
  fixture: Fixture,
  packet: PacketSpec | Uint8Array,
  facts: Facts,
  counter: string | null,
  hook: Hook = 'post-routing',
): void {
  fixture.facts(hook === 'local-in' ? facts : withOut(fixture, packet, facts));
  const got = fixture.hook('judge', hook, packet);
  const isDrop = counter?.startsWith('DROP_') ?? false;
  assert.deepEqual(got.counted, counter === null ? {} : { [counter]: 1 });
  assert.equal(got.verdict, isDrop ? 'drop' : 'accept');
  const events = fixture.takeEvents();
  assert.equal(events.length, isDrop ? 1 : 0, 'events');
  if (isDrop)
    assert.equal(events[0]?.read('reason'), fixture.structs.number(`TD_COUNT_${counter}`));
}

/** An entry of policy 1. */
export function addRule(
  fixture: Fixture,
  peer: number,
  spec: {
    port?: number;
    protocol?: number;
    policyId?: number;
    verdict?: 'NONE' | 'ALLOW' | 'DENY' | 'L7_DNS';
    isDecided?: boolean;
    direction?: 'ingress' | 'egress';
    ruleId?: number;
    portBits?: number;
  } = {},
): void {
  fixture.policy({ peer, direction: 'egress', verdict: 'ALLOW', ...spec });
}
