// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Parts that attack tests share: packets as a pod would forge them, and the proof that they got nowhere. */

import assert from 'node:assert/strict';
import { encodeQuestion } from '@tandem/testing/dns-query';
import type { Namespace } from '@tandem/testing/namespace';
import type { Pod, TestNode } from '@tandem/testing/netns';
import { buildPacket } from '@tandem/testing/packet';
import type { PacketSpec } from '@tandem/testing/packet-spec';
import type { Capture, Probe } from '@tandem/testing/probe';
import { ProbeError } from '@tandem/testing/probe-process';
import { waitFor } from '@tandem/testing/wait';
import type { TandemNode } from './tandem-node.ts';

export interface DropExpectation {
  readonly tandem: TandemNode;
  /** Kernel counter of the reason, in lower case. */
  readonly reason: string;
  /** Where it would arrive without the rule; captures nothing else. */
  readonly at: Capture;
  readonly send: () => Promise<unknown>;
  /** Packets that must be counted; default 1. */
  readonly count?: number;
}

/** Sends what must not arrive: it is counted under its reason, and `at` has seen none of it. */
export async function assertDropped(expectation: DropExpectation): Promise<void> {
  const { tandem, reason, at, send, count = 1 } = expectation;
  const arrivedBefore = (await at.captured()).matched;
  const arrived = async (): Promise<number> => (await at.captured()).matched - arrivedBefore;
  await assertCounted(tandem, reason, send, count, async () => (await arrived()) > 0);
  assert.equal(await arrived(), 0, 'it arrived');
}

/** Does something that the kernel must count `count` times; `isOver` ends the wait early. */
export async function assertCounted(
  tandem: TandemNode,
  reason: string,
  send: () => Promise<unknown>,
  count = 1,
  isOver: () => Promise<boolean> = async () => false,
): Promise<void> {
  const before = tandem.counters();
  await send();
  const enough = async (): Promise<boolean> => {
    const risen = risenSince(before, tandem);
    if ((risen.get(reason) ?? 0) >= count || (await isOver())) return true;
    throw new Error(`risen so far: ${JSON.stringify([...risen])}`);
  };
  await waitFor(enough, { what: `${count} more ${reason}` });
}

function risenSince(
  before: Readonly<Record<string, number>>,
  tandem: TandemNode,
): Map<string, number> {
  const risen = Object.entries(tandem.counters()).map(
    ([name, value]) => [name, value - (before[name] ?? 0)] as const,
  );
  return new Map(risen.filter(([, by]) => by > 0));
}

/** Time that a test waits for an answer that must not come. */
export const silenceMs = 300;

/** The request of the probe must end without an answer. */
export async function assertSilence(answer: Promise<unknown>, what: string): Promise<void> {
  await assert.rejects(answer, /ETIMEDOUT/, what);
}

/**
 * For an attacker that goes on whatever becomes of one attempt: refused, answered, cut, timed out. Anything
 * else is a defect of the test. To go on after it may be to go on for ever: a probe that ended refuses at
 * once, without a turn of the loop.
 */
export function goOn(error: unknown): null {
  if (error instanceof ProbeError) return null;
  throw error;
}

/** A frame from the pod's own interface to its gateway, unless the packet says otherwise. */
export function frameOf(pod: Pod, packet: PacketSpec): Uint8Array {
  const ethernet = { source: pod.mac, destination: pod.gatewayMac, ...packet.ethernet };
  return buildPacket({ ...packet, ethernet });
}

/** Ethernet addresses of a frame from a namespace beyond an uplink to the node. */
export async function uplinkMacs(
  node: TestNode,
  from: Namespace,
  uplink: string,
): Promise<{ source: string; destination: string }> {
  const mac = async (of: Namespace, name: string): Promise<string> => {
    const [link] = (await of.ipJson(['link', 'show', name])) as { address: string }[];
    assert.ok(link !== undefined);
    return link.address;
  };
  return { source: await mac(from, 'eth0'), destination: await mac(node.node, uplink) };
}

/** The pod's address of the same family as `other`. */
export function addressOf(pod: Pod, other: string): string {
  const address = other.includes(':') ? pod.ipv6 : pod.ipv4;
  assert.ok(address !== null);
  return address;
}

/** A DNS query over UDP, from the pod's own address. */
export function queryPacket(pod: Pod, server: string, name: string): PacketSpec {
  return {
    ip: { source: addressOf(pod, server), destination: server },
    udp: { sourcePort: 40_000 + (nextPort++ % 20_000), destinationPort: 53 },
    payload: encodeQuestion({ server, name }),
  };
}

let nextPort = 0;

/** Whether a new TCP connection comes about; one lost SYN is enough for no. */
export async function canConnect(probe: Probe, to: string, port = 80): Promise<boolean> {
  try {
    await probe.tcp({ to, port, timeoutMs: silenceMs });
    return true;
  } catch (error) {
    assert.match(String(error), /ETIMEDOUT/, `${to}:${port}`);
    return false;
  }
}
