// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The tools of a chaos run tell the truth: records of queries, an upstream that obeys, a clock that jumps. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ownPrefix } from '@tandem/testing/namespace';
import { createNode } from '@tandem/testing/netns';
import { Probe } from '@tandem/testing/probe';
import { run, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { type LoadResult, startLoad } from '../kit/load.ts';
import { clockFile, setClock } from './faults/resources.ts';
import { type QueryRecord, readRecords } from './records.ts';
import { Upstream, upstreamAddress, usualDelayMs } from './upstream.ts';

const node = await createNode({ name: 'chaos', pods: [{ name: 'a' }], kubeProxy: 'none' });
const directory = mkdtempSync(join(tmpdir(), `${ownPrefix}0-chaos-`));
after(async () => {
  await node[Symbol.asyncDispose]();
  rmSync(directory, { recursive: true });
});
const upstream = node.own(await Upstream.start(node.upstream, 1));
const internet = node.own(Probe.start(node.upstream));
await internet.listen({ protocol: 'tcp', address: '198.18.0.1', port: 80 });
const tool = (name: string): string =>
  fileURLToPath(new URL(`../bench/native/build/${name}`, import.meta.url));

interface Asked {
  readonly result: LoadResult;
  readonly records: readonly QueryRecord[];
}

async function ask(names: readonly string[], connectEvery?: number): Promise<Asked> {
  const namesFile = join(directory, 'names');
  const recordsFile = join(directory, 'records');
  writeFileSync(namesFile, names.map((name) => `${name}\n`).join(''));
  const seconds = names.length / 200 - 0.001;
  await using load = startLoad(node.pod('a').namespace, {
    ...{ server: upstreamAddress, rate: 200, seconds, timeoutMs: 300, namesFile, recordsFile },
    ...(connectEvery === undefined ? {} : { connectEvery }),
  });
  const result = await load.result;
  return { result, records: readRecords(recordsFile) };
}

test('each query has its record, and what is answered is used as told', async () => {
  const names = Array.from({ length: 40 }, (_, i) => `n-${(i % 2) + 1}.allowed.test`);
  const { result, records } = await ask(names, 1);
  assert.equal(records.length, result.sent);
  assert.ok(result.sent >= 20, `${result.sent} sent`);
  for (const { number, latencyMs, rcode, address, connection } of records) {
    assert.equal(rcode, 0);
    assert.ok((latencyMs ?? 0) >= usualDelayMs - 1);
    // A server listens at the first address alone; the other refuses.
    assert.deepEqual(
      [address, connection],
      number % 2 === 0 ? ['198.18.0.1', 'opened'] : ['198.18.0.2', 'failed'],
    );
  }
});

test('what the upstream was told to lose is lost, and it says which', async () => {
  await upstream.takeSeen();
  await upstream.setLoss(1000);
  const { result, records } = await ask(['n-1.allowed.test', 'd-2.denied.test']);
  await upstream.setLoss(0);
  assert.equal(result.lost, result.sent);
  assert.ok(records.every(({ latencyMs, rcode }) => latencyMs === null && rcode === 255));
  const { lost, leaked } = await upstream.takeSeen();
  assert.ok(lost.has('n-1.allowed.test'));
  assert.deepEqual(leaked, ['d-2.denied.test'].slice(0, result.sent - 1));
  assert.deepEqual(await upstream.takeSeen(), { lost: new Set(), leaked: [] });
});

test('the delay changes while it serves', async () => {
  await upstream.setDelay(100);
  const slow = await ask(['n-1.allowed.test', 'n-2.allowed.test']);
  await upstream.setDelay(0);
  const fast = await ask(['n-1.allowed.test', 'n-2.allowed.test']);
  await upstream.setDelay(usualDelayMs);
  assert.ok(slow.result.p50Us >= 99_000, `${slow.result.p50Us} us`);
  assert.ok(fast.result.p50Us < 99_000, `${fast.result.p50Us} us`);
});

test('a load that is told to end waits for what is in flight', async () => {
  await using load = startLoad(node.pod('a').namespace, {
    ...{ server: upstreamAddress, rate: 100, seconds: 60, nameFormat: 'n-%u.allowed.test' },
  });
  const before = await upstream.queries();
  await waitFor(async () => (await upstream.queries()) > before, { what: 'a query' });
  load.end();
  const { sent, answered } = await load.result;
  assert.ok(sent > 0);
  assert.equal(answered, sent);
});

test("a preloaded process's wall clock jumps, and its monotonic one does not", async () => {
  const file = clockFile(directory, 'agent');
  writeFileSync(file, new Uint8Array(8));
  setClock(directory, 'agent', 86_400_000_000_000n);
  const env = { ...process.env, LD_PRELOAD: tool('clock-shim.so'), TANDEM_CHAOS_CLOCK: file };
  const script = 'console.log(Date.now(), process.hrtime.bigint() / 1000000n)';
  const before = { wall: Date.now(), monotonic: Number(process.hrtime.bigint() / 1_000_000n) };
  const { stdout } = await run(process.execPath, ['-e', script], { env, timeoutMs: 10_000 });
  const [wall = 0, monotonic = 0] = stdout.replaceAll('n', '').split(' ').map(Number);
  const ranMs = monotonic - before.monotonic;
  assert.ok(ranMs >= 0 && ranMs < 10_000, `${ranMs} ms`);
  assert.ok(Math.abs(wall - before.wall - 86_400_000 - ranMs) < 1000, `${wall - before.wall} ms`);
});

test('burn takes what it is told to', async () => {
  await using burn = startProcess(tool('burn'), ['--percent', '5']);
  await waitFor(() => burn.stdout().includes('ready'), { what: 'burn' });
  burn.stdin.end();
  const { status } = await burn.exited;
  assert.equal(status, 0);
  assert.match(burn.stdout(), /"share":\d/);
});
