// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** 40 TCP connections to the DNS server are opened while one member hangs. */

import { readdirSync, readFileSync } from 'node:fs';
import { askDns } from '@tandem/testing/dns-query';
import { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { clusterDns4 } from '../../kit/standard-node.ts';
import type { ProcessName } from '../../kit/tandem-node.ts';
import { atMost, type ChaosOptions, equal, type Outcome, type Part, worst } from '../part.ts';
import { loadPods, processes, Stage } from '../stage.ts';

const connections = 40;
const timeoutMs = 5000;
const roundsByTier = { short: 1, usual: 2, full: 10 } as const;

/** SIGSTOP, and waits until no thread runs any more: one that does may still accept a connection. */
async function stopAll(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  const isStopped = (thread: string): boolean =>
    / [tT] /.test(readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').replace(/^.*\)/, ''));
  await waitFor(() => readdirSync(`/proc/${pid}/task`).every(isStopped), { what: 'it to stop' });
}

interface Turn {
  readonly answered: number;
  readonly slowestMs: number;
  readonly problems: readonly string[];
}

async function ask(stage: Stage, victim: ProcessName, probes: readonly Probe[]): Promise<Turn> {
  const { tandem } = stage;
  await stage.settle();
  const questions = stage.names.take(4 * connections).filter(({ kind }) => kind === 'fresh');
  await stopAll(tandem.process(victim).pid);
  const times: number[] = [];
  const problems: string[] = [];
  // Spread over pods, because each may have 20 connections at one member.
  await Promise.all(
    questions.slice(0, connections).map(async ({ name, address }, i) => {
      const started = performance.now();
      const question = { server: clusterDns4, transport: 'tcp', name, timeoutMs } as const;
      try {
        const reply = await askDns(probes[i % probes.length] as Probe, question);
        if (reply.addresses[0] === address) times.push(performance.now() - started);
        else problems.push(`${name} got ${reply.rcode} ${reply.addresses.join(' ')}`);
      } catch (error) {
        problems.push(`${name}: ${String(error)}`);
      }
    }),
  );
  tandem.signal(victim, 'SIGCONT');
  return { answered: times.length, slowestMs: worst(times), problems };
}

async function runTcp(options: ChaosOptions): Promise<Outcome> {
  const { seed, tier, progress } = options;
  const rounds = options.rounds ?? roundsByTier[tier];
  await using stage = await Stage.start({ seed, purpose: 'tcp' });
  await using stack = new AsyncDisposableStack();
  const probes = loadPods.map((pod) =>
    stack.use(Probe.start(stage.standard.node.pod(pod).namespace)),
  );
  const bounds = [];
  const notes: string[] = [];
  for (const victim of processes) {
    const turns: Turn[] = [];
    for (let round = 1; round <= rounds; round++) {
      progress(`the ${victim} hangs, ${round} of ${rounds}`);
      turns.push(await ask(stage, victim, probes));
    }
    const answered = turns.reduce((sum, turn) => sum + turn.answered, 0);
    bounds.push(
      equal(`the ${victim} hangs: connections answered`, answered, rounds * connections),
      atMost(
        `the ${victim} hangs: slowest answer`,
        worst(turns.map(({ slowestMs }) => slowestMs)),
        timeoutMs,
        ' ms',
      ),
    );
    notes.push(...turns.flatMap(({ problems }) => problems).slice(0, 10));
  }
  return { runs: [], bounds, notes };
}

export const tcp: Part = {
  name: 'tcp',
  what: '40 TCP connections opened while one member hangs are all answered',
  run: runTcp,
};
