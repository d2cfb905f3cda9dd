// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** When a cluster is as it was before a fault: everything is there, serves, and names are answered on every node. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Inside } from '@tandem/testing/probe-process';
import { tryRun } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { kubectl, tryKubectl } from '../kubectl.ts';
import { dnsServiceAddress, nodeName } from '../layout.ts';
import { daemonSets, productNamespace } from '../product.ts';
import { agentMetric } from '../trials/agents.ts';
import { cacheName } from '../trials/local-cache.ts';
import { trialNamespace } from '../trials/trial.ts';
import { askerOf, type ClusterStage } from './stage.ts';

const settleTimeoutMs = 180_000;
/** kubelet waits longer before each restart of a container that ended: a pod that is not ready for so long makes room for another. */
const replaceMs = 15_000;
const heardTimeoutMs = 20_000;
const lookupTimeoutMs = 2000;
/** UDP and TCP of kube-dns. */
const redirects = 2;
const perNode = [daemonSets.agent, daemonSets.dnsProxy, cacheName];

interface PodRow {
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly owner: string;
  readonly isEnding: boolean;
  readonly isReady: boolean;
}

const podTemplate =
  '{range .items[*]}{.metadata.namespace}|{.metadata.name}|{.spec.nodeName}|{.metadata.ownerReferences[0].name}|{.metadata.deletionTimestamp}|{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}';
const nodeTemplate =
  '{range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}';

/** Waits for it. Calls `note` for pods that were replaced. @throws Error that names what is missing */
export async function settle(
  stage: ClusterStage,
  note: (text: string) => void,
  timeoutMs: number = settleTimeoutMs,
): Promise<void> {
  const stuck = new Stuck(stage, note);
  let missing = '';
  try {
    await waitFor(
      async () => {
        missing = await missingOf(stage, stuck);
        return missing === '';
      },
      { what: 'the cluster to be well', timeoutMs },
    );
    missing = 'each talker to be heard';
    await stage.trial.collector.forget();
    await stage.trial.collector.waitForAll(stage.talkers, heardTimeoutMs);
  } catch (error) {
    throw new Error(`${missing}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** First thing for which the cluster still waits, in the order in which a cluster starts; '': nothing. */
async function missingOf(stage: ClusterStage, stuck: Stuck): Promise<string> {
  const { layout } = stage;
  const nodes = await tryKubectl(layout, ['get', 'nodes', '-o', `jsonpath=${nodeTemplate}`]);
  if (nodes.status !== 0) return 'the API server';
  for (const index of stage.nodes) {
    if (!nodes.stdout.includes(`${nodeName(index)}=True`)) return `${nodeName(index)} to be ready`;
  }
  const pods = await readPods(stage);
  await stuck.look(pods);
  const absent = absentOf(stage, pods);
  if (absent !== '') return absent;
  for (const index of stage.nodes) {
    const serving = (await stage.members(index)).filter(
      ({ state, isServing, revision }) => state === 'live' && isServing && revision > 0,
    );
    const roles = new Set(serving.map(({ role }) => role));
    if (roles.size < 2) return `both members of ${nodeName(index)} to serve`;
    if ((await agentMetric(stage.trial, index, 'tandem_redirects')) !== redirects) {
      return `the redirects of ${nodeName(index)}`;
    }
    const asker = stage.asker(index);
    if (asker === null) return `the process of ${askerOf(index)}`;
    if (!(await resolves(stage, asker))) return `names to be answered on ${nodeName(index)}`;
  }
  return '';
}

function absentOf(stage: ClusterStage, pods: readonly PodRow[]): string {
  const waiting = pods.find(({ isEnding, isReady }) => isEnding || !isReady);
  if (waiting !== undefined) return `pod ${waiting.name}`;
  for (const index of stage.nodes) {
    for (const owner of perNode) {
      const own = pods.filter((pod) => pod.owner === owner && pod.node === nodeName(index));
      if (own.length !== 1) return `one pod of ${owner} on ${nodeName(index)}, not ${own.length}`;
    }
  }
  return pods.some(({ name }) => name.startsWith('coredns-')) ? '' : 'CoreDNS';
}

async function readPods({ layout }: ClusterStage): Promise<readonly PodRow[]> {
  const text = await kubectl(layout, ['get', 'pods', '-A', '-o', `jsonpath=${podTemplate}`]);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('|'))
    .map(([namespace = '', name = '', node = '', owner = '', ending = '', ready = '']) => ({
      ...{ namespace, name, node, owner },
      isEnding: ending !== '',
      isReady: ready === 'True',
    }))
    .filter(({ namespace }) => namespace === productNamespace || namespace === trialNamespace);
}

/** The `kube-system` pods that are not ready, and since when. */
class Stuck {
  readonly #stage: ClusterStage;
  readonly #note: (text: string) => void;
  readonly #sinceMs = new Map<string, number>();

  constructor(stage: ClusterStage, note: (text: string) => void) {
    this.#stage = stage;
    this.#note = note;
  }

  async look(pods: readonly PodRow[]): Promise<void> {
    const nowMs = performance.now();
    for (const { namespace, name, isEnding, isReady } of pods) {
      if (namespace !== productNamespace || isReady || isEnding) {
        this.#sinceMs.delete(name);
        continue;
      }
      const sinceMs = this.#sinceMs.get(name) ?? nowMs;
      this.#sinceMs.set(name, sinceMs);
      if (nowMs - sinceMs < replaceMs) continue;
      this.#sinceMs.delete(name);
      this.#note(`${name} replaced`);
      const pod = ['-n', namespace, 'delete', 'pod', name, '--wait=false'];
      await tryKubectl(this.#stage.layout, pod);
    }
  }
}

/** Whether a name that was never asked for is answered to a program at this place, and one that is known. */
export async function resolves(stage: ClusterStage, place: Inside): Promise<boolean> {
  const file = join(stage.directory, 'lookups');
  const [known] = stage.names.known();
  const fresh = stage.names.fresh();
  const names = [known?.name ?? '', fresh.name];
  writeFileSync(file, names.map((name) => `${name}\n`).join(''));
  const tool = fileURLToPath(new URL('../../bench/native/build/load', import.meta.url));
  const options = {
    ...{ server: dnsServiceAddress, rate: 100, count: names.length, names: file },
    ...{ sockets: 1, 'timeout-ms': lookupTimeoutMs },
  };
  const args = Object.entries(options).flatMap(([name, value]) => [`--${name}`, `${value}`]);
  const { status, stdout } = await tryRun(...place.enter(tool, args));
  if (status !== 0) return false;
  const { rcodes } = JSON.parse(stdout) as { readonly rcodes: Readonly<Record<string, number>> };
  return rcodes['0'] === names.length;
}
