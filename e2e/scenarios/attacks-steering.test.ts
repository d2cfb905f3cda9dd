// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS that policy judges by name cannot be brought past the proxy (safety rule 1; threats T12, T23):
 * whatever headers a pod writes around a query for a denied name, the DNS server never sees it.
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import type { ServiceSpec } from '@tandem/testing/kube-proxy';
import { buildFragments, concatBytes } from '@tandem/testing/packet';
import { type ExtensionSpec, ipProtocol, type PacketSpec } from '@tandem/testing/packet-spec';
import { type Capture, Probe } from '@tandem/testing/probe';
import { waitForDegraded, waitForMended } from '../kit/admin.ts';
import {
  addressOf,
  assertCounted,
  assertDropped,
  assertSilence,
  frameOf,
  queryPacket,
  silenceMs,
} from '../kit/attack.ts';
import { doctorOf } from '../kit/doctor.ts';
import { startForeignProgram } from '../kit/foreign-program.ts';
import { serviceObjects } from '../kit/objects.ts';
import { clusterDns4, clusterDns6, startStandardNode } from '../kit/standard-node.ts';

const standard = await startStandardNode();
after(() => standard[Symbol.asyncDispose]());
const { client, dns, node, tandem } = standard;
const pod = node.pod('client');
const dnsPod = node.pod('dns');
const dnsProbe = node.own(Probe.start(dnsPod.namespace));
/** Everything that reaches the DNS server and is about a denied name. */
const atServer: Capture = await dnsProbe.capture({ contains: 'denied' });

let next = 1;
const deniedName = (): string => `n-${next++}.denied.test`;

const nothingLeaked = async (): Promise<void> => {
  // A query that is allowed comes after all others: what leaked is there by now.
  await askDns(client, { server: clusterDns4, name: 'n-1.allowed.test' });
  const seen = await dns.queries();
  assert.deepEqual(
    seen.filter(({ name }) => name.endsWith('denied.test')).map(({ name, to }) => `${name} ${to}`),
    [],
  );
};

interface Shape {
  readonly what: string;
  /** Counter that it must be dropped under; null: it goes some other way, but not to the server. */
  readonly reason: string | null;
  readonly frames: (query: PacketSpec) => readonly Uint8Array[];
}

const single =
  (change: (query: PacketSpec) => PacketSpec): Shape['frames'] =>
  (query) => [frameOf(pod, change(query))];
const withIp = (fields: Partial<NonNullable<PacketSpec['ip']>>): Shape['frames'] =>
  single((query) => ({
    ...query,
    ip: { ...(query.ip as NonNullable<PacketSpec['ip']>), ...fields },
  }));
const withUdp = (fields: Partial<NonNullable<PacketSpec['udp']>>): Shape['frames'] =>
  single((query) => ({
    ...query,
    udp: { ...(query.udp as NonNullable<PacketSpec['udp']>), ...fields },
  }));
const fragmented =
  (bytes: number, only?: 'head' | 'tail'): Shape['frames'] =>
  (query) => {
    const ethernet = { source: pod.mac, destination: pod.gatewayMac };
    const all = buildFragments({ ...query, ethernet }, bytes);
    return only === 'head' ? all.slice(0, 1) : only === 'tail' ? all.slice(1) : all;
  };
/** The bytes of a UDP datagram, said to be of another protocol. */
const asProtocol = (protocol: number): Shape['frames'] =>
  single((query) => {
    const udp = Uint8Array.of(156, 64, 0, 53, 0, 0, 0, 0);
    const ip = { ...(query.ip as NonNullable<PacketSpec['ip']>), protocol };
    return { ip, payload: concatBytes([udp, query.payload as Uint8Array]) };
  });

const both: readonly Shape[] = [
  { what: 'fragments of 8 bytes', reason: 'drop_fragment', frames: fragmented(8) },
  { what: 'fragments of 24 bytes', reason: 'drop_fragment', frames: fragmented(24) },
  { what: 'the first fragment alone', reason: 'drop_fragment', frames: fragmented(24, 'head') },
  { what: 'the last fragments alone', reason: 'drop_fragment', frames: fragmented(24, 'tail') },
  { what: 'UDP length too small', reason: null, frames: withUdp({ length: 4 }) },
  { what: 'UDP length too large', reason: null, frames: withUdp({ length: 900 }) },
  { what: 'UDP checksum wrong', reason: null, frames: withUdp({ checksum: 0x1234 }) },
  { what: 'UDP-Lite', reason: null, frames: asProtocol(136) },
  { what: 'SCTP', reason: null, frames: asProtocol(132) },
  { what: 'DCCP', reason: 'drop_no_match', frames: asProtocol(33) },
  { what: 'IP length too small', reason: null, frames: withIp({ length: 24 }) },
];
const ipv4: readonly Shape[] = [
  {
    what: 'no-operation options',
    reason: 'drop_options',
    frames: withIp({ options: Uint8Array.of(1, 1, 1, 1) }),
  },
  {
    what: 'record route',
    reason: 'drop_options',
    frames: withIp({ options: Uint8Array.of(7, 7, 4, 0, 0, 0, 0) }),
  },
  {
    what: 'loose source route',
    reason: 'drop_options',
    frames: withIp({ options: Uint8Array.of(131, 7, 4, 10, 1, 0, 12) }),
  },
  {
    what: 'router alert',
    reason: 'drop_options',
    frames: withIp({ options: Uint8Array.of(148, 4, 0, 0) }),
  },
  {
    what: 'a header that ends in the payload',
    reason: null,
    frames: withIp({ headerWords: 8 }),
  },
  { what: 'a header of four words', reason: 'drop_parse', frames: withIp({ headerWords: 4 }) },
  { what: 'UDP without checksum', reason: 'redirected', frames: withUdp({ checksum: 0 }) },
];
const extensions = (...kinds: readonly ExtensionSpec['kind'][]): Shape['frames'] =>
  withIp({
    extensions: kinds.map((kind) =>
      kind === 'fragment' ? { kind, offset: 0, more: false } : { kind },
    ),
  });
const ipv6: readonly Shape[] = [
  { what: 'hop-by-hop options', reason: 'drop_options', frames: extensions('hop-by-hop') },
  { what: 'destination options', reason: 'drop_options', frames: extensions('destination') },
  { what: 'a routing header', reason: 'drop_options', frames: extensions('routing') },
  { what: 'an atomic fragment', reason: 'drop_options', frames: extensions('fragment') },
  {
    what: 'four extension headers',
    reason: 'drop_options',
    frames: extensions('hop-by-hop', 'destination', 'routing', 'destination'),
  },
  {
    what: 'five extension headers',
    reason: 'drop_parse',
    frames: extensions('hop-by-hop', 'destination', 'destination', 'destination', 'destination'),
  },
  { what: 'no next header', reason: null, frames: asProtocol(ipProtocol.noNext) },
  {
    what: 'UDP without checksum',
    reason: null,
    frames: withUdp({ checksum: 0 }),
  },
];

const servers = [
  { server: clusterDns4, shapes: [...both, ...ipv4] },
  { server: addressOf(dnsPod, clusterDns4), shapes: [...both, ...ipv4] },
  { server: clusterDns6, shapes: [...both, ...ipv6] },
  { server: addressOf(dnsPod, clusterDns6), shapes: [...both, ...ipv6] },
];
for (const { server, shapes } of servers) {
  describe(`a query for a denied name to ${server}, with`, () => {
    for (const { what, reason, frames } of shapes) {
      test(what, async () => {
        const query = queryPacket(pod, server, deniedName());
        const send = async (): Promise<void> => {
          for (const frame of frames(query)) await client.frame(frame);
        };
        if (reason === null) await send();
        else await assertDropped({ tandem, reason, at: atServer, send });
      });
    }
    test('any of these leaves nothing at the server', nothingLeaked);
  });
}

describe('a packet ring leaves 14 linear bytes', () => {
  for (const server of [clusterDns4, clusterDns6]) {
    test(`a denied name to ${server} is steered`, async () => {
      const frame = frameOf(pod, queryPacket(pod, server, deniedName()));
      await assertDropped({
        tandem,
        reason: 'redirected',
        at: atServer,
        send: () => client.ring(frame),
      });
      await nothingLeaked();
    });

    test(`an allowed name to ${server} is answered`, async () => {
      await using capture = await client.capture({ contains: 'ringed' });
      const query = queryPacket(pod, server, 'n-7.ringed.allowed.test');
      await client.ring(frameOf(pod, query));
      const { frames } = await capture.captured({ count: 2 });
      // A capture sees its own interface's frames; no socket listens there, so the kernel may add an error.
      assert.ok(frames.some(({ isOutgoing }) => !isOutgoing));
    });
  }
});

describe('a foreign tcx program ahead of ours', () => {
  let foreign: AsyncDisposable;
  before(async () => {
    foreign = await startForeignProgram(node.node, pod.hostIfindex);
  });
  after(() => foreign[Symbol.asyncDispose]());

  for (const server of servers.map((entry) => entry.server)) {
    test(`lets no query through to ${server}`, async () => {
      const frame = frameOf(pod, queryPacket(pod, server, deniedName()));
      await assertDropped({
        tandem,
        reason: 'drop_not_redirected',
        at: atServer,
        send: () => client.frame(frame),
      });
    });
  }

  test('is named by the agent and by doctor', async () => {
    const told = new RegExp(`runs before from_pod or guard_exit on ${pod.hostInterface}: `);
    assert.match(await waitForDegraded(tandem, 'agent', 'endpoint-chain'), told);
    const { code, checks } = await doctorOf(tandem);
    const found = checks.get('endpoint-chain');
    assert.equal(found?.status, 'warn');
    assert.match(found?.why ?? '', new RegExp(`on interface ${pod.hostIfindex}: `));
    assert.equal(code, 0, 'a warning');
  });
});

test('once the foreign program is gone, neither the agent nor doctor names it', async () => {
  await waitForMended(tandem, 'agent', 'endpoint-chain');
  assert.equal((await doctorOf(tandem)).checks.has('endpoint-chain'), false);
});

describe('a Service of the DNS pods on another port than 53', () => {
  const services = (['udp', 'tcp'] as const).flatMap((protocol): ServiceSpec[] => [
    {
      clusterIp: '10.96.0.53',
      port: 5353,
      protocol,
      backends: [{ address: addressOf(dnsPod, '10.'), port: 53 }],
    },
    {
      clusterIp: 'fd00:96::53',
      port: 5353,
      protocol,
      backends: [{ address: addressOf(dnsPod, 'fd00::'), port: 53 }],
    },
  ]);
  before(async () => {
    await node.setServices([...standard.services, ...services]);
    const revision = tandem.appliedRevision();
    tandem.write('other-port.yaml', serviceObjects('other-port', 'kube-system', services));
    await tandem.waitForRevision(revision);
  });

  for (const server of ['10.96.0.53', 'fd00:96::53']) {
    for (const transport of ['udp', 'tcp'] as const) {
      test(`reaches no server by ${transport} to ${server}`, async () => {
        await assertCounted(tandem, 'drop_not_redirected', async () => {
          const asked = { server, port: 5353, transport, name: deniedName(), timeoutMs: silenceMs };
          await assertSilence(askDns(client, asked), 'the Service answered');
        });
        await nothingLeaked();
      });
    }
  }
});
