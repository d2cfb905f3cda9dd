// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One pod asks for names without end, each once and each allowed, far beyond the quota of its namespace.
 * Memory stays flat, the kernel's map bounded, a pod of another namespace keeps what it learned and goes
 * on learning, though both are under the same pattern; and the greedy pod's own fresh names are reachable
 * to the end, also after both processes were replaced. 60,000 names; a million in the full tier.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { tdFqdnKey } from '@tandem/datapath/abi.gen';
import { Datapath } from '@tandem/datapath/datapath';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import type { BulkResult } from '@tandem/testing/probe-types';
import { dnsPolicy, namespaceObject } from '../kit/objects.ts';
import { clusterDns4, clusterDns6, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

const names = process.env['TANDEM_TEST_TIER'] === 'full' ? 1_000_000 : 60_000;
const batch = 5000;
/** Quota of learned addresses of a namespace, and of the pattern that both share, smaller than the default so that the quick tier overflows it often. */
const quota = 8192;
/** Fresh names of the modest pod beside each batch: in all fewer than the eighth that a full pattern leaves it. */
const modestNames = Math.min(20, Math.floor((quota / 10) * (batch / names)));
/** Anonymous memory that a process may gain between the first quarter and the end. */
const growthMiBMax = 24;
const processes: readonly ProcessName[] = ['agent', 'proxy'];

const policyOf = (app: string, namespace: string): object =>
  dnsPolicy({
    name: app,
    namespace,
    selects: { app },
    dns: [{ matchPattern: '*.allowed.test' }],
    fqdns: [{ matchPattern: '*.allowed.test' }],
  });

const standard = await startStandardNode({
  pods: [{ name: 'modest' }],
  podObjects: { client: { namespace: 'greedy' }, modest: { namespace: 'modest' } },
  policies: [
    namespaceObject('greedy'),
    namespaceObject('modest'),
    policyOf('client', 'greedy'),
    policyOf('modest', 'modest'),
  ],
  rules: [
    {
      suffix: 'allowed.test',
      numbered: { ipv4: '198.18.0.0', ipv6: '2001:db8:1::', ttl: 3600 },
    },
  ],
  options: { 'queries-per-second': 1_000_000 },
  agentOptions: { 'quota-namespace': quota, 'quota-selector': quota },
});
after(() => standard[Symbol.asyncDispose]());
const { client: greedy, node, tandem } = standard;
const modest = node.own(Probe.start(node.pod('modest').namespace));
// Thousands of connections a second that are closed at once: their entries need not wait two minutes.
await node.node.sysctl({ 'net.netfilter.nf_conntrack_tcp_timeout_time_wait': 1 });

/** Pages of addresses in the kernel. */
function learnedPages(): number {
  using datapath = Datapath.open(tandem.pinRoot);
  let count = 0;
  for (const [key] of datapath.map('fqdn').entries()) if (key.length === tdFqdnKey.size) count += 1;
  return count;
}

/** Anonymous and shared memory of a process, MiB: mapped files do not count. */
function memoryMiB(name: ProcessName): number {
  const status = readFileSync(`/proc/${tandem.process(name).pid}/status`, 'utf8');
  const kib = (field: string): number =>
    Number(new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
  return (kib('RssAnon') + kib('RssShmem')) / 1024;
}

/** Fresh names of a pod: every one is answered, and its address takes the first SYN. */
async function checkFresh(probe: Probe, start: number, count: number): Promise<BulkResult> {
  const bulk = await probe.bulk({
    server: start % (2 * batch) === 0 ? clusterDns4 : clusterDns6,
    type: 'AAAA',
    suffix: '.allowed.test',
    start,
    count,
    concurrency: 32,
  });
  const { connected, retransmitted, failures } = bulk;
  const expected = { connected: count, retransmitted: 0, failures: [] };
  assert.deepEqual({ connected, retransmitted, failures }, expected, `names from ${start}`);
  return bulk;
}

test(`${names} names of one pod harm nobody`, async (context) => {
  const [known] = (await askDns(modest, { server: clusterDns4, name: 'n-99000.allowed.test' }))
    .addresses;
  assert.ok(known !== undefined);
  const open = await modest.connect({ to: known, port: 80, data: 'x', want: 1 });
  const samples: Record<string, number>[] = [];
  let us = 0;
  for (let start = 0; start < names; start += batch) {
    us += (await checkFresh(greedy, start, batch)).elapsedUs;
    await checkFresh(modest, 10_000_000 + start, modestNames);
    await modest.tcp({ to: known, port: 80, data: 'x', want: 1 });
    await open.exchange({ data: 'y', want: 1 });
    const pages = learnedPages();
    assert.ok(pages <= quota + quota / 8, `${pages} pages`);
    samples.push({ pages, agent: memoryMiB('agent'), proxy: memoryMiB('proxy') });
  }
  const early = samples[samples.length >> 2] ?? {};
  const last = samples.at(-1) ?? {};
  const text = (sample: Record<string, number>): string =>
    Object.entries(sample)
      .map(([name, value]) => `${name} ${value.toFixed(0)}`)
      .join(', ');
  context.diagnostic(`${((names / us) * 1e6).toFixed(0)} names/s; ${text(early)}; ${text(last)}`);
  for (const name of processes) {
    const growth = (last[name] ?? 0) - (early[name] ?? 0);
    assert.ok(
      growth <= growthMiBMax,
      `${name} grew by ${growth} MiB: ${samples.map(text).join('; ')}`,
    );
  }
});

test('a namespace at its quota goes on after both processes were replaced', async () => {
  for (const name of processes) {
    await tandem.kill(name);
    await tandem.startProcess(name);
    await tandem.waitForMembers(processes);
  }
  await checkFresh(greedy, 20_000_000, 2000);
  await checkFresh(modest, 30_000_000, 100);
  assert.ok(learnedPages() <= quota + quota / 8);
});
