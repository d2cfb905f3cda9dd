// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Common parts of trials: Tandem installed, a namespace, talkers under a policy, a collector, witnesses, steps. */

import { run } from '@tandem/testing/process';
import { waitFor } from '@tandem/testing/wait';
import { applyObjects, kubectl, tryKubectl } from '../kubectl.ts';
import {
  type ClusterConfig,
  type Layout,
  nodeIndexes,
  nodeName,
  worldApiAddress,
} from '../layout.ts';
import { inNode } from '../node.ts';
import { importProductImages, installProduct } from '../product.ts';
import { Steps } from '../steps.ts';
import {
  Collector,
  collectorPort,
  importTalkerImage,
  type TalkerSpec,
  talkerPodSpec,
} from './talkers.ts';
import { Witness } from './witness.ts';

export const trialNamespace = 'trial';
const podTimeoutMs = 120_000;
const intervalMsDefault = 200;
/** The chart's default. */
const agentMetricsPort = 9964;

/** Policy of pods `app: talker`: egress to the collector and to port 80 of its address, no ingress. */
export const talkerPolicy: object = {
  apiVersion: 'networking.k8s.io/v1',
  kind: 'NetworkPolicy',
  metadata: { name: 'talker', namespace: trialNamespace },
  spec: {
    podSelector: { matchLabels: { app: 'talker' } },
    policyTypes: ['Ingress', 'Egress'],
    egress: [
      {
        to: [{ ipBlock: { cidr: `${worldApiAddress}/32` } }],
        ports: [
          { protocol: 'UDP', port: collectorPort },
          { protocol: 'TCP', port: 80 },
        ],
      },
    ],
  },
};

export interface PodTimes {
  readonly name: string;
  /** Seconds since 1970 at which its node was chosen, its network was there, and it was ready. The API gives whole ones. */
  readonly scheduled: number;
  readonly network: number;
  readonly ready: number;
}

interface PodRecord {
  readonly name: string;
  /** Seconds since 1970 at which a condition became true, by its type. */
  readonly trueSince: ReadonlyMap<string, number>;
}

/** A line a pod: its name, then TYPE=STATUS=TIME of each condition. Whole objects of 250 pods are more than is kept of an output. */
const podTemplate =
  '{range .items[*]}{.metadata.name}{range .status.conditions[*]} {.type}={.status}={.lastTransitionTime}{end}{"\\n"}{end}';

type TalkerOptions = Omit<TalkerSpec, 'intervalMs'> & { readonly intervalMs?: number };

export class Trial implements AsyncDisposable {
  readonly layout: Layout;
  readonly config: ClusterConfig;
  readonly steps: Steps = new Steps();
  readonly witness: Witness = new Witness();
  readonly collector: Collector;

  private constructor(layout: Layout, config: ClusterConfig, collector: Collector) {
    this.layout = layout;
    this.config = config;
    this.collector = collector;
  }

  /** On a cluster that is up; what an earlier trial left is removed. `isInstalled`: whether Tandem is there when it begins. */
  static async begin(layout: Layout, config: ClusterConfig, isInstalled: boolean): Promise<Trial> {
    await importProductImages(layout, config);
    await importTalkerImage(layout, config);
    if (isInstalled) await installProduct(layout);
    await tryKubectl(layout, ['delete', 'namespace', trialNamespace, '--ignore-not-found']);
    await applyObjects(layout, [
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: trialNamespace } },
    ]);
    return new Trial(layout, config, await Collector.start(layout));
  }

  get nodeNames(): readonly string[] {
    return nodeIndexes(this.config).map(nodeName);
  }

  talkerTemplate(app: string, options: TalkerOptions): { metadata: object; spec: object } {
    const spec = talkerPodSpec({ intervalMs: intervalMsDefault, ...options });
    return { metadata: { labels: { app } }, spec };
  }

  /** Starts a talker and waits until it is ready. Gives its name. */
  async startTalker(name: string, options: TalkerOptions, app = 'talker'): Promise<string> {
    const { spec } = this.talkerTemplate(app, options);
    const metadata = { name, namespace: trialNamespace, labels: { app } };
    await applyObjects(this.layout, [{ apiVersion: 'v1', kind: 'Pod', metadata, spec }]);
    const isReady = async (): Promise<boolean> => (await this.readyPods(app)).includes(name);
    await waitFor(isReady, { what: `pod ${name} to be ready`, timeoutMs: podTimeoutMs });
    return name;
  }

  async endTalker(name: string): Promise<void> {
    await kubectl(this.layout, ['-n', trialNamespace, 'delete', 'pod', name]);
  }

  async podAddress(name: string): Promise<string> {
    const command = ['-n', trialNamespace, 'get', 'pod', name, '-o', 'jsonpath={.status.podIP}'];
    return kubectl(this.layout, command);
  }

  async podNames(app: string): Promise<readonly string[]> {
    return (await this.#pods(app)).map(({ name }) => name);
  }

  async readyPods(app: string): Promise<readonly string[]> {
    const pods = await this.#pods(app);
    return pods.filter(({ trueSince }) => trueSince.has('Ready')).map(({ name }) => name);
  }

  async podTimes(app: string): Promise<readonly PodTimes[]> {
    return (await this.#pods(app)).map(({ name, trueSince }) => ({
      name,
      scheduled: trueSince.get('PodScheduled') ?? Number.NaN,
      network: trueSince.get('PodReadyToStartContainers') ?? Number.NaN,
      ready: trueSince.get('Ready') ?? Number.NaN,
    }));
  }

  async isNodeReady(name: string): Promise<boolean> {
    const template = 'jsonpath={.status.conditions[?(@.type=="Ready")].status}';
    return (await kubectl(this.layout, ['get', 'node', name, '-o', template])) === 'True';
  }

  /** Pods that passed a node's gate since its agent started: their number, how many waited up to `limit`, and the sum of their seconds. */
  async gateWaits(
    index: number,
    limit: number,
  ): Promise<{ readonly within: number; readonly all: number; readonly seconds: number }> {
    const command = ['busybox', 'wget', '-qO-', `http://127.0.0.1:${agentMetricsPort}/metrics`];
    const { stdout } = await run(...(await inNode(this.layout, index, command)));
    const valueOf = (name: string): number => {
      const line = stdout.split('\n').find((text) => text.startsWith(`${name} `));
      return line === undefined ? Number.NaN : Number(line.slice(name.length));
    };
    const within = valueOf(`tandem_gate_wait_seconds_bucket{le="${limit}"}`);
    const all = valueOf('tandem_gate_wait_seconds_count');
    return { within, all, seconds: valueOf('tandem_gate_wait_seconds_sum') };
  }

  async #pods(app: string): Promise<readonly PodRecord[]> {
    const output = ['-o', `jsonpath=${podTemplate}`];
    const command = ['-n', trialNamespace, 'get', 'pods', '-l', `app=${app}`, ...output];
    const lines = (await kubectl(this.layout, command)).split('\n').filter((line) => line !== '');
    return lines.map(readPod);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.witness[Symbol.asyncDispose]();
    await this.collector[Symbol.asyncDispose]();
    const options = ['--ignore-not-found', '--wait=false'];
    await tryKubectl(this.layout, ['delete', 'namespace', trialNamespace, ...options]);
  }
}

function readPod(line: string): PodRecord {
  const [name = '', ...conditions] = line.split(' ');
  const trueSince = new Map<string, number>();
  for (const condition of conditions) {
    const [type = '', status, time = ''] = condition.split('=');
    if (status === 'True') trueSince.set(type, Date.parse(time) / 1000);
  }
  return { name, trueSince };
}

export interface Spread {
  readonly p99: number;
  readonly max: number;
  readonly text: string;
}

/** Spread of pods' times, in seconds. */
export function spreadOf(
  times: readonly PodTimes[],
  from: 'scheduled' | 'network',
  to: 'network' | 'ready',
): Spread {
  const spans = times.map((each) => each[to] - each[from]).toSorted((a, b) => a - b);
  const at = (share: number): number => spans[Math.floor(share * (spans.length - 1))] ?? Number.NaN;
  const [p99, max] = [at(0.99), at(1)];
  return { p99, max, text: `p50 ${at(0.5)} s, p99 ${p99} s, longest ${max} s` };
}

/** Sentence of a report that no packet reached a talker. @throws Error with the first packets that did */
export function nothingArrived({ collector: { complaints } }: Trial): string {
  if (complaints.length === 0) return '';
  throw new Error(`${complaints.length} packets: ${complaints.slice(0, 3).join('; ')}`);
}
