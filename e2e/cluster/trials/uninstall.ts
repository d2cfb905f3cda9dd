// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Tandem is installed and taken away again, by Helm 3 and by Helm 4: each node is as it was before. Without `cleanup.onUninstall`
 * policy goes on, as NOTES said. A node that is away meanwhile is cleaned when it comes back.
 */

import { waitFor } from '@tandem/testing/wait';
import { applyObjects, type HelmProgram, helm, kubectl, tryKubectl } from '../kubectl.ts';
import { nodeIndexes, nodeName } from '../layout.ts';
import { powerOffNode, startNode } from '../node.ts';
import {
  installProduct,
  productNamespace,
  productTag,
  release,
  uninstallProduct,
  upgradeProduct,
} from '../product.ts';
import { talkerTargets } from './guarded.ts';
import { differences, type NodeFootprint, nodeFootprint } from './node-footprint.ts';
import { type Trial, talkerPolicy, trialNamespace } from './trial.ts';

const heardTimeoutMs = 120_000;
const endTimeoutMs = 60_000;
const cleanTimeoutMs = 180_000;
const quietMs = 20_000;
const withCleanup = 'cleanup.onUninstall=true';
const hookName = `${release}-uninstall`;

export async function uninstall(trial: Trial): Promise<void> {
  const uninstalling = new Uninstall(trial);
  await uninstalling.begin();
  await uninstalling.cleaned('helm');
  await uninstalling.cleaned('helm-4');
  await uninstalling.leftClosed();
  if (trial.config.nodes > 1) await uninstalling.withNodeAway();
}

class Uninstall {
  readonly #trial: Trial;
  readonly #before = new Map<number, NodeFootprint>();
  #started = 0;

  constructor(trial: Trial) {
    this.#trial = trial;
  }

  /** @throws Error unless Tandem never ran on the cluster, or was cleaned away: each comparison would fail */
  async begin(): Promise<void> {
    const { layout, config } = this.#trial;
    const list = await helm(layout, ['list', '--namespace', productNamespace, '--short']);
    if (list.trim() !== '') {
      throw new Error(
        `the cluster has the release ${list.trim()}: ./run cluster down, then try again`,
      );
    }
    await applyObjects(layout, [talkerPolicy]);
    await this.#trial.startTalker('bystander', { node: nodeName(1), targets: [] }, 'free');
    await this.#trial.witness.watchOutside(layout);
    // the first pod of a node makes the bridge of its CNI plugin, which would be taken for Tandem's
    for (const node of this.#trial.nodeNames.slice(1)) {
      await this.#trial.startTalker(`bystander-${node}`, { node, targets: [] }, 'free');
    }
    for (const index of nodeIndexes(config)) {
      this.#before.set(index, await nodeFootprint(layout, index));
    }
  }

  async cleaned(program: HelmProgram): Promise<void> {
    const { steps, layout } = this.#trial;
    steps.title(`cleanup.onUninstall, by ${program === 'helm' ? 'Helm 3' : 'Helm 4'}`);
    await steps.step('installed: policy holds', async () => {
      await upgradeProduct(layout, productTag, { values: [withCleanup], program });
      return this.#policyHolds();
    });
    await steps.step('Tandem has changed what is compared below', () => this.#eachPartDiffers());
    await steps.step('helm uninstall: it says that each node is clean', async () => {
      const begunMs = performance.now();
      await uninstallProduct(layout, program);
      return `after ${seconds(begunMs)}`;
    });
    await this.#allIsAsBefore();
    await steps.step('policy has ended, and a pod starts', () => this.#policyHasEnded());
    await this.#endTalkers();
  }

  async leftClosed(): Promise<void> {
    const { steps, layout } = this.#trial;
    steps.title('Without it');
    await steps.step('installed: policy holds, and NOTES say that it will go on', async () => {
      await installProduct(layout, ['cleanup.onUninstall=false']);
      const target = [release, '--namespace', productNamespace];
      const notes = await helm(layout, ['get', 'notes', ...target]);
      if (!/Policy stays in force .*after `helm uninstall`/.test(notes)) throw new Error(notes);
      return this.#policyHolds();
    });
    await steps.step('helm uninstall: policy goes on, and a pod that starts is held', async () => {
      await uninstallProduct(layout);
      await this.#untilNoProcess();
      const seen = await this.#denied();
      const held = await this.#applyTalker();
      await this.#quiet(seen);
      if (this.#trial.collector.heard.has(held)) throw new Error(`${held} was heard`);
      return `for ${quietMs / 1000} s`;
    });
    await steps.step('installed again, and uninstalled with it', async () => {
      await installProduct(layout, [withCleanup]);
      await uninstallProduct(layout);
      return '';
    });
    await this.#allIsAsBefore();
    await this.#endTalkers();
  }

  async withNodeAway(): Promise<void> {
    const { steps, layout, config } = this.#trial;
    const away = config.nodes;
    steps.title(`${nodeName(away)} has no power meanwhile`);
    await steps.step('helm uninstall fails, and names the node', async () => {
      await installProduct(layout, [withCleanup, 'cleanup.timeoutSeconds=30']);
      await powerOffNode(layout, away);
      await waitFor(async () => !(await this.#trial.isNodeReady(nodeName(away))), {
        what: `${nodeName(away)} to be not ready`,
        timeoutMs: endTimeoutMs * 2,
      });
      const message = await uninstallProduct(layout).then(
        () => '',
        (error: unknown) => String(error),
      );
      if (message === '') throw new Error('it did not fail');
      const job = ['-n', productNamespace, 'logs', `job/${hookName}`, '--all-pods=true'];
      const { stdout } = await tryKubectl(layout, job);
      const last = stdout.trim().split('\n').slice(-3).join(' ');
      if (!last.includes(`${nodeName(away)}: `)) throw new Error(`${message} ${stdout}`);
      return last;
    });
    await steps.step('installing beside what still cleans is refused', async () => {
      const message = await installProduct(layout, [withCleanup]).then(
        () => 'it was installed',
        (error: unknown) => String(error),
      );
      if (!message.includes(`delete daemonset ${hookName}`)) throw new Error(message);
      return '';
    });
    await steps.step('the node comes back, and is cleaned', async () => {
      await startNode(layout, config, away);
      const begunMs = performance.now();
      const target = `daemonset/${hookName}`;
      await kubectl(layout, [
        ...['-n', productNamespace, 'rollout', 'status', target, '--timeout=170s'],
      ]);
      return `after ${seconds(begunMs)}`;
    });
    await kubectl(layout, [
      ...['-n', productNamespace, 'delete', 'daemonset,job,configmap,serviceaccount'],
      ...['-l', `app.kubernetes.io/name=tandem-uninstall`],
    ]);
    await kubectl(layout, [
      ...['-n', productNamespace, 'delete', 'role,rolebinding'],
      ...['-l', `app.kubernetes.io/name=tandem-uninstall`],
    ]);
    await this.#allIsAsBefore();
  }

  async #policyHolds(): Promise<string> {
    const begun = await this.#denied();
    const name = await this.#applyTalker();
    await this.#trial.collector.waitForAll([name], heardTimeoutMs);
    const now = await this.#denied();
    if (now > begun) throw new Error(`${now - begun} packets that policy denies were seen`);
    return `${name} reaches whom it may, and nobody else`;
  }

  /** Checks that packets that the policy denied pass, from running talkers and from one that starts. */
  async #policyHasEnded(): Promise<string> {
    const begun = await this.#denied();
    await waitFor(async () => (await this.#denied()) > begun, {
      what: 'a packet that policy denied',
      timeoutMs: endTimeoutMs,
    });
    const name = await this.#applyTalker();
    await this.#trial.collector.waitForAll([name], heardTimeoutMs);
    return '';
  }

  async #quiet(begun: number): Promise<void> {
    const endsMs = performance.now() + quietMs;
    await waitFor(() => performance.now() > endsMs, { what: 'time', timeoutMs: quietMs * 2 });
    const now = await this.#denied();
    if (now > begun) throw new Error(`${now - begun} packets that policy denies were seen`);
  }

  async #denied(): Promise<number> {
    const [outside] = await this.#trial.witness.seen();
    return outside?.denied ?? Number.NaN;
  }

  async #applyTalker(): Promise<string> {
    const trial = this.#trial;
    const name = `talker-${this.#started++}`;
    const targets = talkerTargets(trial, await trial.podAddress('bystander'));
    const template = trial.talkerTemplate('talker', { node: nodeName(1), targets });
    const metadata = { name, namespace: trialNamespace, labels: { app: 'talker' } };
    await applyObjects(trial.layout, [{ apiVersion: 'v1', kind: 'Pod', ...template, metadata }]);
    return name;
  }

  async #endTalkers(): Promise<void> {
    const { steps, layout } = this.#trial;
    await steps.step('pods of before end', async () => {
      const begunMs = performance.now();
      const target = ['delete', 'pods', '-l', 'app=talker', '--timeout=60s'];
      await kubectl(layout, ['-n', trialNamespace, ...target]);
      return `after ${seconds(begunMs)}`;
    });
  }

  /** Checks that each part differs from the former state, so that the comparison afterwards proves something. */
  async #eachPartDiffers(): Promise<string> {
    const { layout, config } = this.#trial;
    const differing = new Set<string>();
    for (const index of nodeIndexes(config)) {
      const now = await nodeFootprint(layout, index);
      const before = this.#before.get(index) as NodeFootprint;
      const wanted = partsOf(index, config.cni);
      const same = wanted.filter((part) => now[part] === before[part]);
      if (same.length > 0) throw new Error(`${nodeName(index)}: ${same.join(', ')} did not change`);
      for (const part of wanted) differing.add(part);
    }
    return [...differing].join(', ');
  }

  async #allIsAsBefore(): Promise<void> {
    const { steps, layout, config } = this.#trial;
    for (const index of nodeIndexes(config)) {
      await steps.step(`${nodeName(index)} is as it was before Tandem`, async () => {
        const before = this.#before.get(index) as NodeFootprint;
        let found: readonly string[] = [];
        await waitFor(
          async () => {
            found = differences(before, await nodeFootprint(layout, index));
            return found.length === 0;
          },
          { what: 'the node to be as before', timeoutMs: endTimeoutMs },
        ).catch((error: unknown) => {
          throw new Error(`${String(error)}: ${found.join('; ')}`);
        });
        return Object.keys(before).join(', ');
      });
    }
    await steps.step('nothing of the release is in the cluster', async () => {
      const kinds = [
        ...['daemonsets', 'jobs', 'pods', 'configmaps', 'serviceaccounts', 'secrets', 'services'],
        ...['roles', 'rolebindings', 'clusterroles', 'clusterrolebindings'],
      ].join(',');
      let left = '';
      await waitFor(
        async () => {
          const target = [kinds, '-A', '-l', 'app.kubernetes.io/part-of=tandem', '-o', 'name'];
          left = (await kubectl(layout, ['get', ...target])).trim();
          return left === '';
        },
        { what: 'the last objects to go', timeoutMs: cleanTimeoutMs },
      ).catch(() => {
        throw new Error(left.replaceAll('\n', ', '));
      });
      return '';
    });
  }

  async #untilNoProcess(): Promise<void> {
    const target = ['get', 'pods', '-n', productNamespace, '-o', 'name'];
    const selector = ['-l', 'app.kubernetes.io/part-of=tandem'];
    await waitFor(
      async () => (await kubectl(this.#trial.layout, [...target, ...selector])).trim() === '',
      { what: 'the pods of Tandem to be gone', timeoutMs: endTimeoutMs },
    );
  }
}

/** Which parts of a node Tandem changes. Entries of bridged pods are where such pods are. */
function partsOf(index: number, cni: string): readonly string[] {
  const parts = ['bpffs', 'nft', 'rules', 'routes', 'cni', 'files'];
  return index === 1 && cni !== 'ptp' ? [...parts, 'neighbours'] : parts;
}

const seconds = (sinceMs: number): string =>
  `${((performance.now() - sinceMs) / 1000).toFixed(0)} s`;
