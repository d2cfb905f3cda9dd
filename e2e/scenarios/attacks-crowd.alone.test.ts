// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod that asks little does not wait behind pods that ask much, each within its limits (safety rule 7): those wait in a
 * receive buffer of their own (docs/adr/0022-lanes.md).
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, type TestContext, test } from 'node:test';
import { encodeQuestion } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { crowd, startCrowd } from '../kit/crowd.ts';
import { type LoadResult, startLoad } from '../kit/load.ts';

import { clusterDns4 } from '../kit/standard-node.ts';

const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const neighbourRate = 200;
const neighbourSeconds = 4;
/** Below the default rate of a pod, 5,000. */
const attackRate = 4900;
const noError = '0';
const standard = await startCrowd();
after(() => standard[Symbol.asyncDispose]());
const { node, tandem } = standard;

/** Sends the neighbour's queries beside an attack, prints figures and counters, and asserts that none is lost. */
async function serveBeside(t: TestContext, attack: () => Promise<unknown>): Promise<void> {
  const before = tandem.counters();
  await using load = startLoad(node.pod('client').namespace, {
    server: clusterDns4,
    rate: neighbourRate,
    seconds: neighbourSeconds,
    nameFormat: 'n-%u.allowed.test',
    nameCount: 50,
    timeoutMs: 5000,
  });
  const [neighbour, attacked] = await Promise.all([load.result, attack()]);
  const now = tandem.counters();
  const moved = (name: string): number => (now[name] ?? 0) - (before[name] ?? 0);
  const selected = moved('selected') + moved('selected_stale');
  const heavy = moved('selected_heavy');
  const { sent, lost, rcodes, p50Us, p99Us, maxUs } = neighbour;
  t.diagnostic(JSON.stringify({ neighbour: { sent, lost, p50Us, p99Us, maxUs }, attacked }));
  const loadAverage = readFileSync('/proc/loadavg', 'utf8').trim();
  t.diagnostic(JSON.stringify({ selected, heavy, dropped: moved('drop_query_rate'), loadAverage }));
  assert.ok(sent >= neighbourRate * neighbourSeconds * 0.9, `${sent} sent`);
  assert.deepEqual({ lost, rcodes }, { lost: 0, rcodes: { [noError]: sent } });
  assert.ok(heavy > selected / 2, `${heavy} of ${selected}`);
  assert.ok(selected - heavy >= sent, `${selected - heavy} of ${sent}`);
}

test('a pod sends as fast as it can: a neighbour loses none', async (t) => {
  const attacker = node.own(Probe.start(node.pod(crowd[0] ?? '').namespace));
  const data = encodeQuestion({ server: clusterDns4, name: 'n-1.allowed.test' });
  await serveBeside(t, () => attacker.blast({ to: clusterDns4, port: 53, data, count: 300_000 }));
});

for (const count of isFull ? [4, 16] : [16]) {
  test(`${count} pods ask ${attackRate} a second each: a neighbour loses none`, async (t) => {
    const floods = crowd.slice(0, count).map((name) =>
      startLoad(node.pod(name).namespace, {
        server: clusterDns4,
        rate: attackRate,
        seconds: neighbourSeconds + 0.5,
        nameFormat: 'n-%u.allowed.test',
        nameCount: 50,
        timeoutMs: 1000,
      }),
    );
    let answered = 0;
    await serveBeside(t, async () => {
      const results = await Promise.all(floods.map(({ result }) => result));
      const sum = (of: (result: LoadResult) => number): number =>
        results.reduce((total, result) => total + of(result), 0);
      answered = sum((result) => result.answered);
      return { sent: sum(({ sent }) => sent), answered };
    });
    assert.ok(answered > 0, 'those who ask much are not left out');
  });
}
