// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Faults of the CNI gate of a node: its files are damaged or gone, another program's configuration changes or disappears, the
 * agent is away for seconds or for good. Pods start with their policy in force or not at all, older pods can end, and the node stays ready
 * as long as it has a network.
 */

import { existsSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { gateConfigName, gatePluginName } from '@tandem/agent/gate/gate-installer';
import { run } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { applyObjects, kubectl } from '../kubectl.ts';
import { type Layout, nodeName } from '../layout.ts';
import { removeProduct } from '../product.ts';
import { agentsAreBack, agentsCannotStart, deleteAgentOf, processOf } from './agents.ts';
import { judge, startGuarded, talkerTargets } from './guarded.ts';
import { talkerPid } from './talkers.ts';
import { type Trial, trialNamespace } from './trial.ts';

const guardedPods = 4;
const mendTimeoutMs = 15_000;
const podTimeoutMs = 90_000;
const readyTimeoutMs = 60_000;
/** Time for which a pod is watched that must not start: kubelet tries several times. */
const heldMs = 45_000;
/** ADD waits 20 s for the agent, and nothing of a pod ends before its ADD. */
const heldPodEndsMs = 40_000;
const podEndsMs = 15_000;
/** An agent and a DNS proxy that end together may take the whole of their grace period. */
const uninstallTimeoutMs = 60_000;
/** MTU of pods that start after a change, which shows that they started with the new configuration. */
const otherMtu = 1400;

export async function gateFaults(trial: Trial): Promise<void> {
  await startGuarded(trial, guardedPods);
  const faults = new GateFaults(trial, await trial.podAddress('bystander'));
  await faults.ofFiles();
  await faults.ofAgent();
  await judge(trial);
  await faults.uninstall();
}

class GateFaults {
  readonly #trial: Trial;
  readonly #bystander: string;
  /** On the disk of the first node. */
  readonly #own: string;
  readonly #other: string;
  readonly #plugin: string;

  constructor(trial: Trial, bystander: string) {
    this.#trial = trial;
    this.#bystander = bystander;
    const disk = trial.layout.node(1);
    this.#own = join(disk, 'etc/cni', gateConfigName);
    this.#other = join(disk, 'etc/cni/10-net.conflist');
    this.#plugin = join(disk, 'opt/cni', gatePluginName);
  }

  async ofFiles(): Promise<void> {
    const { steps } = this.#trial;
    const written = readFileSync(this.#own, 'utf8');
    const before = readFileSync(this.#other, 'utf8');
    steps.title("Files of the CNI chain, and the node's agent beside them");
    await steps.step('its configuration is cut off: it is whole again, a pod starts', async () => {
      truncateSync(this.#own, Math.floor(written.length / 2));
      const took = await this.#until('whole again', () => this.#reads(this.#own) === written);
      return `${took}; ${await this.#start('after-cut')}`;
    });
    await steps.step('its program is removed: it is back, pods end and start', async () => {
      rmSync(this.#plugin);
      const ended = await this.#end('after-cut', podEndsMs);
      const took = await this.#until('back', () => existsSync(this.#plugin));
      return `${took}; ${ended}; ${await this.#start('after-program')}`;
    });
    await steps.step('the other configuration is written anew: pods start by that', async () => {
      const list = JSON.parse(before) as { readonly plugins: readonly object[] };
      const plugins = [...list.plugins, { type: 'tuning', mtu: otherMtu }];
      writeFileSync(this.#other, JSON.stringify({ ...list, plugins }));
      const isFollowed = (): boolean => (this.#reads(this.#own) ?? '').includes(`${otherMtu}`);
      const took = await this.#until('copied', isFollowed);
      const started = await this.#start('after-change');
      const mtu = await mtuOf(this.#trial.layout, 'after-change');
      if (mtu !== otherMtu) throw new Error(`its interface has MTU ${mtu}`);
      return `${took}; ${started}, with MTU ${mtu}`;
    });
    await steps.step('it is removed: so is ours, and the node is not ready', async () => {
      rmSync(this.#other);
      const took = await this.#until('gone', () => !existsSync(this.#own));
      await this.#untilNode(false);
      return took;
    });
    await steps.step('it is there again: so is ours, the node is ready, a pod starts', async () => {
      writeFileSync(this.#other, before);
      const took = await this.#until('back', () => this.#reads(this.#own) === written);
      await this.#untilNode(true);
      return `${took}; ${await this.#start('after-network')}`;
    });
    await judge(this.#trial);
  }

  async ofAgent(): Promise<void> {
    const { steps, collector } = this.#trial;
    steps.title('The agent is away');
    await steps.step('for as long as its pod is replaced: a pod that starts waits', async () => {
      const old = await processOf(this.#trial, 1, 'agent');
      await deleteAgentOf(this.#trial, nodeName(1));
      // The next one may come so soon that none is seldom seen.
      await waitFor(async () => (await processOf(this.#trial, 1, 'agent')) !== old, {
        what: 'the agent to end',
        timeoutMs: podTimeoutMs,
      });
      const started = await this.#start('meanwhile');
      const failures = await this.#failures('meanwhile');
      if (failures !== '') throw new Error(failures);
      return `${started}, without a failure`;
    });
    await steps.step('for good: no agent runs', async () => {
      for (const name of ['before-1', 'before-2']) await this.#start(name);
      await agentsCannotStart(this.#trial);
      await waitFor(async () => (await processOf(this.#trial, 1, 'agent')) === null, {
        what: 'the agent to end',
        timeoutMs: podTimeoutMs,
      });
      return '';
    });
    await steps.step('a pod is held, says why, and the node stays ready', async () => {
      await this.#apply('held');
      await this.#nodeStaysReady(heldMs);
      if (collector.heard.has('held')) throw new Error('it was heard');
      const failures = await this.#failures('held');
      if (!failures.includes('the tandem agent of this node cannot be reached')) {
        throw new Error(`its events say: ${failures}`);
      }
      return `for ${heldMs / 1000} s: the tandem agent of this node cannot be reached`;
    });
    await steps.step('a pod of before ends', () => this.#end('before-1', podEndsMs));
    await steps.step('a pod that is held ends', async () => {
      await this.#apply('given-up');
      await delay(2000);
      return this.#end('given-up', heldPodEndsMs);
    });
    await steps.step('without its program pods neither start nor end', async () => {
      rmSync(this.#plugin);
      const target = ['delete', 'pod', 'before-2', '--wait=false'];
      await kubectl(this.#trial.layout, ['-n', trialNamespace, ...target]);
      await this.#nodeStaysReady(heldMs / 2);
      const left = await this.#trial.podNames('talker');
      if (!left.includes('before-2')) throw new Error('before-2 has ended');
      if (collector.heard.has('held')) throw new Error('held has started');
      return `for ${heldMs / 2000} s; the node stays ready`;
    });
    await steps.step('the agents are back: what waited ends, and starts', async () => {
      const begunMs = performance.now();
      await agentsAreBack(this.#trial);
      await waitFor(async () => !(await this.#trial.podNames('talker')).includes('before-2'), {
        what: 'before-2 to end',
        timeoutMs: podTimeoutMs,
      });
      await collector.waitForAll(['held'], podTimeoutMs);
      return `after ${seconds(begunMs)}`;
    });
  }

  async uninstall(): Promise<void> {
    const { steps, layout } = this.#trial;
    steps.title('Uninstalled, with cleanup.onUninstall as the notes of the chart say');
    await steps.step('the gate is out of the chain', async () => {
      await removeProduct(layout);
      // helm waits for what it has installed, not for the pods of that
      const begunMs = performance.now();
      await waitFor(() => !existsSync(this.#own), {
        what: `${gateConfigName} to be gone`,
        timeoutMs: uninstallTimeoutMs,
      });
      const took = seconds(begunMs);
      await this.#untilNode(true);
      return `after ${took}; the node is ready`;
    });
    await steps.step('a pod of before ends', () => this.#end('after-network', podEndsMs));
    await steps.step('a pod starts', () => this.#start('after-uninstall'));
  }

  async #apply(name: string): Promise<void> {
    const { layout } = this.#trial;
    const targets = talkerTargets(this.#trial, this.#bystander);
    const template = this.#trial.talkerTemplate('talker', { node: nodeName(1), targets });
    const metadata = { name, namespace: trialNamespace, labels: { app: 'talker' } };
    await applyObjects(layout, [{ apiVersion: 'v1', kind: 'Pod', ...template, metadata }]);
  }

  /** Starts a talker under the policy of the others, and waits until it is heard. */
  async #start(name: string): Promise<string> {
    const begunMs = performance.now();
    await this.#apply(name);
    await this.#trial.collector.waitForAll([name], podTimeoutMs);
    return `${name} heard after ${seconds(begunMs)}`;
  }

  async #end(name: string, limitMs: number): Promise<string> {
    const begunMs = performance.now();
    await this.#trial.endTalker(name);
    const text = `${name} gone after ${seconds(begunMs)}`;
    if (performance.now() - begunMs > limitMs) throw new Error(text);
    return text;
  }

  #reads(file: string): string | null {
    return existsSync(file) ? readFileSync(file, 'utf8') : null;
  }

  async #until(what: string, condition: () => boolean): Promise<string> {
    const begunMs = performance.now();
    await waitFor(condition, { what: `it to be ${what}`, timeoutMs: mendTimeoutMs });
    return `${what} after ${seconds(begunMs)}`;
  }

  async #untilNode(isReady: boolean): Promise<void> {
    await waitFor(async () => (await this.#trial.isNodeReady(nodeName(1))) === isReady, {
      what: `${nodeName(1)} to be ${isReady ? 'ready' : 'not ready'}`,
      timeoutMs: readyTimeoutMs,
    });
  }

  async #nodeStaysReady(forMs: number): Promise<void> {
    const endsMs = performance.now() + forMs;
    while (performance.now() < endsMs) {
      if (!(await this.#trial.isNodeReady(nodeName(1)))) throw new Error('the node is not ready');
      await delay(1000);
    }
  }

  /** Reasons in events for which a pod does not start. */
  async #failures(pod: string): Promise<string> {
    const fields = `involvedObject.name=${pod},reason=FailedCreatePodSandBox`;
    const query = ['get', 'events', `--field-selector=${fields}`];
    const output = ['-o', 'jsonpath={range .items[*]}{.message}{"\\n"}{end}'];
    return kubectl(this.#trial.layout, ['-n', trialNamespace, ...query, ...output]);
  }
}

const seconds = (sinceMs: number): string =>
  `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`;

async function mtuOf(layout: Layout, pod: string): Promise<number> {
  const inPod = ['--target', `${await talkerPid(layout, pod)}`, '--net'];
  const { stdout } = await run('nsenter', [...inPod, 'ip', '-json', 'link', 'show', 'eth0']);
  const [link] = JSON.parse(stdout) as readonly { readonly mtu: number }[];
  return link?.mtu ?? Number.NaN;
}
