// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Many pods started at once on one node, that talk from their first moment, to whom they may and to whom they may not, while
 * others talk to them: no packet outside of policy on the wire. The same pods without Tandem, just before, say what of their
 * times is the machine's.
 */

import { readFileSync } from 'node:fs';
import { waitFor } from '@tandem/testing/wait';
import { kubectl } from '../kubectl.ts';
import { nodeName } from '../layout.ts';
import { nodeInitPid } from '../node.ts';
import { installProduct, removeProduct } from '../product.ts';
import { processOf, programs } from './agents.ts';
import { judge, startOthers, startTalkers, startWitnesses, talkerTargets } from './guarded.ts';
import { type Spread, spreadOf, type Trial, trialNamespace } from './trial.ts';
import { nothingDenied } from './witness.ts';

const endTimeoutMs = 600_000;
const readySecondsMax = 5;
/** Factor over the time without Tandem: two bursts on one machine differ by as much. */
const overBaselineMax = 1.25;
/** Resolution of the times that the API gives. */
const resolutionSeconds = 1;
const baselineName = 'baseline';
const burstName = 'burst';

interface Times {
  readonly toNetwork: Spread;
  readonly toReady: Spread;
}

export async function burst(trial: Trial, pods: number): Promise<void> {
  const { steps, layout } = trial;
  let bystander = '';
  const start = async (name: string): Promise<string> => {
    const begunMs = performance.now();
    await startTalkers(trial, name, pods, talkerTargets(trial, bystander));
    return `after ${seconds(begunMs)}`;
  };
  steps.title(`${pods} pods at once on ${nodeName(1)}, without Tandem`);
  await steps.step('a bystander and strangers, whom no policy holds', async () => {
    await removeProduct(layout);
    bystander = await startOthers(trial, nodeName(1));
    return `a stranger on each node sends to every pod address of ${nodeName(1)}`;
  });
  await steps.step('each is ready and heard', () => start(baselineName));
  const baseline = await readTimes(trial);
  await steps.step('all deleted at once', () => end(trial, baselineName));
  await steps.step('Tandem is installed', async () => {
    // The controller elsewhere: 250 pods, CoreDNS and those that others reach are all that a /24 has addresses for.
    const elsewhere = trial.nodeNames.at(-1) ?? nodeName(1);
    await installProduct(layout, [`controller.nodeSelector.kubernetes\\.io/hostname=${elsewhere}`]);
    await startWitnesses(trial);
    trial.collector.forgetComplaints();
    return '';
  });
  steps.title(`${pods} pods at once on ${nodeName(1)}, with Tandem`);
  const before = await trial.gateWaits(1, readySecondsMax);
  const cpuBefore = await cpuOf(trial);
  await steps.step('each is ready and heard', async () => {
    const text = await start(burstName);
    const cpu = (await cpuOf(trial)).map((after, place) => after - (cpuBefore[place] ?? 0));
    const words = programs.map((name, place) => `${name} ${cpu[place]?.toFixed(1)} s`);
    return `${text}; CPU time of ${words.join(', ')}`;
  });
  await steps.step(`the gate held none longer than ${readySecondsMax} s`, async () => {
    const after = await trial.gateWaits(1, readySecondsMax);
    const within = after.within - before.within;
    const all = after.all - before.all;
    const meanMs = (1000 * (after.seconds - before.seconds)) / all;
    const text = `${within} of ${all}, mean ${meanMs.toFixed(0)} ms`;
    if (within < all) throw new Error(text);
    return text;
  });
  const times = await readTimes(trial);
  for (const [what, kind] of [
    ['its network, from when its node was chosen', 'toNetwork'],
    ['ready, from when it had its network', 'toReady'],
  ] as const) {
    const limit = Math.max(readySecondsMax, baseline[kind].p99 * overBaselineMax);
    await steps.step(`99 of 100 have ${what}, as without Tandem`, () => {
      const text = `${times[kind].text}; without Tandem ${baseline[kind].text}`;
      if (!(times[kind].p99 <= limit + resolutionSeconds)) throw new Error(text);
      return text;
    });
  }
  await judge(trial);
  await steps.step('all deleted at once: nothing outside of policy meanwhile', async () => {
    const gone = await end(trial, burstName);
    return `${gone}; ${nothingDenied(await trial.witness.seen())}`;
  });
}

async function readTimes(trial: Trial): Promise<Times> {
  const times = await trial.podTimes('talker');
  return {
    toNetwork: spreadOf(times, 'scheduled', 'network'),
    toReady: spreadOf(times, 'network', 'ready'),
  };
}

async function end(trial: Trial, name: string): Promise<string> {
  const begunMs = performance.now();
  const target = ['-n', trialNamespace, 'delete', 'replicaset', name, '--wait=false'];
  await kubectl(trial.layout, target);
  await waitFor(async () => (await trial.podNames('talker')).length === 0, {
    what: 'the pods to be gone',
    timeoutMs: endTimeoutMs,
  });
  return `gone after ${seconds(begunMs)}`;
}

/** Seconds of CPU that the programs of the first node have used. */
async function cpuOf(trial: Trial): Promise<readonly number[]> {
  const init = await nodeInitPid(trial.layout, 1);
  const used: number[] = [];
  for (const name of programs) {
    const pid = await processOf(trial, 1, name);
    const stat = readFileSync(`/proc/${init}/root/proc/${pid}/stat`, 'utf8');
    // behind the name in parentheses: utime and stime are the 14th and 15th field
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    used.push((Number(fields[11]) + Number(fields[12])) / ticksPerSecond);
  }
  return used;
}

/** USER_HZ, of every kernel that Node runs on. */
const ticksPerSecond = 100;

const seconds = (sinceMs: number): string =>
  `${((performance.now() - sinceMs) / 1000).toFixed(0)} s`;
