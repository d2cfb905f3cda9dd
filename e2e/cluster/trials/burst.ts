// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Many pods started at once on one node, that talk from their first moment, to whom they may and to whom they may not, while
 * others talk to them: no packet outside of policy on the wire.
 */

import { waitFor } from '@tandem/testing/wait';
import { kubectl } from '../kubectl.ts';
import { nodeName } from '../layout.ts';
import { judge, startOthers, startTalkers, talkerTargets } from './guarded.ts';
import { podSpread, type Trial, trialNamespace } from './trial.ts';
import { nothingDenied } from './witness.ts';

const endTimeoutMs = 600_000;
const readySecondsMax = 5;
const burstName = 'burst';

export async function burst(trial: Trial, pods: number): Promise<void> {
  const { steps } = trial;
  steps.title(`${pods} pods at once on ${nodeName(1)}`);
  let bystander = '';
  await steps.step('a bystander and strangers, whom no policy holds', async () => {
    bystander = await startOthers(trial, nodeName(1));
    return `a stranger on each node sends to every pod address of ${nodeName(1)}`;
  });
  const before = await trial.gateWaits(1, readySecondsMax);
  await steps.step(`each of ${pods} pods is ready and heard`, async () => {
    const begunMs = performance.now();
    await startTalkers(trial, burstName, pods, talkerTargets(trial, bystander));
    return `after ${((performance.now() - begunMs) / 1000).toFixed(0)} s`;
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
  await steps.step(`each is ready within ${readySecondsMax} s of its network`, async () => {
    const { max, text } = podSpread(await trial.podTimes('talker'));
    if (!(max <= readySecondsMax)) throw new Error(text);
    return text;
  });
  await judge(trial);
  await steps.step('all deleted at once: nothing outside of policy meanwhile', async () => {
    const begunMs = performance.now();
    const target = ['-n', trialNamespace, 'delete', 'replicaset', burstName, '--wait=false'];
    await kubectl(trial.layout, target);
    await waitFor(async () => (await trial.podNames('talker')).length === 0, {
      what: 'the pods to be gone',
      timeoutMs: endTimeoutMs,
    });
    const seen = nothingDenied(await trial.witness.seen());
    return `gone after ${((performance.now() - begunMs) / 1000).toFixed(0)} s; ${seen}`;
  });
}
