// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One tenant's DNS does nothing to its neighbours' (safety rule 7; threats T7, T13): many silent servers, a
 * server of the tenant's own that streams junk or reads nothing, queries over TCP at line rate, and all of it at
 * once. Neighbours ask the cluster's resolver, a real one, over UDP and over TCP all the time.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Probe } from '@tandem/testing/probe';
import { Unbound } from '@tandem/testing/unbound';
import { waitFor } from '@tandem/testing/wait';
import { degradedOf } from '../kit/admin.ts';
import { bothCount, processes } from '../kit/dns-counters.ts';
import {
  assertUnharmed,
  describeReport,
  type NeighbourReport,
  Neighbours,
} from '../kit/neighbours.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { standardPolicy, startStandardNode } from '../kit/standard-node.ts';
import {
  askJunkServer,
  askSilentServers,
  junkReplies,
  writeAtLineRate,
  writeLongQueries,
} from '../kit/tenant-attacks.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const seconds = isFull ? 25 : 3;
/** The neighbours are measured for so long of it: from when the attack has its full strength. */
const rampSeconds = 1;

const any = [{ matchPattern: '*' }];
const allowed = [{ matchPattern: '*.allowed.test' }];
const ranges = { toCIDR: ['198.18.0.0/24', '198.18.1.0/24'] } as const;
const ownServer = { toEndpoints: [{ matchLabels: { app: 'own-dns' } }] } as const;
const policyOf = (name: string, dnsPeers?: object): object =>
  dnsPolicy({
    ...{
      name,
      selects: { app: name },
      dns: dnsPeers === undefined ? allowed : any,
      fqdns: allowed,
    },
    ...(dnsPeers === undefined ? {} : { dnsPeers }),
  });

const standard = await startStandardNode({
  pods: ['by-tcp', 'free', 'wild', 'wild-2', 'ranged', 'owner', 'own-dns', 'strict'].map(
    (name) => ({ name }),
  ),
  policies: [
    standardPolicy,
    ...['by-tcp', 'strict'].map((name) => policyOf(name)),
    // A DNS rule without peers: any server.
    ...['wild', 'wild-2'].map((name) => policyOf(name, {})),
    policyOf('ranged', ranges),
    policyOf('owner', ownServer),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;
// A resolver that is none of the attack's victims: a scripted one would be.
await standard.dns[Symbol.asyncDispose]();
node.own(
  await Unbound.start(node.pod('dns').namespace, {
    zones: { 'allowed.test.': 'redirect' },
    data: ['allowed.test. 60 IN A 198.18.0.1'],
    extra: ['incoming-num-tcp: 2000', 'num-queries-per-thread: 4096'],
  }),
);

// The internet: UDP servers are silent; over TCP those of IPv4 stream junk, those of IPv6 read nothing.
const internet = node.own(Probe.start(node.upstream));
const junk = junkReplies(10_000);
await internet.listen({ protocol: 'udp', address: '0.0.0.0', port: 53, mode: 'sink' });
await internet.listen({
  protocol: 'tcp',
  address: '0.0.0.0',
  port: 53,
  mode: 'stream',
  data: junk,
});
await internet.listen({ protocol: 'tcp', address: '::', port: 53, mode: 'hold' });
const ownDns = node.own(Probe.start(node.pod('own-dns').namespace));
await ownDns.listen({ protocol: 'tcp', address: '0.0.0.0', port: 53, mode: 'stream', data: junk });

const attacker = (name: string): Probe => node.own(Probe.start(node.pod(name).namespace));
const wild = attacker('wild');
const wild2 = attacker('wild-2');
const ranged = attacker('ranged');
const owner = attacker('owner');
const strict = attacker('strict');

type Attack = (attackSeconds: number) => Promise<readonly string[]>;

const silent = { first: '198.18.0.1', servers: 300, rate: 600 } as const;
const streamed = { server: '198.18.99.1', spread: 40, connections: 40 } as const;
const unread = {
  server: '2001:db8:77::1',
  spread: 40,
  connections: 40,
  perConnection: 40,
} as const;
const longOf = (probe: Probe, attackSeconds: number): Promise<string> =>
  writeLongQueries(probe, { ...unread, seconds: attackSeconds });
const all = 'all of it at once';
const silentOf: Attack = async (s) => [await askSilentServers(wild, { ...silent, seconds: s })];
const junkOf: Attack = async (s) => [await askJunkServer(wild, { ...streamed, seconds: s })];
const deniedOf: Attack = async (s) => [
  await writeAtLineRate(strict, { name: 'x.denied.test', connections: 16, seconds: s }),
];
const unreadOf: Attack = async (s) => Promise.all([longOf(wild, s), longOf(wild2, s)]);

const attacks: Readonly<Record<string, Attack>> = {
  '300 silent servers of a rule without peers, 600 queries a second': silentOf,
  '300 silent servers of two CIDRs, 600 queries a second': async (s) => [
    await askSilentServers(ranged, { ...silent, seconds: s }),
  ],
  'a server anywhere that streams junk over TCP on 40 connections': junkOf,
  "a tenant's own server that streams junk over TCP on 40 connections": async (s) => [
    await askJunkServer(owner, {
      server: node.pod('own-dns').ipv4 ?? '',
      ...{ spread: 1, connections: 40, seconds: s },
    }),
  ],
  'queries of a denied name at line rate on 16 TCP connections': deniedOf,
  'queries of an allowed name at line rate on 16 TCP connections': async (s) => [
    await writeAtLineRate(strict, { name: 'n-1.allowed.test', connections: 16, seconds: s }),
  ],
  'queries of 65 KB to a server that reads none, two pods with 40 connections each': unreadOf,
  [all]: async (s) =>
    (await Promise.all([silentOf(s), junkOf(s), deniedOf(s), unreadOf(s)])).flat(),
};

const neighbours = new Neighbours(node, tandem, { udp: 'client', tcp: 'by-tcp', free: 'free' });
let calm: NeighbourReport;

before(async () => {
  // So that the members have their sockets to the resolver, and the compiler has seen the code.
  await neighbours.measure(3);
  calm = await neighbours.measure(seconds);
  console.log(`without attack: ${describeReport(calm)}`);
});

test('without attack every query is answered', () => assertUnharmed(calm, calm));

/** In the short tier, the one of each kind that takes more. */
const short: readonly string[] = [
  '300 silent servers of a rule without peers, 600 queries a second',
  'a server anywhere that streams junk over TCP on 40 connections',
  'queries of an allowed name at line rate on 16 TCP connections',
  all,
];

for (const [title, attack] of Object.entries(attacks)) {
  if (!isFull && !short.includes(title)) continue;
  test(`${title}: no neighbour notices`, async () => {
    const junkBefore = await bothCount(tandem, 'junkConnections');
    const attacked = attack(seconds + 2 * rampSeconds);
    await Promise.race([attacked, waitForRamp()]);
    const report = await neighbours.measure(seconds);
    console.log(`${title}: ${describeReport(report)}`);
    for (const line of await attacked) console.log(`  ${line}`);
    assertUnharmed(report, calm);
    const closed = (await bothCount(tandem, 'junkConnections')) - junkBefore;
    if (title.includes('junk') || title === all) {
      assert.ok(closed > 0, 'connections that stream junk are closed by the members, and counted');
    }
  });
}

test('afterwards all is as before', async () => {
  const connections = async (): Promise<string> =>
    // Of the members with servers, and with pods; what neighbours have is closed by now.
    node.node.run('ss', ['-Htn', 'state', 'established', '( dport = :53 or sport = :53 )']);
  await waitFor(async () => (await connections()) === '', {
    what: 'the connections of the attacks to end',
    timeoutMs: 20_000,
  });
  for (const name of processes) assert.deepEqual([...(await degradedOf(tandem, name)).keys()], []);
  const report = await neighbours.measure(seconds);
  console.log(`afterwards: ${describeReport(report)}`);
  assertUnharmed(report, calm);
});

async function waitForRamp(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, rampSeconds * 1000);
  return promise;
}
