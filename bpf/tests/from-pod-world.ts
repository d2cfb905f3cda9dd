// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The pods of the from_pod tests, the frames that they send, and what is checked of each. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressBytes } from '@tandem/testing/address';
import { buildPacket } from '@tandem/testing/packet';
import type { ExtensionSpec, PacketSpec } from '@tandem/testing/packet-spec';
import { type Fixture } from './fixture.ts';
import { mark } from './kernel-world.ts';

export const own4 = '10.1.0.11';
export const own6 = 'fd00:1::11';
export const other4 = '10.1.0.12';
export const other6 = 'fd00:1::12';
export const dns4 = '10.96.0.10';
export const dns6 = 'fd00:96::10';
export const linkLocal = 'fe80::11';
export const gateway6 = 'fe80::1';
/** As addr_gen_mode random or stable-privacy makes it: of no Ethernet address. */
export const random6 = 'fe80::5a3c:91d2:ab01:77e4';
export const foreignMark = 0x8004;

/** Own pod with DNS rules on the loopback, another pod elsewhere, one LIVE member. */
export function setUpPods(fixture: Fixture): void {
  fixture.reset();
  for (const address of [own4, own6]) fixture.endpoint(address, { id: 1, flags: ['DNS'] });
  for (const address of [other4, other6]) fixture.endpoint(address, { id: 2, ifindex: 7 });
  for (const server of [dns4, dns6]) {
    fixture.dnsServer(server, 17);
    fixture.dnsServer(server, 6);
  }
  fixture.member(0, 'LIVE');
}

/** As the agent writes link-local addresses that the node has at a bridge (`linkLocalAddresses` in compile.test.ts). */
export function classifyAtBridge(fixture: Fixture): void {
  for (const address of [gateway6, random6]) fixture.class(address, 128, 5, ['NODE', 'LINK_LOCAL']);
}

export interface FrameRow {
  readonly name: string;
  readonly frame: PacketSpec | Uint8Array;
  /** The counter of the reason; none: passes. */
  readonly drop?: string;
  /** The mark's bit of a frame that passes; default clear, but set in ARP. */
  readonly mark?: number;
}

/** One test for each row: verdict, the one counter, the one event, mark, bytes. */
export function testFrames(fixture: Fixture, list: readonly FrameRow[]): void {
  for (const row of list) {
    test(row.name, () => {
      const got = fixture.frame('from_pod', row.frame, { mark: foreignMark | mark });
      assert.equal(got.verdict, row.drop === undefined ? 'next' : 'drop');
      if (row.drop !== undefined) {
        assert.deepEqual(got.counted, { [row.drop]: 1 });
        const [event, ...more] = fixture.takeEvents();
        assert.ok(event !== undefined && more.length === 0, 'one event');
        assert.equal(event.read('reason'), fixture.structs.number(`TD_COUNT_${row.drop}`));
        assert.equal(event.read('hook'), 0);
        return;
      }
      const sent = row.frame instanceof Uint8Array ? row.frame : buildPacket(row.frame);
      assert.equal(got.mark & mark, row.mark ?? (etherType(sent) === arpType ? mark : 0));
      assert.equal(got.mark & ~mark, foreignMark, 'bits of others stay');
      if (row.mark === mark) return;
      assert.deepEqual(got.counted, isUnseenByJudge(sent) ? { NEIGHBOUR: 1 } : {});
      assert.deepEqual(got.bytes, sent, 'bytes unchanged');
    });
  }
}

const arpType = 0x0806;
const etherType = (frame: Uint8Array): number => ((frame[12] ?? 0) << 8) | (frame[13] ?? 0);

/** ARP, and IPv6 from a link-local address or none. */
function isUnseenByJudge(frame: Uint8Array): boolean {
  const type = etherType(frame);
  const source = frame.subarray(22, 38);
  const isLinkLocal = source[0] === 0xfe && ((source[1] ?? 0) & 0xc0) === 0x80;
  return (
    type === arpType || (type === 0x86dd && (isLinkLocal || source.every((each) => each === 0)))
  );
}

export function udp(source: string, destination: string, destinationPort = 443): PacketSpec {
  return {
    ip: { source, destination },
    udp: { sourcePort: 4000, destinationPort },
    payload: 'data',
  };
}

export function tcp(source: string, destination: string, destinationPort = 443): PacketSpec {
  return {
    ip: { source, destination },
    tcp: { sourcePort: 4000, destinationPort, flags: ['syn'] },
  };
}

export function icmp6(
  source: string,
  destination: string,
  type: number,
  options: { readonly ttl?: number; readonly target?: string; readonly ext?: ExtensionSpec[] } = {},
): PacketSpec {
  const target = options.target;
  return {
    ip: { source, destination, ttl: options.ttl ?? 255, extensions: options.ext ?? [] },
    icmp: { type },
    // a router solicitation has no target: what follows it are options
    payload: target === undefined ? new Uint8Array(type === 133 ? 0 : 16) : addressBytes(target),
  };
}

export const routerAlert: ExtensionSpec = {
  kind: 'hop-by-hop',
  options: Uint8Array.of(5, 2, 0, 0, 1, 0),
};

/** A built frame with one byte changed. */
export function patched(spec: PacketSpec, at: number, value: number): Uint8Array {
  const frame = buildPacket(spec);
  frame[at] = value;
  return frame;
}
