// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * No fault of one process costs a query: it is killed, stopped or told to end under load, with an upstream
 * that takes 20 ms, and everything that pods asked is answered. Short forms of what `./run chaos` will do
 * at length.
 */

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { type RunningProcess, startProcess } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { type LoadResult, startLoad } from '../kit/load.ts';
import { dnsPolicy } from '../kit/objects.ts';
import {
  clusterDns4,
  type StandardNode,
  standardPolicy,
  startStandardNode,
} from '../kit/standard-node.ts';
import type { ProcessName } from '../kit/tandem-node.ts';

/** Answers every name after 20 ms. */
const slowServer = '203.0.113.53';
const upstreamDelayMs = 20;
const loadSeconds = 2;
const faultAfterMs = 700;
const answerTimeoutMs = 6000;
/** Several, because what one pod may have in flight is bounded, and a hang makes a backlog of 100 ms. */
const loadPods = ['client', 'load1', 'load2', 'load3'];
const processes = ['agent', 'proxy'] as const satisfies readonly ProcessName[];

const slowPolicy = dnsPolicy({
  name: 'slow',
  selects: { app: 'client' },
  dnsPeers: { toCIDR: [`${slowServer}/32`] },
  dns: [{ matchPattern: '*.allowed.test' }],
  fqdns: [{ matchPattern: '*.allowed.test' }],
});

let standard: StandardNode;
let server: RunningProcess;
let nextName = 1_000_000;

before(async () => {
  standard = await startStandardNode({
    policies: [standardPolicy, slowPolicy],
    pods: loadPods.slice(1).map((name) => ({ name })),
    podObjects: Object.fromEntries(loadPods.map((name) => [name, { labels: { app: 'client' } }])),
    // A process that waits for the other to be back must have the time.
    options: { 'drain-timeout': '10s' },
  });
  const { node } = standard;
  const tool = fileURLToPath(new URL('../bench/native/build/upstream', import.meta.url));
  const args = ['--address', slowServer, '--delay-us', String(upstreamDelayMs * 1000)];
  server = node.own(startProcess(...node.upstream.enter(tool, args)));
  await waitFor(() => server.stdout().includes('ready'), { what: 'the upstream' });
});

/** Both serve, whatever the test before did. */
beforeEach(async () => {
  const { tandem } = standard;
  for (const name of processes) {
    if (tandem.isAlive(name)) tandem.signal(name, 'SIGCONT');
    else await tandem.startProcess(name);
  }
  await tandem.waitForMembers(processes);
  const isLinked = (name: ProcessName): boolean =>
    tandem.process(name).stderr().includes('the other member is linked');
  await waitFor(() => processes.every(isLinked), { what: 'the members to be linked' });
});

after(() => standard[Symbol.asyncDispose]());

/** A load of names never asked before, with `fault` in the middle of it; what each pod saw. */
async function underLoad(
  rate: number,
  fault: () => Promise<unknown>,
  seconds: number = loadSeconds,
): Promise<LoadResult[]> {
  await using stack = new AsyncDisposableStack();
  const loads = loadPods.map((pod) => {
    nextName += 100_000;
    const load = startLoad(standard.node.pod(pod).namespace, {
      server: slowServer,
      rate: rate / loadPods.length,
      seconds,
      timeoutMs: answerTimeoutMs,
      nameFormat: 'n-%u.allowed.test',
      nameStart: nextName,
    });
    return stack.use(load).result;
  });
  await delay(faultAfterMs);
  await fault();
  return await Promise.all(loads); // the loads end with this scope
}

function check(what: string, loads: readonly LoadResult[]): void {
  const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
  const sent = sum(loads.map((load) => load.sent));
  const lost = sum(loads.map((load) => load.lost));
  const good = sum(loads.map(({ rcodes }) => rcodes['0'] ?? 0));
  const median = loads[0]?.p50Us ?? 0;
  const worst = Math.max(...loads.map(({ maxUs }) => maxUs));
  console.log(
    `${what}: ${sent} sent, ${lost} lost, ${sent - lost - good} not NOERROR, ` +
      `median ${(median / 1000).toFixed(1)} ms, worst ${(worst / 1000).toFixed(1)} ms`,
  );
  assert.deepEqual({ lost, good }, { lost: 0, good: sent }, standard.tandem.logs());
}

/** SIGSTOP, and waits until no thread runs any more: one that does may still accept a connection. */
async function stop(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  const isStopped = (thread: string): boolean =>
    / [tT] /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').replace(/^.*\)/, ''));
  await waitFor(() => readdirSync(`/proc/${pid}/task`).every(isStopped), { what: 'it to stop' });
}

test('without a fault', async () => {
  check('control', await underLoad(2000, async () => undefined));
});

for (const victim of processes) {
  describe(`the ${victim}`, () => {
    test('is killed', async () => {
      check(`${victim} SIGKILL`, await underLoad(2000, () => standard.tandem.kill(victim)));
    });

    test('is stopped, and goes on', async () => {
      const { tandem } = standard;
      const result = await underLoad(2000, async () => {
        tandem.signal(victim, 'SIGSTOP');
        await delay(600);
        tandem.signal(victim, 'SIGCONT');
      });
      check(`${victim} SIGSTOP`, result);
    });

    test('is told to end', async () => {
      const { tandem } = standard;
      const result = await underLoad(2000, async () => {
        tandem.signal(victim, 'SIGTERM');
        const { status } = await tandem.process(victim).exited;
        assert.equal(status, 0);
      });
      check(`${victim} SIGTERM`, result);
    });

    test('hangs while 40 TCP connections are opened', async () => {
      const { tandem, node } = standard;
      await using stack = new AsyncDisposableStack();
      const probes = loadPods.map((pod) => stack.use(Probe.start(node.pod(pod).namespace)));
      await stop(tandem.process(victim).pid);
      // Spread over pods, because each may have 20 connections at one member.
      const replies = await Promise.all(
        Array.from({ length: 40 }, (_, i) =>
          askDns(probes[i % probes.length] as Probe, {
            server: clusterDns4,
            transport: 'tcp',
            name: `n-${nextName++}.allowed.test`,
            timeoutMs: 5000,
          }),
        ),
      );
      tandem.signal(victim, 'SIGCONT');
      assert.deepEqual(new Set(replies.map(({ rcode }) => rcode)), new Set(['NOERROR']));
    });
  });
}

test('both are killed, and started again: what they had in hand is answered', async () => {
  const { tandem } = standard;
  // Nothing is answered: everything is in flight when both die.
  process.kill(server.pid, 'SIGSTOP');
  const bothEnd = async (): Promise<void> => {
    await Promise.all(processes.map((name) => tandem.kill(name)));
    process.kill(server.pid, 'SIGCONT');
    for (const name of processes) await tandem.startProcess(name);
  };
  check('both SIGKILL', await underLoad(400, bothEnd, (faultAfterMs - 200) / 1000));
});

test('two that are told to end at once do not leave the pods alone', async () => {
  const { tandem } = standard;
  const result = await underLoad(500, async () => {
    for (const name of processes) tandem.signal(name, 'SIGTERM');
    const first = await Promise.race(
      processes.map(async (name) => {
        await tandem.process(name).exited;
        return name;
      }),
    );
    await tandem.startProcess(first);
    const second = first === 'agent' ? 'proxy' : 'agent';
    await tandem.process(second).exited;
    await tandem.startProcess(second);
  });
  check('both SIGTERM', result);
});
