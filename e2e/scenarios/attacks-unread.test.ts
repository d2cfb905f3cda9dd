// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pods that ask for answers as long as TCP carries them, on many connections, and never read one (threat T13).
 * Neighbours that open a connection for each query notice nothing: none of their connections is lost in the
 * kernel's queue, where all pods' wait to be accepted.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { Unbound } from '@tandem/testing/unbound';
import {
  assertUnharmed,
  describeReport,
  type NeighbourReport,
  Neighbours,
} from '../kit/neighbours.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, standardPolicy, startStandardNode } from '../kit/standard-node.ts';
import { readNoReply } from '../kit/tenant-attacks.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
/** Two members read 512 of them at most: the others wait. */
const connections = 1000;
const seconds = isFull ? 25 : 5;
const rampSeconds = 1;

const allowed = [{ matchPattern: '*.allowed.test' }];
const attackers = ['deaf-1', 'deaf-2', 'deaf-3'];
const standard = await startStandardNode({
  pods: ['by-tcp', 'free', ...attackers].map((name) => ({ name })),
  policies: [
    standardPolicy,
    ...['by-tcp', ...attackers].map((name) =>
      dnsPolicy({ name, selects: { app: name }, dns: allowed, fqdns: allowed }),
    ),
  ],
});
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;
await standard.dns[Symbol.asyncDispose]();
/** As many as a message can hold. */
const texts = Array.from(
  { length: 240 },
  (_, i) => `allowed.test. 60 IN TXT "${`${i}`.padEnd(255, 'x')}"`,
);
node.own(
  await Unbound.start(node.pod('dns').namespace, {
    zones: { 'allowed.test.': 'redirect' },
    data: ['allowed.test. 60 IN A 198.18.0.1', ...texts],
    extra: ['incoming-num-tcp: 4000', 'num-queries-per-thread: 4096'],
  }),
);

const probes = attackers.map((name) => node.own(Probe.start(node.pod(name).namespace)));
const neighbours = new Neighbours(node, tandem, { udp: 'client', tcp: 'by-tcp', free: 'free' });
const name = 'n-1.allowed.test';
let calm: NeighbourReport;

before(async () => {
  // So that the members have their sockets to the resolver, and the compiler has seen the code.
  await neighbours.measure(3);
  calm = await neighbours.measure(seconds);
  console.log(`without attack: ${describeReport(calm)}`);
});

/** Connections of the node that found no place in a listener's queue. */
async function overflows(): Promise<number> {
  const text = await node.node.run('nstat', ['-asz', 'TcpExtListenOverflows']);
  return Number(/TcpExtListenOverflows\s+(\d+)/.exec(text)?.[1]);
}

test('an answer is as long as a message may be', async () => {
  const [probe] = probes as [Probe];
  const asked = { server: clusterDns4, name, type: 'TXT', transport: 'tcp' } as const;
  const { bytes } = await askDns(probe, asked);
  assert.ok(bytes.length > 64_000, `${bytes.length} octets`);
});

interface Attack {
  readonly pods: number;
  readonly perConnection?: number;
  readonly lifeMs?: number;
}

const attacks: Readonly<Record<string, Attack>> = {
  'a pod that asks without end': { pods: 1 },
  'a pod that opens its connections anew twice a second': {
    ...{ pods: 1, perConnection: 20, lifeMs: 500 },
  },
  ...(isFull
    ? {
        'three pods that ask without end': { pods: 3 },
        'three pods that open their connections anew twice a second': {
          ...{ pods: 3, perConnection: 20, lifeMs: 500 },
        },
      }
    : {}),
};

for (const [title, { pods, ...attack }] of Object.entries(attacks)) {
  test(`${title}, ${connections} connections each, no reply read: no neighbour notices`, async () => {
    const lostBefore = await overflows();
    const pacedBefore = tandem.counters()['drop_connect_rate'] ?? 0;
    const attacked = Promise.all(
      probes.slice(0, pods).map((probe) =>
        readNoReply(probe, {
          ...{ name, connections, seconds: seconds + 2 * rampSeconds, ...attack },
        }),
      ),
    );
    await Promise.race([attacked, waitForRamp()]);
    const report = await neighbours.measure(seconds);
    console.log(`${title}: ${describeReport(report)}`);
    for (const line of await attacked) console.log(`  ${line}`);
    assert.equal((await overflows()) - lostBefore, 0, 'connections that found no place');
    const paced = (tandem.counters()['drop_connect_rate'] ?? 0) - pacedBefore;
    assert.equal(paced > 0, attack.lifeMs !== undefined, `${paced} SYNs beyond the pace of a pod`);
    // Who opens connections as fast as it can takes CPUs that the neighbours' own test needs, if others use them too.
    if (isFull || attack.lifeMs === undefined) assertUnharmed(report, calm, isFull);
  });
}

async function waitForRamp(): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  setTimeout(resolve, rampSeconds * 1000);
  return promise;
}
