// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Drop events under faults of both processes in random order: what the kernel dropped is what observers
 * of the two were shown, together, each once in a run, and neither tells of a loss. The seed is printed;
 * TANDEM_TEST_SEED repeats it.
 */

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { missingSettleMs } from '@tandem/dns-proxy/drops/limits';
import { waitFor } from '@tandem/testing/wait';
import { FlowFollower } from '../kit/flow-follower.ts';
import { waitForReader } from '../kit/flows.ts';
import { type StandardNode, startStandardNode } from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

const denied = '198.19.7.7';
const isFull = process.env['TANDEM_TEST_TIER'] === 'full';
const faults = isFull ? 40 : 6;
const port = 4000;
/** Below the rate that one CPU reports of one endpoint, however many CPUs the client is on. */
const rate = 200;
const settleTimeoutMs = 20_000;
/** A missing event is noticed in one period of the ledger and reported after another whole one. */
const lossToldMs = 3 * missingSettleMs;
const processes = ['agent', 'proxy'] as const satisfies readonly ProcessName[];
const seed = Number(process.env['TANDEM_TEST_SEED'] ?? Date.now() % 1_000_000);

let standard: StandardNode;

before(async () => {
  standard = await startStandardNode();
  await waitForReader(standard.tandem, 'agent', 'proxy');
});

after(() => standard[Symbol.asyncDispose]());

/** mulberry32: numbers in [0, 1) by the seed. */
function randomOf(start: number): () => number {
  let state = start;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function fault(random: () => number): Promise<string> {
  const { tandem } = standard;
  const victim = processes[random() < 0.5 ? 0 : 1] as ProcessName;
  const kind = random();
  await delay(random() * 300);
  if (kind < 0.4) {
    tandem.signal(victim, 'SIGSTOP');
    await delay(100 + random() * 1200);
    tandem.signal(victim, 'SIGCONT');
    return `${victim} stopped`;
  }
  const victims = kind < 0.8 ? [victim] : processes;
  await Promise.all(victims.map((name) => tandem.kill(name)));
  await delay(random() * 1000);
  for (const name of victims) await tandem.startProcess(name);
  await tandem.waitForMembers(processes);
  return `${victims.join(' and ')} killed`;
}

test(`random kills and stops, seed ${seed}`, async () => {
  const { tandem, client } = standard;
  const random = randomOf(seed);
  await using agent = new FlowFollower(tandem, 'agent', port);
  await using proxy = new FlowFollower(tandem, 'proxy', port);
  const counted = (): number => tandem.counters()['drop_no_match'] ?? 0;
  const start = counted();
  const over = new AbortController();
  const denials = (async () => {
    while (!over.signal.aborted)
      await client.blast({ to: denied, port, data: 'data', count: rate / 10, rate });
  })();
  const done: string[] = [];
  try {
    for (let i = 0; i < faults; i++) done.push(await fault(random));
  } finally {
    over.abort();
    await denials;
  }
  const dropped = counted() - start;
  const shown = (): Set<string> => new Set([...agent.keys, ...proxy.keys]);
  const state = (): string =>
    JSON.stringify({ dropped, shown: shown().size, agent: agent.lost, proxy: proxy.lost, done });
  try {
    await waitFor(() => shown().size >= dropped, { what: 'all', timeoutMs: settleTimeoutMs });
  } catch (error) {
    throw new Error(state(), { cause: error });
  }
  await delay(lossToldMs);
  assert.equal(shown().size, dropped, state());
  assert.deepEqual([agent.repeated, proxy.repeated], [0, 0], state());
  assert.deepEqual([agent.lost, proxy.lost], [{}, {}], state());
  const counters = tandem.counters();
  assert.deepEqual([counters['events_lost'], counters['events_limited']], [0, 0], state());
});
