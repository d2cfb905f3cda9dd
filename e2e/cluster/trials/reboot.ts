// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A node loses its power and starts again, with the disk it had and nothing attached: its pods pass nothing outside of policy from
 * their first moment, and with an agent that cannot start they pass nothing at all.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { waitFor } from '@tandem/testing/wait';
import { nodeName } from '../layout.ts';
import { powerOffNode, startNode } from '../node.ts';
import { agentsAreBack, agentsCannotStart } from './agents.ts';
import { judge, startGuarded } from './guarded.ts';
import type { Trial } from './trial.ts';

const pods = 20;
const notReadyTimeoutMs = 120_000;
const heardTimeoutMs = 300_000;
/** Time for which pods are watched while the agent does not start: kubelet tries several times. */
const withoutAgentMs = 60_000;

export async function reboot(trial: Trial): Promise<void> {
  const { steps, collector } = trial;
  const names = await startGuarded(trial, pods);
  steps.title(`${nodeName(1)} loses its power`);
  await steps.step('it starts again, and each of its pods is heard', async () => {
    await powerCycle(trial);
    const begunMs = performance.now();
    await collector.waitForAll(names, heardTimeoutMs);
    return `after ${((performance.now() - begunMs) / 1000).toFixed(0)} s`;
  });
  await judge(trial);
  steps.title('It loses its power once more, and its agent cannot start');
  await steps.step('both start without an agent: nobody is heard', async () => {
    await agentsCannotStart(trial);
    await powerCycle(trial);
    await delay(withoutAgentMs);
    const heard = names.filter((name) => collector.heard.has(name));
    if (heard.length > 0) throw new Error(`${heard.join(', ')} were heard`);
    return `for ${withoutAgentMs / 1000} s`;
  });
  await judge(trial);
  await steps.step('the agents are back: each pod is heard', async () => {
    await agentsAreBack(trial);
    const begunMs = performance.now();
    await collector.waitForAll(names, heardTimeoutMs);
    return `after ${((performance.now() - begunMs) / 1000).toFixed(0)} s`;
  });
  await judge(trial);
}

/** Forgets whom the collector has heard once the node has no power. */
async function powerCycle(trial: Trial): Promise<void> {
  const { layout, config, collector } = trial;
  await powerOffNode(layout, 1);
  await waitFor(async () => !(await trial.isNodeReady(nodeName(1))), {
    what: `${nodeName(1)} to be not ready`,
    timeoutMs: notReadyTimeoutMs,
  });
  await collector.forget();
  await startNode(layout, config, 1);
}
