// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Both processes down: DNS is silent, nothing bypasses, what is open lives. And how soon each is back with
 * 10,000 patterns, alone and together: it serves from the snapshot, which brings its matcher.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Datapath } from '@tandem/datapath/datapath';
import { NodeGroup } from '@tandem/datapath/group';
import { askDns } from '@tandem/testing/dns-query';
import type { Stream } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { assertSilence, silenceMs } from '../kit/attack.ts';
import { assertNothingPassed, deniedTraffic } from '../kit/enforcement.ts';
import { dnsPolicy } from '../kit/objects.ts';
import { clusterDns4, type StandardNode, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

const patternCount = 10_000;
/** One undisturbed start is the proof: others follow only while the machine, which may be busy, has disturbed each. */
const roundsMax = 3;
/** From the start of the process to LIVE; the promise is 2 s on a quiet machine of two cores. */
const aloneMsMax = 1500;
const togetherMsMax = 2000;
const processes = ['agent', 'proxy'] as const satisfies readonly ProcessName[];

const patterns = Array.from({ length: patternCount }, (_, i) => ({
  matchPattern:
    i % 3 === 0 ? `*.svc-${i}.example.test` : `host-${i}.region-${i % 50}.site-${i % 977}.test`,
}));
const allowed = { matchPattern: '*.allowed.test' };

let standard: StandardNode;
let open: Stream;
let nextName = 1;

before(async () => {
  const policy = dnsPolicy({
    selects: { app: 'client' },
    dns: [...patterns, allowed],
    fqdns: [...patterns.slice(0, 2000), allowed],
  });
  standard = await startStandardNode({ policies: [policy] });
  const { client } = standard;
  const known = await askDns(client, { server: clusterDns4, name: 'n-1.allowed.test' });
  open = await client.connect({ to: known.addresses[0] ?? '', port: 80, data: 'x', want: 1 });
});

after(() => standard[Symbol.asyncDispose]());

async function killBoth(): Promise<void> {
  const { tandem } = standard;
  for (const name of processes) if (tandem.isAlive(name)) await tandem.kill(name);
}

/** CPU time of a process, ms: does not depend on what else the machine does. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

interface Start {
  readonly ms: number;
  readonly cpuMs: number;
}

/** Starts a process and waits until it is LIVE. */
async function startUntilLive(name: ProcessName): Promise<Start> {
  const { tandem } = standard;
  using datapath = Datapath.open(tandem.pinRoot);
  const group = new NodeGroup(datapath.map('group').mmap());
  const started = performance.now();
  const { pid } = await tandem.startProcess(name);
  const isLive = (): boolean =>
    group
      .members(Number(process.hrtime.bigint()))
      .some((member) => member.pid === pid && member.state === 'live' && member.beatAgeMs < 1000);
  await waitFor(isLive, { what: `${name} to be LIVE: ${tandem.logs()}`, timeoutMs: 20_000 });
  return { ms: performance.now() - started, cpuMs: cpuMs(pid) };
}

async function assertServes(): Promise<void> {
  const { client, tandem } = standard;
  const ask = (name: string): ReturnType<typeof askDns> =>
    askDns(client, { server: clusterDns4, name });
  assert.equal((await ask(`n-${nextName++}.allowed.test`)).rcode, 'NOERROR', tandem.logs());
  // Of the last patterns; the server does not know it.
  assert.notEqual((await ask(`x.svc-${patternCount - 1}.example.test`)).rcode, 'REFUSED');
  assert.equal((await ask('x.svc-1.example.test')).rcode, 'REFUSED');
}

const text = (starts: readonly Start[]): string =>
  starts.map((start) => `${start.ms.toFixed(0)} ms (CPU ${start.cpuMs})`).join(', ');
const best = (starts: readonly Start[]): number => Math.min(...starts.map(({ ms }) => ms));

test('both down: silence, no bypass, open connections live', async () => {
  await killBoth();
  const { client } = standard;
  const question = { server: clusterDns4, name: 'n-2.allowed.test', timeoutMs: silenceMs };
  await assertSilence(askDns(client, question), 'nobody answers');
  await open.exchange({ data: 'y', want: 1 });
  const traffic = await deniedTraffic(standard, 1);
  assertNothingPassed(traffic);
  assert.equal(traffic.queries.answered, 0);
  await open.exchange({ data: 'z', want: 1 });
});

for (const name of processes) {
  test(`the ${name} alone is back with ${patternCount} patterns`, async () => {
    const times: Start[] = [];
    for (let round = 0; round < roundsMax && best(times) >= aloneMsMax; round++) {
      await killBoth();
      times.push(await startUntilLive(name));
      await assertServes();
    }
    console.log(`${name} alone, LIVE after ${text(times)}`);
    assert.ok(best(times) < aloneMsMax, text(times));
  });
}

test(`both together are back with ${patternCount} patterns`, async () => {
  const times: Start[] = [];
  for (let round = 0; round < roundsMax && best(times) >= togetherMsMax; round++) {
    await killBoth();
    times.push(...(await Promise.all(processes.map(startUntilLive))));
    await assertServes();
    await open.exchange({ data: 'y', want: 1 });
  }
  console.log(`both together, LIVE after (agent, proxy): ${text(times)}`);
  assert.ok(best(times) < togetherMsMax, text(times));
});
