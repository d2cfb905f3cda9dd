// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Agents of a trial that are there, or cannot start. */

import { run, tryRun } from '@tandem/testing/process';
import { kubectl } from '../kubectl.ts';
import { inNode } from '../node.ts';
import { daemonSets, productNamespace, rollout } from '../product.ts';
import type { Trial } from './trial.ts';

/** As their processes are called. */
export const programs = ['agent', 'dns-proxy'] as const;
const noImage = 'localhost/tandem/agent:cannot-start';
const agent = `daemonset/${daemonSets.agent}`;
const selector = `app.kubernetes.io/name=${daemonSets.agent}`;

/** From now on an agent that starts has an image that is nowhere; those that run are deleted, unless their nodes are down. */
export async function agentsCannotStart(trial: Trial): Promise<void> {
  // OnDelete: those that run stay until they are deleted
  await system(trial, 'patch', agent, '-p', updateStrategy('OnDelete'));
  await system(trial, 'set', 'image', agent, `agent=${noImage}`);
  try {
    await system(trial, 'delete', 'pods', '-l', selector);
  } catch (error) {
    await agentsAreBack(trial);
    throw error;
  }
}

/** Waits until each node has one that is ready. */
export async function agentsAreBack(trial: Trial): Promise<void> {
  await system(trial, 'rollout', 'undo', agent);
  await system(trial, 'patch', agent, '-p', updateStrategy('RollingUpdate'));
  await system(trial, 'delete', 'pods', '-l', selector);
  await rollout(trial.layout, productNamespace, daemonSets.agent);
}

/** Ends the agent of a node; kubelet starts its next pod. */
export async function deleteAgentOf(trial: Trial, node: string): Promise<void> {
  const where = ['-l', selector, `--field-selector=spec.nodeName=${node}`, '--wait=false'];
  await system(trial, 'delete', 'pods', ...where);
}

/** The main process of a program of Tandem on a node, as the node numbers it. */
export async function processOf(
  trial: Trial,
  index: number,
  program: (typeof programs)[number],
): Promise<number | null> {
  const search = ['pgrep', '--oldest', '--full', `/dist/${program}\\.js`];
  const { status, stdout } = await tryRun(...(await inNode(trial.layout, index, search)));
  return status === 0 ? Number(stdout.trim()) : null;
}

/** A series without labels, or NaN, as the agent of a node tells it. */
export async function agentMetric(trial: Trial, index: number, series: string): Promise<number> {
  const get = ['busybox', 'wget', '-qO-', 'http://127.0.0.1:9964/metrics'];
  const { stdout } = await run(...(await inNode(trial.layout, index, get)));
  const line = stdout.split('\n').find((text) => text.startsWith(`${series} `));
  return line === undefined ? Number.NaN : Number(line.slice(series.length));
}

const updateStrategy = (type: string): string =>
  JSON.stringify({
    spec: { updateStrategy: { type, rollingUpdate: type === 'OnDelete' ? null : {} } },
  });

function system({ layout }: Trial, ...args: readonly string[]): Promise<string> {
  return kubectl(layout, ['-n', productNamespace, ...args]);
}
