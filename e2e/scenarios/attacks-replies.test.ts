// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Replies over the MTU keep the server's port (safety rule 16), and the end of a TTL closes what is new
 * and nothing that is open (rule 15).
 */

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { askDns, encodeQuestion, readReply } from '@tandem/testing/dns-query';
import { parsePacket } from '@tandem/testing/packet-parse';
import { waitFor } from '@tandem/testing/wait';
import { canConnect } from '../kit/attack.ts';
import { clusterDns4, clusterDns6, startStandardNode } from '../kit/standard-node.ts';

const mtu = 1280;
const short = '198.51.100.8';
const udpPort = 9000;
const addresses = Array.from({ length: 120 }, (_, i) => `2001:db8:1::${(i + 1).toString(16)}`);
const standard = await startStandardNode({
  rules: [
    {
      name: 'big.allowed.test',
      type: 'AAAA',
      answers: addresses.map((data) => ({ type: 'AAAA', data })),
    },
    {
      name: 'text.allowed.test',
      answers: Array.from({ length: 15 }, (_, i) => ({
        type: 'TXT',
        data: `${i}-${'t'.repeat(200)}`,
      })),
    },
    { name: 'short.allowed.test', answers: [{ type: 'A', data: short, ttl: 2 }] },
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { client, internet, node, tandem } = standard;
const pod = node.pod('client');

describe(`a reply over an MTU of ${mtu}`, () => {
  before(async () => {
    await node.node.ip([`link set ${pod.hostInterface} mtu ${mtu}`]);
    await pod.namespace.ip([`link set eth0 mtu ${mtu}`]);
  });
  for (const server of [clusterDns4, clusterDns6]) {
    for (const [name, type, count] of [
      ['big.allowed.test', 'AAAA', addresses.length],
      ['text.allowed.test', 'TXT', 15],
    ] as const) {
      test(`${type} of ${count} records from ${server} comes from port 53, whole`, async () => {
        await using capture = await client.capture();
        const data = encodeQuestion({ server, name, type, ednsBytes: 4096 });
        const { replies } = await client.udp({ to: server, port: 53, data });
        assert.deepEqual(
          replies.map(({ from, fromPort }) => [from, fromPort]),
          [[server, 53]],
        );
        const reply = readReply(replies[0]?.data ?? new Uint8Array(0), server);
        assert.deepEqual([reply.answers.length, reply.isTruncated], [count, false]);
        const { frames } = await capture.captured();
        const fragments = frames
          .filter(({ isOutgoing }) => !isOutgoing)
          .map(({ bytes }) => parsePacket(bytes))
          .filter(({ ip }) => ip?.source === server && ip.fragment !== null);
        assert.ok(fragments.length > 1, 'it came in fragments');
      });
    }
  }

  test('what it teaches is learned whole', async () => {
    const last = addresses.at(-1) ?? '';
    assert.ok(await canConnect(client, last));
  });
});

test('a one-way UDP stream outlives the TTL of its name, a new one does not begin', async () => {
  const sink = await internet.listen({
    protocol: 'udp',
    address: '0.0.0.0',
    port: udpPort,
    mode: 'sink',
  });
  const received = async (): Promise<number> => (await sink.served()).datagrams;
  await askDns(client, { server: clusterDns4, name: 'short.allowed.test' });
  const stream = await client.associate({ to: short, port: udpPort, data: 'first' });
  await waitFor(async () => (await received()) === 1, { what: 'the first datagram' });
  await waitFor(async () => !(await canConnect(client, short)), {
    what: 'the name to expire',
    timeoutMs: 10_000,
  });
  assert.ok((tandem.counters()['drop_fqdn_expired'] ?? 0) > 0);
  await client.udp({ to: short, port: udpPort, data: 'new', want: 0 });
  for (let i = 2; i <= 5; i++) {
    await stream.exchange({ data: 'more' });
    await waitFor(async () => (await received()) === i, { what: `datagram ${i}` });
  }
});
