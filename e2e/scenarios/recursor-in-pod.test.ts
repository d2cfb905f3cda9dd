// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A recursor in a pod asks the servers of the zones that it is asked for, and many servers of the internet are dead.
 * It meets more of them at once than a pod has places for servers: those that are silent longest are given up, and
 * the zones whose servers answer are resolved all the time. What a server in the pod answers is nothing that it asks.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { upstreamServersPerEndpointMax } from '@tandem/dns-proxy/limits';
import { askDns, encodeQuestion, readReply } from '@tandem/testing/dns-query';
import { numberedAddress } from '@tandem/testing/dns-script';
import { DnsServer } from '@tandem/testing/dns-server';
import { Probe } from '@tandem/testing/probe';
import { Unbound } from '@tandem/testing/unbound';
import { goOn } from '../kit/attack.ts';
import { bothCount } from '../kit/dns-counters.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { startStandardNode } from '../kit/standard-node.ts';

const localhost = '127.0.0.1';
const liveServer = '198.18.200.1';
const firstDeadServer = '198.18.201.1';
/** Three times as many as the pod has places, asked within the time that one query is waited for. */
const deadServers = 3 * upstreamServersPerEndpointMax;
const deadPerSecond = 12;
const livePerSecond = 10;
/** Less than a stub resolver waits. */
const timeoutMs = 2500;

const any = [{ matchPattern: '*' }];
const standard = await startStandardNode({
  pods: [{ name: 'recursor' }],
  policies: [dnsPolicy({ selects: { app: 'recursor' }, dns: any, fqdns: any, dnsPeers: {} })],
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;
const { namespace } = node.pod('recursor');
// Without a word: a closed port would be told.
await node.upstream.ip(['route add blackhole 198.18.201.0/24 table local']);
node.own(
  await DnsServer.start(node.upstream, {
    addresses: [liveServer],
    rules: [{ suffix: 'live.test', numbered: { ipv4: '198.18.0.0' } }],
  }),
);
const forward = (zone: string, server: string): string[] => [
  'forward-zone:',
  `  name: "${zone}"`,
  `  forward-addr: ${server}`,
];
const dead = Array.from({ length: deadServers }, (_, i) => ({
  zone: `dead-${i}.test`,
  server: numberedAddress(firstDeadServer, i),
}));
node.own(
  await Unbound.start(namespace, {
    addresses: [localhost],
    zones: { 'test.': 'transparent' },
    extra: [
      ...forward('live.test', liveServer),
      ...dead.flatMap(({ zone, server }) => forward(zone, server)),
    ],
  }),
);
const stub = node.own(Probe.start(namespace));

/** The pod's own recursor is asked. */
async function lookUp(name: string): Promise<string> {
  const data = encodeQuestion({ server: localhost, name });
  const { replies } = await stub.udp({ to: localhost, port: 53, data, timeoutMs });
  const [reply] = replies;
  return reply === undefined ? 'nothing' : readReply(reply.data, reply.from).rcode;
}

test(`${deadPerSecond} dead servers a second: names of a server that answers are all resolved`, async () => {
  assert.equal(await lookUp('n-1.live.test'), 'NOERROR');
  const before = await bothCount(tandem, 'serversGivenUp');
  const dyingLookups: Promise<unknown>[] = [];
  const outcomes: Promise<string>[] = [];
  const start = performance.now();
  for (let i = 0; i < deadServers; i++) {
    await delay(Math.max(0, start + (i * 1000) / deadPerSecond - performance.now()));
    dyingLookups.push(lookUp(`n-1.${dead[i]?.zone}`).catch(goOn));
    while (outcomes.length < ((i + 1) * livePerSecond) / deadPerSecond) {
      outcomes.push(lookUp(`n-${2 + outcomes.length}.live.test`).catch(String));
    }
  }
  const failed = (await Promise.all(outcomes)).filter((outcome) => outcome !== 'NOERROR');
  await Promise.all(dyingLookups);
  const givenUp = (await bothCount(tandem, 'serversGivenUp')) - before;
  console.log(`${failed.length} of ${outcomes.length} failed, ${givenUp} servers given up`);
  assert.deepEqual(failed, []);
  assert.ok(givenUp > 0, 'the pod was over its bound');
});

test('a DNS server in the pod answers clients that ask from port 53', async () => {
  const { ipv4, ipv6 } = node.pod('recursor');
  const addresses = [ipv4 ?? '', ipv6 ?? ''];
  const rules = [{ suffix: 'own.test', numbered: { ipv4: '198.18.0.0' } }];
  await using _server = await DnsServer.start(namespace, { addresses, rules });
  await using client = Probe.start(node.node);
  for (const server of addresses) {
    for (const sourcePort of [5353, 53]) {
      const reply = await askDns(client, { server, name: 'n-3.own.test', sourcePort });
      assert.deepEqual(reply.addresses, ['198.18.0.3'], `${server} from port ${sourcePort}`);
    }
  }
});
