// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Compilation at the size of a large cluster, in a process of its own: `--json` for the benchmark, `--size small` for
 * a look. Times are of the main thread, from the change in the source's state to the end of what the kernel is told.
 */

import { KubeCluster } from '@tandem/agent/source/kube-cluster';
import type { BpfMap } from '@tandem/bpf-loader-node/map';
import { parsePrefix } from '@tandem/core/net/ip';
import { expandPolicy } from '@tandem/core/policy/compile/expand';
import { compileFitting } from '@tandem/core/policy/compile/fit';
import type { NodeContext } from '@tandem/core/policy/model/cluster-state';
import { StableIds } from '@tandem/core/policy/model/stable-ids';
import { type Entry, encodeClass, encodePolicy } from '@tandem/datapath/encode';
import { keyText } from '@tandem/datapath/known-entries';
import { collectStartGarbage } from '@tandem/dns-proxy/start-garbage';
import { boolOption, enumOption, intOption, stringOption } from '@tandem/runtime/config-option';
import { runTool, type ToolSpec } from '@tandem/runtime/tool';
import { ControllerBed } from './controller-bed.ts';
import {
  type ClusterSize,
  clusterSizes,
  largeCluster,
  localNode,
  localPod,
  policyObject,
  remotePod,
  sizeNames,
  type Told,
} from './large-cluster.ts';
import type { ChangeCost, PolicyCost } from './policy-cost.ts';

const objectsPerPage = 500;

const node: NodeContext = {
  nodeName: localNode,
  localAddresses: [],
  clusterCidrs: [],
  serviceCidrs: [parsePrefix('10.96.0.0/12')].filter((prefix) => prefix !== null),
  nodeLocalDns: [],
  clusterName: 'default',
};

class Run {
  readonly #size: ClusterSize;
  readonly #cluster = new KubeCluster({
    nodeName: localNode,
    sandboxOf: () => undefined,
    podGone: () => undefined,
  });
  readonly #bed = new ControllerBed(node);
  /** By the number of a pod: how many had its place before. */
  readonly #lives = new Map<number, number>();
  readonly #localLives = new Map<number, number>();
  readonly #versions = new Map<number, number>();
  #seed = 1;

  constructor(size: ClusterSize) {
    this.#size = size;
  }

  /** `only`: a part of the name of those kinds of change that are measured. */
  async measure(changes: number, churnSeconds: number, only: string): Promise<PolicyCost> {
    let told = 0;
    for (const each of largeCluster(this.#size)) {
      // As it is parsed: texts that are put together here would take more.
      this.#set({ ...each, raw: JSON.parse(JSON.stringify(each.raw)) as Told['raw'] });
      // As pages of a list come: what was read of one is garbage before the next.
      if (++told % objectsPerPage === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    const rssSourceMiB = await settledRssMiB();
    const whole = await this.#timed(() => undefined);
    const { applied, diagnostics } = this.#bed.controller;
    const problem = diagnostics.find(({ severity }) => severity === 'error');
    const policyEntries = count(this.#bed.map('policy').entries());
    await this.#bed.rest();
    const rssMiB = await settledRssMiB();
    const costs: ChangeCost[] = [];
    const add = async (what: string, change: () => void): Promise<void> => {
      if (what.includes(only)) costs.push(await this.#repeat(what, changes, change));
    };
    await add('pod of another node replaced', () => this.#replacePod());
    await add('pod of this node replaced', () => this.#replaceLocalPod());
    await add('policy of a pod here changed', () => this.#changePolicy(true));
    await add('policy of pods elsewhere changed', () => this.#changePolicy(false));
    await add('Service got another backend', () => this.#changeSlice());
    const churn = churnSeconds > 0 ? await this.#churn(churnSeconds) : null;
    await this.#bed.rest();
    const rssChurnedMiB = await settledRssMiB();
    // Last: a second compilation of everything is in this process then.
    const differing = churn === null ? 0 : await this.#differences();
    this.#bed[Symbol.dispose]();
    return {
      size: this.#size,
      wholeMs: whole.ms,
      wholeCpuMs: whole.cpuMs,
      wholeStallMs: whole.stallMs,
      classes: applied?.classes.size ?? 0,
      policyEntries,
      problem: problem === undefined ? '' : `${problem.code} ${problem.subject}`,
      rssSourceMiB,
      rssMiB,
      rssChurnedMiB,
      changes: costs,
      churn: churn === null ? null : { ...churn, differences: differing },
    };
  }

  #set({ list, key, raw }: Told): void {
    this.#cluster.set(list, key, raw);
  }

  #random(below: number): number {
    this.#seed = (Math.imul(this.#seed, 1_103_515_245) + 12_345) & 0x7fffffff;
    return Math.floor((this.#seed / 0x80000000) * below);
  }

  #replacePod(): void {
    const i = this.#random(this.#size.remotePods);
    const life = this.#lives.get(i) ?? 0;
    this.#cluster.delete('pods of other nodes', remotePod(i, life, this.#size).key);
    this.#lives.set(i, life + 1);
    this.#set(remotePod(i, life + 1, this.#size));
  }

  #replaceLocalPod(): void {
    const i = this.#random(this.#size.localPods);
    const life = this.#localLives.get(i) ?? 0;
    this.#cluster.delete('pods of this node', localPod(i, this.#size, life).key);
    this.#localLives.set(i, life + 1);
    this.#set(localPod(i, this.#size, life + 1));
  }

  /** `isHere`: of those that select a pod of this node; there are pods of every namespace, not of every application. */
  #changePolicy(isHere: boolean): void {
    const { policies } = this.#size;
    let i = this.#random(policies);
    while (this.#selectsHere(i) !== isHere) i = (i + 1) % policies;
    const version = (this.#versions.get(i) ?? 0) + 1;
    this.#versions.set(i, version);
    this.#set(policyObject(i, version));
  }

  /** As `localPod` and `policyObject` number applications. */
  #selectsHere(i: number): boolean {
    const ns = i % 250;
    return Math.floor(i / 250) % 10 === ns % 10;
  }

  #changeSlice(): void {
    const i = this.#random(this.#size.services);
    const pods = [1, 2, 3].map(() => this.#random(this.#size.remotePods));
    const key = `team-${i % 250}/service-${i}-1`;
    const [namespace = '', name = ''] = key.split('/');
    this.#set({
      list: 'endpointslices',
      key,
      raw: {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        addressType: 'IPv4',
        metadata: {
          namespace,
          name,
          uid: name,
          labels: { 'kubernetes.io/service-name': `service-${i}` },
        },
        endpoints: pods.map((pod) => ({ addresses: [`10.64.${pod & 255}.9`] })),
        ports: [{ name: 'http', port: 80, protocol: 'TCP' }],
      },
    });
  }

  async #timed(change: () => void): Promise<{ ms: number; cpuMs: number; stallMs: number }> {
    const stalls = new Stalls();
    const cpu = process.threadCpuUsage();
    const start = performance.now();
    change();
    await this.#bed.controller.update(this.#cluster.state());
    const ms = performance.now() - start;
    const { user, system } = process.threadCpuUsage(cpu);
    return { ms, cpuMs: (user + system) / 1000, stallMs: await stalls.end() };
  }

  async #repeat(what: string, changes: number, change: () => void): Promise<ChangeCost> {
    const times: number[] = [];
    const cpus: number[] = [];
    let stallMs = 0;
    for (let i = 0; i < changes; i++) {
      const timed = await this.#timed(change);
      times.push(timed.ms);
      cpus.push(timed.cpuMs);
      stallMs = Math.max(stallMs, timed.stallMs);
    }
    return {
      what,
      count: changes,
      p50Ms: quantile(times, 0.5),
      p99Ms: quantile(times, 0.99),
      cpuP50Ms: quantile(cpus, 0.5),
      cpuP99Ms: quantile(cpus, 0.99),
      stallMs,
    };
  }

  /** A hundred changes a second, of pods and policies; each waits for the compilation that is under way. */
  async #churn(seconds: number): Promise<PolicyCost['churn']> {
    const lags: number[] = [];
    const cpu = process.threadCpuUsage();
    const start = performance.now();
    let pending: number[] = [];
    let running: Promise<void> | null = null;
    const apply = async (): Promise<void> => {
      while (pending.length > 0) {
        const taken = pending;
        pending = [];
        await this.#bed.controller.update(this.#cluster.state());
        for (const at of taken) lags.push(performance.now() - at);
      }
      running = null;
    };
    let made = 0;
    while (performance.now() - start < seconds * 1000) {
      const due = Math.floor((performance.now() - start) / 10);
      for (; made < due; made++) {
        if (made % 20 === 0) this.#changePolicy(made % 40 === 0);
        else if (made % 10 === 5) this.#replaceLocalPod();
        else this.#replacePod();
        pending.push(performance.now());
      }
      if (pending.length > 0) running ??= apply();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await running;
    const { user, system } = process.threadCpuUsage(cpu);
    return {
      seconds,
      changes: lags.length,
      lagP50Ms: quantile(lags, 0.5),
      lagP99Ms: quantile(lags, 0.99),
      cpuShare: (user + system) / 1000 / (performance.now() - start),
      differences: 0,
    };
  }

  /** Differences between what the kernel holds after all changes and what another agent would write that starts now. */
  async #differences(): Promise<number> {
    // Peers that policies of before named go with the next change.
    await this.#bed.controller.update(this.#cluster.state());
    const { applied } = this.#bed.controller;
    if (applied === null) return Infinity;
    const options = { node, revision: 1, retain: [applied] };
    const fresh = compileFitting(this.#cluster.state(), options, StableIds.empty());
    const wanted = {
      classes: Array.from(fresh.classes, ({ prefix, classId, flags }) =>
        encodeClass(prefix.address, prefix.bits, classId, flags),
      ),
      policy: [...fresh.policies.values()].flatMap((policy) =>
        expandPolicy(policy, fresh.classTable).map(encodePolicy),
      ),
    };
    return (
      differences(this.#bed.map('classes'), wanted.classes) +
      differences(this.#bed.map('policy'), wanted.policy)
    );
  }
}

/** How long the thread takes to come to a timer that is due. */
class Stalls {
  #last = performance.now();
  #maxMs = 0;
  #timer = setTimeout(() => this.#tick(), 1);

  async end(): Promise<number> {
    await new Promise((resolve) => setTimeout(resolve, 2));
    clearTimeout(this.#timer);
    return this.#maxMs;
  }

  #tick(): void {
    const now = performance.now();
    this.#maxMs = Math.max(this.#maxMs, now - this.#last);
    this.#last = now;
    this.#timer = setTimeout(() => this.#tick(), 1);
  }
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

function differences(map: BpfMap, wanted: readonly Entry[]): number {
  const held = new Map([...map.entries()].map(([key, value]) => [keyText(key), keyText(value)]));
  let found = 0;
  for (const { key, value } of wanted) {
    if (held.get(keyText(key)) !== keyText(value)) found++;
    held.delete(keyText(key));
  }
  return found + held.size;
}

function count(items: Iterable<unknown>): number {
  let number = 0;
  for (const _ of items) number++;
  return number;
}

/** As the agent is some seconds after the last change (quiet-garbage.ts). */
async function settledRssMiB(): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, 50));
  collectStartGarbage();
  await new Promise((resolve) => setTimeout(resolve, 50));
  return process.memoryUsage.rss() / 2 ** 20;
}

interface Options {
  readonly size: (typeof sizeNames)[number];
  readonly changes: number;
  readonly churn: number;
  readonly only: string;
  readonly json: boolean;
}

const tool: ToolSpec<Options> = {
  program: 'node e2e/bench/policy/policy.bench.ts',
  description: 'Compilation at the size of a large cluster.',
  options: {
    size: enumOption({
      description: 'of the cluster',
      ...{ values: sizeNames, default: 'small' },
    }),
    changes: intOption({
      description: 'changes of each kind',
      ...{ default: 20, min: 0, max: 1_000_000 },
    }),
    churn: intOption({
      description: 'seconds of a hundred changes a second',
      ...{ default: 0, min: 0, max: 86_400 },
    }),
    only: stringOption({ description: 'only changes of this kind', default: '' }),
    json: boolOption({ description: 'as JSON', default: false }),
  },
};
process.exitCode = await runTool(tool, async ({ size, changes, churn, only, json }) => {
  const cost = await new Run(clusterSizes[size]).measure(changes, churn, only);
  console.log(json ? JSON.stringify(cost) : cost);
  return 0;
});
process.exit();
