// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One pod cannot use up what all share (safety rules 7, 8 and 17; threats T7, T26): slots of queries in
 * flight, the members' time, conntrack, room for learned addresses.
 */

import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { askDns, encodeQuestion } from '@tandem/testing/dns-query';
import { concatBytes } from '@tandem/testing/packet';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { canConnect } from '../kit/attack.ts';
import { learnedAddresses } from '../kit/learned.ts';
import { startLoad } from '../kit/load.ts';
import { dnsPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  standardPolicy,
  standardRules,
  startStandardNode,
} from '../kit/standard-node.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const neighbourQueries = isFull ? 10_000 : 2000;
const neighbourRate = 450;
const neighbourSeconds = neighbourQueries / neighbourRate + 0.1;
const queriesPerSecond = 1400;
const quota = 256;
const noError = '0';
const servFail = '2';
const pattern = [{ matchPattern: '**.allowed.test' }];
const standard = await startStandardNode({
  pods: [{ name: 'hog' }, { name: 'quiet' }],
  podObjects: { hog: { namespace: 'noisy' }, quiet: { namespace: 'quiet' } },
  policies: [
    standardPolicy,
    dnsPolicy({ namespace: 'quiet', selects: { app: 'quiet' }, dns: pattern, fqdns: pattern }),
    dnsPolicy({ namespace: 'noisy', selects: { app: 'hog' }, dns: pattern, fqdns: pattern }),
  ],
  rules: [{ suffix: 'silent.allowed.test', replies: [] }, ...standardRules],
  options: { 'queries-per-second': queriesPerSecond },
  agentOptions: { 'quota-namespace': quota },
});
after(() => standard[Symbol.asyncDispose]());
const { client, node, tandem } = standard;
const hogPod = node.pod('hog');
const hog = node.own(Probe.start(hogPod.namespace));
const clientSpace = node.pod('client').namespace;

test(`3,000 queries a second that nobody answers: a neighbour loses none of ${neighbourQueries}`, async () => {
  await using flood = startLoad(hogPod.namespace, {
    server: clusterDns4,
    rate: 3000,
    seconds: neighbourSeconds + 0.5,
    nameFormat: 'd-%u.silent.allowed.test',
    timeoutMs: 1000,
  });
  await using load = startLoad(clientSpace, {
    server: clusterDns4,
    rate: neighbourRate,
    seconds: neighbourSeconds,
    nameFormat: 'n-%u.allowed.test',
    nameCount: 500,
  });
  const [neighbour, attack] = await Promise.all([load.result, flood.result]);
  assert.ok(neighbour.sent >= neighbourQueries, `${neighbour.sent} sent`);
  assert.deepEqual(
    { lost: neighbour.lost, rcodes: neighbour.rcodes },
    { lost: 0, rcodes: { [noError]: neighbour.sent } },
  );
  // Over its share of the slots the pod hears that at once; none of its queries was ever answered.
  assert.ok((attack.rcodes[servFail] ?? 0) > attack.sent / 2, JSON.stringify(attack));
});

test('over its rate a pod gets SERVFAIL, and a neighbour its answers', async () => {
  const seconds = 2;
  await using flood = startLoad(hogPod.namespace, {
    server: clusterDns4,
    rate: 6000,
    seconds,
    nameFormat: 'n-%u.allowed.test',
    nameCount: 50,
    // At one member: the kernel lets as many through as two answer.
    sockets: 1,
    timeoutMs: 500,
  });
  await using load = startLoad(clientSpace, {
    server: clusterDns4,
    rate: 200,
    seconds: seconds - 0.2,
    nameFormat: 'n-%u.allowed.test',
    nameCount: 50,
  });
  const [neighbour, attack] = await Promise.all([load.result, flood.result]);
  assert.deepEqual(
    { lost: neighbour.lost, rcodes: neighbour.rcodes },
    { lost: 0, rcodes: { [noError]: neighbour.sent } },
  );
  // A member gives a full bucket at first, then the rate; the other one, if the first was slow for a moment.
  const most = 2 * queriesPerSecond * (1 + seconds + 1);
  assert.ok((attack.rcodes[noError] ?? 0) <= most, JSON.stringify(attack));
  assert.ok((attack.rcodes[servFail] ?? 0) > 0, JSON.stringify(attack));
});

for (const segments of [1, 64]) {
  const how = segments === 1 ? 'one by one' : `${segments} in a segmented packet`;
  test(`as many queries as a pod can send, ${how}: a neighbour loses none`, async () => {
    const query = encodeQuestion({ server: clusterDns4, name: 'n-1.allowed.test' });
    const data = concatBytes(Array.from({ length: segments }, () => query));
    const sends = segments === 1 ? 300_000 : 100_000;
    const before = tandem.counters()['drop_query_rate'] ?? 0;
    await using load = startLoad(clientSpace, {
      server: clusterDns4,
      rate: 200,
      seconds: 30,
      nameFormat: 'n-%u.allowed.test',
      nameCount: 50,
    });
    const to = { to: clusterDns4, port: 53, segmentBytes: segments === 1 ? 0 : query.length };
    const { sent } = await hog.blast({ ...to, data, count: sends });
    load.end();
    const neighbour = await load.result;
    assert.ok(sent > sends / 2, `${sent} sent`);
    assert.deepEqual(
      { lost: neighbour.lost, rcodes: neighbour.rcodes },
      { lost: 0, rcodes: { [noError]: neighbour.sent } },
    );
    const dropped = (tandem.counters()['drop_query_rate'] ?? 0) - before;
    assert.ok(dropped > sent / 2, `${dropped} of ${sent} dropped`);
  });
}

test('queries leave nothing in conntrack', async () => {
  const entries = async (): Promise<number> =>
    Number(await node.node.run('sysctl', ['-n', 'net.netfilter.nf_conntrack_count']));
  const before = await entries();
  const queries = 1000;
  for (let done = 0; done < queries; done += 50) {
    // Each from a port of its own.
    await Promise.all(
      Array.from({ length: 50 }, () =>
        askDns(client, { server: clusterDns4, name: 'n-1.allowed.test' }),
      ),
    );
  }
  const grown = (await entries()) - before;
  // The members' own sockets to the server, 64 each, are all that may be new.
  assert.ok(grown <= 150, `${grown} entries for ${queries} queries`);
});

test("a namespace over its quota evicts its own addresses and nobody else's", async () => {
  const own = Array.from({ length: 30 }, (_, i) => 2000 + i);
  const foreign = Array.from({ length: 4 * quota }, (_, i) => 3000 + i);
  const learn = async (probe: Probe, numbers: readonly number[]): Promise<void> => {
    for (const number of numbers) {
      await askDns(probe, { server: clusterDns4, name: `n-${number}.allowed.test` });
    }
  };
  const addressesOf = (numbers: readonly number[]): string[] =>
    numbers.map((number) => `198.18.${number >> 8}.${number & 255}`);
  const quiet = node.own(Probe.start(node.pod('quiet').namespace));
  await learn(quiet, own);
  await waitFor(
    async () =>
      (await askDns(hog, { server: clusterDns4, name: 'n-1.allowed.test' })).rcode === 'NOERROR',
    { what: 'the silent queries of the first test to be given up', timeoutMs: 15_000 },
  );
  await learn(hog, foreign);
  const all = learnedAddresses(tandem);
  const [last = ''] = addressesOf(foreign.slice(-1));
  const hogNamespace = all.get(last)?.[0]?.namespaceId;
  const slots = [...all.values()].flat();
  const used = slots.filter(({ namespaceId }) => namespaceId === hogNamespace).length;
  assert.ok(used > 0 && used <= quota, `${used} of ${quota}`);
  for (const address of addressesOf(own)) assert.ok(await canConnect(quiet, address), address);
  assert.ok(await canConnect(hog, last), 'what it learned last is what it keeps');
});
