// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Forged replies in bulk, from beside the way (T8): a host that can put frames on the uplink in the DNS
 * server's name, and knows what is asked and when, has to guess port and id of one query.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { addressBytes } from '@tandem/testing/address';
import { askDns, encodeQuestion } from '@tandem/testing/dns-query';
import { DnsServer } from '@tandem/testing/dns-server';
import { plan } from '@tandem/testing/node-plan';
import { buildPacket, concatBytes } from '@tandem/testing/packet';
import { Probe } from '@tandem/testing/probe';
import { counterOf } from '../kit/admin.ts';
import { uplinkMacs } from '../kit/attack.ts';
import { learnedAddresses } from '../kit/learned.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { startStandardNode } from '../kit/standard-node.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const rounds = isFull ? 20 : 4;
const forgedPerRound = 5000;
/** Each over a socket drawn at random: after so many nearly all of the random ports are open. */
const openingQuestions = 300;
const questions = 100;
const waitMs = 600;
const server = '203.0.113.53';
const truth = '198.51.100.31';
const poison = '198.51.100.99';
const udpHeader = { port: 2, checksum: 6, bytes: 8 } as const;
const pattern = [{ matchPattern: '**.allowed.test' }];
const standard = await startStandardNode({
  policies: [
    dnsPolicy({
      selects: { app: 'client' },
      dns: pattern,
      fqdns: pattern,
      dnsPeers: { toCIDR: [`${server}/32`] },
    }),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { client, node, tandem } = standard;
const forger = node.own(Probe.start(node.upstream));

/** A frame with the reply to the first of the questions, to a port and with an id that are to be filled in. */
async function forgedFrame(name: string): Promise<{ frame: Uint8Array; randomAt: number[] }> {
  const message = concatBytes([
    encodeQuestion({ server, name, id: 0 }),
    Uint8Array.of(0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4),
    addressBytes(poison),
  ]);
  message.set([0x85, 0x80], 2);
  message[7] = 1;
  const frame = buildPacket({
    ethernet: await uplinkMacs(node, node.upstream, plan.upstreamUplink),
    ip: { source: server, destination: plan.nodeUpstream4 },
    udp: { sourcePort: 53, destinationPort: 0 },
    payload: message,
  });
  const udpAt = frame.length - message.length - udpHeader.bytes;
  frame.fill(0, udpAt + udpHeader.checksum, udpAt + udpHeader.bytes);
  return { frame, randomAt: [udpAt + udpHeader.port, udpAt + udpHeader.bytes] };
}

async function unsolicited(): Promise<number> {
  const counter = 'tandem_dns_replies_unsolicited_total';
  const [agent, proxy] = await Promise.all([
    counterOf(tandem, 'agent', counter),
    counterOf(tandem, 'proxy', counter),
  ]);
  return agent + proxy;
}

test(`${rounds * forgedPerRound} forged replies: none counts, every true one is delivered`, async (t) => {
  const answers = [{ type: 'A', data: truth }] as const;
  const rules = [
    { name: 'open.allowed.test', answers },
    { suffix: 'allowed.test', answers, replies: [{ delayMs: waitMs }] },
  ];
  await using _server = await DnsServer.start(node.upstream, { addresses: [server], rules });
  for (let i = 0; i < openingQuestions; i++) {
    await askDns(client, { server, name: 'open.allowed.test' });
  }
  const before = await unsolicited();
  for (let round = 0; round < rounds; round++) {
    const names = Array.from({ length: questions }, (_, i) => `q-${round}-${i}.allowed.test`);
    const { frame: data, randomAt } = await forgedFrame(names[0] as string);
    const waiting = Promise.all(names.map((name) => askDns(client, { server, name })));
    const amount = { count: forgedPerRound, seed: round + 1, rate: forgedPerRound * 2 };
    await forger.blast({ interface: 'eth0', data, randomAt, ...amount });
    for (const { addresses } of await waiting) assert.deepEqual(addresses, [truth]);
    assert.ok(!learnedAddresses(tandem).has(poison), 'the poison was learned');
  }
  const refused = (await unsolicited()) - before;
  t.diagnostic(`${refused} of the forged replies met a port with queries in flight`);
  assert.ok(refused > 0, 'no forged reply ever came to a socket');
});
