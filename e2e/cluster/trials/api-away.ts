// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The API server is away, and both processes of each node are restarted meanwhile: policy stays in force, and a pod that kubelet starts
 * without it (a static one) passes nothing until its object is known.
 */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { run, tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { inControlPlane, startControlPlaneProgram, waitForApiServer } from '../control-plane.ts';
import { nodeName } from '../layout.ts';
import { inNode } from '../node.ts';
import { staticPods } from '../node-files.ts';
import { killDaemon } from '../processes.ts';
import { processOf, programs } from './agents.ts';
import { judge, startGuarded, talkerTargets } from './guarded.ts';
import { type Trial, trialNamespace } from './trial.ts';
import { nothingDenied } from './witness.ts';

const pods = 10;
const restartTimeoutMs = 120_000;
const heardTimeoutMs = 180_000;
const staticName = 'static';

export async function apiAway(trial: Trial, minutes: number): Promise<void> {
  const { steps, layout, collector } = trial;
  const names = await startGuarded(trial, pods);
  const bystander = await trial.podAddress('bystander');
  steps.title(`The API server is away for ${minutes} minutes`);
  const endsMs = performance.now() + minutes * 60_000;
  await steps.step('it is killed', async () => {
    await killDaemon(layout, 'kube-apiserver');
    return '';
  });
  for (const [place, node] of trial.nodeNames.entries()) {
    for (const program of programs) {
      await steps.step(`${node}: its ${program} is killed, kubelet starts it again`, async () => {
        const before = await processOf(trial, place + 1, program);
        if (before === null) throw new Error('it did not run');
        await tryRun(...(await inNode(layout, place + 1, ['kill', '-KILL', `${before}`])));
        const isNew = async (): Promise<boolean> => {
          const after = await processOf(trial, place + 1, program);
          return after !== null && after !== before;
        };
        await waitFor(isNew, { what: `a new ${program}`, timeoutMs: restartTimeoutMs });
        return '';
      });
    }
  }
  const file = join(staticPods(layout, 1), `${staticName}.json`);
  const fullName = `${staticName}-${nodeName(1)}`;
  await steps.step('a pod that only kubelet knows is not heard', async () => {
    const options = { node: nodeName(1), targets: talkerTargets(trial, bystander) };
    const template = trial.talkerTemplate('talker', options);
    const metadata = { name: staticName, namespace: trialNamespace, labels: { app: 'talker' } };
    writeFileSync(file, JSON.stringify({ apiVersion: 'v1', kind: 'Pod', ...template, metadata }));
    const leftMs = Math.max(0, endsMs - performance.now());
    await delay(leftMs);
    if (collector.heard.has(fullName)) throw new Error('it was heard');
    return `for ${(leftMs / 60_000).toFixed(1)} minutes`;
  });
  await steps.step('each of the other pods is heard to the end', async () => {
    await collector.forget();
    await collector.waitForAll(names, heardTimeoutMs);
    return '';
  });
  await judge(trial);
  steps.title('The API server is back');
  await steps.step('the static pod is heard, under its policy', async () => {
    startControlPlaneProgram(layout, trial.config, 'kube-apiserver');
    await waitForApiServer(layout);
    const begunMs = performance.now();
    await collector.waitForAll([fullName], heardTimeoutMs);
    return `after ${((performance.now() - begunMs) / 1000).toFixed(0)} s; ${nothingDenied(await trial.witness.seen())}`;
  });
  rmSync(file, { force: true });
}

/**
 * Packets from nodes to the API server are lost, so that connections look alive at both ends: policy stays in force, and when packets
 * pass again a new pod starts.
 */
export async function apiCut(trial: Trial, minutes: number): Promise<void> {
  const { steps, layout, collector } = trial;
  const names = await startGuarded(trial, pods);
  const rule = ['INPUT', '-i', 'br0', '-p', 'tcp', '--dport', '6443', '-j', 'DROP'];
  const iptables = (action: string): Promise<unknown> =>
    run(...inControlPlane(layout, 'iptables', ['-w', action, ...rule]));
  steps.title(`Packets to the API server are lost for ${minutes} minutes`);
  await steps.step('every pod is heard to the end', async () => {
    await iptables('-I');
    await delay(minutes * 60_000);
    await collector.forget();
    await collector.waitForAll(names, heardTimeoutMs);
    return '';
  });
  await judge(trial);
  steps.title('They pass again');
  await steps.step('a new pod is heard, under its policy', async () => {
    await iptables('-D');
    const begunMs = performance.now();
    const targets = talkerTargets(trial, await trial.podAddress('bystander'));
    await trial.startTalker('later', { node: nodeName(1), targets });
    await collector.waitForAll(['later'], heardTimeoutMs);
    return `after ${((performance.now() - begunMs) / 1000).toFixed(0)} s; ${nothingDenied(await trial.witness.seen())}`;
  });
}
