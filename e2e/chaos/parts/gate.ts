// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A pod knocks all the time at a denied address while either process and both are restarted. While both
 * are down DNS is silent, nothing goes round them, connections that are open live; then they come back.
 */

import assert from 'node:assert/strict';
import { askDns } from '@tandem/testing/dns-query';
import { Probe, type Stream } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { clusterDns4 } from '../../kit/standard-node.ts';
import type { ProcessName } from '../../kit/tandem-node.ts';
import { synFrame } from '../gate.ts';
import {
  atMost,
  type Bound,
  type ChaosOptions,
  equal,
  type Outcome,
  type Part,
  worst,
} from '../part.ts';
import { processes, Stage } from '../stage.ts';
import { upstreamAddress } from '../upstream.ts';

const knocksPerSecond = 500;
const roundsByTier = { short: 1, usual: 5, full: 50 } as const;
const silenceMs = 250;
const backMsMax = 2000;

interface Counts {
  restarts: number;
  knocks: number;
  escaped: number;
  answersWhileDown: number;
  bypassed: number;
  exchanges: number;
  exchangesWanted: number;
  readonly backMs: number[];
}

/** The guard sees a frame that may pass: else it would see nothing of the others either. */
async function checkGuard(stage: Stage, allowed: string): Promise<void> {
  const { node, internet } = stage.standard;
  const pod = node.pod('gate');
  await using probe = Probe.start(pod.namespace);
  const bytes = Uint8Array.from(allowed.split('.').map(Number));
  await using capture = await internet.capture({ contains: bytes });
  await probe.frame(synFrame(pod, allowed, 20_009));
  await capture.captured({ count: 1 });
}

async function isAnswered(
  stage: Stage,
  transport: 'udp' | 'tcp',
  server: string,
): Promise<boolean> {
  const [question] = stage.names.take(1);
  const { name = '' } = question ?? {};
  return askDns(stage.client, { server, transport, name, timeoutMs: silenceMs }).then(
    () => true,
    () => false,
  );
}

/** Both are down: who still answers, and what reaches the servers? */
async function checkSilence(stage: Stage, counts: Counts): Promise<void> {
  const { dns } = stage.standard;
  await dns.clear();
  const before = await stage.upstream.queries();
  const answered = await Promise.all([
    isAnswered(stage, 'udp', clusterDns4),
    isAnswered(stage, 'tcp', clusterDns4),
    isAnswered(stage, 'udp', upstreamAddress),
  ]);
  counts.answersWhileDown += answered.filter(Boolean).length;
  counts.bypassed += (await dns.totals()).total + (await stage.upstream.queries()) - before;
}

/** From the start of the processes to the first answer to a pod. */
async function startBoth(stage: Stage): Promise<number> {
  const started = performance.now();
  for (const name of processes) await stage.tandem.startProcess(name);
  await waitFor(() => isAnswered(stage, 'udp', upstreamAddress), {
    what: 'the first answer',
    timeoutMs: 15_000,
  });
  return performance.now() - started;
}

/** One process goes, by a signal that the seed chooses, and is started again. */
async function restartOne(stage: Stage, name: ProcessName): Promise<void> {
  const { tandem } = stage;
  if (stage.random.fraction() < 0.5) await tandem.kill(name);
  else {
    tandem.signal(name, 'SIGTERM');
    await stage.ended(name);
  }
  await stage.restart(name);
}

async function restartBoth(stage: Stage, open: Stream, counts: Counts): Promise<void> {
  await Promise.all(processes.map((name) => stage.tandem.kill(name)));
  await checkSilence(stage, counts);
  await exchange(open, counts);
  counts.backMs.push(await startBoth(stage));
}

async function exchange(open: Stream, counts: Counts): Promise<void> {
  counts.exchangesWanted += 1;
  await open.exchange({ data: 'y', want: 1 });
  counts.exchanges += 1;
}

async function runGate(options: ChaosOptions): Promise<Outcome> {
  const { seed, tier, progress } = options;
  const rounds = options.rounds ?? roundsByTier[tier];
  await using stage = await Stage.start({ seed, purpose: 'gate' });
  const question = { server: upstreamAddress, name: 'n-1.allowed.test' };
  const [allowed] = (await askDns(stage.client, question)).addresses;
  assert.ok(allowed !== undefined, 'the web server has an address');
  await checkGuard(stage, allowed);
  await using open = await stage.client.connect({ to: allowed, port: 80, data: 'x', want: 1 });
  const counts: Counts = {
    ...{ restarts: 0, knocks: 0, escaped: 0, answersWhileDown: 0, bypassed: 0 },
    ...{ exchanges: 0, exchangesWanted: 0, backMs: [] },
  };
  for (const victim of [...processes, 'both'] as const) {
    for (let round = 1; round <= rounds; round++) {
      progress(`restart of ${victim}, ${round} of ${rounds}`);
      await stage.settle();
      stage.gate.knock(knocksPerSecond);
      if (victim === 'both') await restartBoth(stage, open, counts);
      else await restartOne(stage, victim);
      counts.restarts += 1;
      const { knocks, escaped } = await stage.gate.count();
      counts.knocks += knocks;
      counts.escaped += escaped;
      await exchange(open, counts);
    }
  }
  return { runs: [], bounds: boundsOf(counts) };
}

function boundsOf(counts: Counts): Bound[] {
  return [
    equal(`of ${counts.knocks} SYNs through ${counts.restarts} restarts passed`, counts.escaped, 0),
    equal('both down: queries answered', counts.answersWhileDown, 0),
    equal('both down: queries that reached a server', counts.bypassed, 0),
    equal('exchanges on an open connection', counts.exchanges, counts.exchangesWanted),
    atMost('both down: from their start to an answer', worst(counts.backMs), backMsMax, ' ms'),
  ];
}

export const gate: Part = {
  name: 'gate',
  what: 'SYNs to a denied address through restarts of either and both; both down: silence, no bypass',
  run: runGate,
};
