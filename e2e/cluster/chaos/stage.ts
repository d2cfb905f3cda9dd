// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A cluster under chaos: on each node a pod that asks, whose policy allows `*.allowed.test`, two talkers that no pod may reach and
 * that may reach few, a node-local cache behind a CiliumLocalRedirectPolicy; outside a DNS server that tells what it saw, and captures.
 */

import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { Datapath } from '@tandem/datapath/datapath';
import { type MemberStatus, NodeGroup } from '@tandem/datapath/group';
import type { Inside } from '@tandem/testing/probe-process';
import { run } from '@tandem/testing/process';
import { Names } from '../../chaos/names.ts';
import { Random } from '../../chaos/random.ts';
import { Upstream } from '../../chaos/upstream.ts';
import { learnedAddresses } from '../../kit/learned.ts';
import { clusterDnsObjects } from '../cluster-dns.ts';
import { inControlPlane } from '../control-plane.ts';
import { applyObjects, kubectl, tryKubectl } from '../kubectl.ts';
import { type ClusterConfig, type Layout, nodeIndexes, nodeName } from '../layout.ts';
import { nodeInitPid } from '../node.ts';
import { rollout } from '../product.ts';
import { startOthers, startTalkers, startWitnesses, talkerTargets } from '../trials/guarded.ts';
import { cacheName, cacheNamespace, cacheObjects, cachePolicy } from '../trials/local-cache.ts';
import { podProcess } from '../trials/pod-process.ts';
import { Trial, trialNamespace } from '../trials/trial.ts';

const upstreamAddress = '203.0.113.54';
/** Addresses of the names that the upstream answers (`names.ts`), each with a web server. */
const answerCidr = '198.18.0.0/15';
const zones = `test:53 {
    errors
    forward . ${upstreamAddress}
}
`;
const askers = 'asks';
const bystander = 'bystander';
export const askerOf = (index: number): string => `${askers}-${nodeName(index)}`;
/** Two, so that talkers of one node also send to each other. */
const talkersPerNode = 2;
const rolloutTimeout = '--timeout=120s';

const policy = {
  apiVersion: 'cilium.io/v2',
  kind: 'CiliumNetworkPolicy',
  metadata: { name: 'chaos', namespace: trialNamespace },
  spec: {
    endpointSelector: { matchLabels: { app: askers } },
    egress: [
      {
        toEndpoints: [
          {
            matchLabels: {
              'k8s:io.kubernetes.pod.namespace': 'kube-system',
              'k8s:k8s-app': 'kube-dns',
            },
          },
        ],
        toPorts: [
          {
            ports: [{ port: '53', protocol: 'ANY' }],
            rules: { dns: [{ matchPattern: '*.allowed.test' }] },
          },
        ],
      },
      {
        toFQDNs: [{ matchPattern: '*.allowed.test' }],
        toPorts: [{ ports: [{ port: '80', protocol: 'TCP' }] }],
      },
    ],
  },
};

/** Packets that captures and talkers have seen since the stage began. */
export interface Guarded {
  readonly allowed: number;
  readonly denied: number;
  /** Texts of the first denied packets. */
  readonly texts: readonly string[];
}

export class ClusterStage implements AsyncDisposable {
  readonly trial: Trial;
  readonly upstream: Upstream;
  readonly names: Names;
  readonly random: Random;
  readonly directory: string;
  #talkers: readonly string[] = [];
  /** Addresses that an earlier stage on this cluster learned. */
  readonly #learnedBefore = new Set<string>();

  private constructor(trial: Trial, upstream: Upstream, seed: number) {
    this.trial = trial;
    this.upstream = upstream;
    this.names = new Names(new Random(seed, 'cluster names'));
    this.random = new Random(seed, 'cluster');
    this.directory = join(trial.layout.directory, 'chaos');
    rmSync(this.directory, { recursive: true, force: true });
    mkdirSync(this.directory);
  }

  /** On a cluster that is up; installs the product. */
  static async start(
    layout: Layout,
    config: ClusterConfig,
    seed: number,
    progress: (text: string) => void,
  ): Promise<ClusterStage> {
    progress('installing Tandem');
    const trial = await Trial.begin(layout, config, true);
    try {
      for (const address of [answerCidr, `${upstreamAddress}/32`]) {
        await run(...inControlPlane(layout, 'ip', ['address', 'replace', address, 'dev', 'lo']));
      }
      const outside: Inside = {
        enter: (command, args = []) => inControlPlane(layout, command, args),
      };
      const stage = new ClusterStage(
        trial,
        await Upstream.start(outside, seed, upstreamAddress),
        seed,
      );
      await stage.#begin(progress);
      return stage;
    } catch (error) {
      await trial[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #begin(progress: (text: string) => void): Promise<void> {
    const { trial } = this;
    progress('a zone of its own for CoreDNS, a cache on each node');
    await this.#dnsWith(zones);
    await applyObjects(trial.layout, [...cacheObjects, cachePolicy, policy]);
    await rollout(trial.layout, cacheNamespace, cacheName);
    progress('pods on each node');
    for (const index of this.nodes) {
      const options = { node: nodeName(index), targets: [] };
      await trial.startTalker(askerOf(index), options, askers);
    }
    const address = await startOthers(trial, trial.nodeNames.at(-1) ?? nodeName(1), this.nodes);
    await startWitnesses(trial);
    const targets = talkerTargets(trial, address);
    const talkers: string[] = [];
    for (const index of this.nodes) {
      const name = `guarded-${nodeName(index)}`;
      talkers.push(...(await startTalkers(trial, name, talkersPerNode, targets, nodeName(index))));
    }
    this.#talkers = talkers;
    for (const index of this.nodes) {
      for (const each of await this.learned(index)) this.#learnedBefore.add(each);
    }
  }

  get layout(): Layout {
    return this.trial.layout;
  }

  get nodes(): readonly number[] {
    return nodeIndexes(this.trial.config);
  }

  /** Names of the talkers that must be heard. */
  get talkers(): readonly string[] {
    return this.#talkers;
  }

  /** The network namespace of the pod that asks; null: it has no process. */
  asker(index: number): Inside | null {
    return this.inside(askerOf(index));
  }

  /** Access to a pod of the trial; null: it has no process. */
  inside(pod: string): Inside | null {
    const pid = podProcess(this.layout, pod);
    if (pid === null) return null;
    const enter: Inside['enter'] = (command, args = []) => [
      'nsenter',
      [`--net=/proc/${pid}/ns/net`, command, ...args],
    ];
    return { enter };
  }

  /** As the node's `group` map says. @throws Error when the node has none */
  async members(index: number): Promise<readonly MemberStatus[]> {
    using datapath = Datapath.open(await this.#pinRoot(index));
    const group = new NodeGroup(datapath.map('group').mmap());
    return group.members(Number(process.hrtime.bigint()));
  }

  /** Learned addresses in the node's map. */
  async learned(index: number): Promise<ReadonlySet<string>> {
    return new Set(learnedAddresses({ pinRoot: await this.#pinRoot(index) }).keys());
  }

  async #pinRoot(index: number): Promise<string> {
    return `/proc/${await nodeInitPid(this.layout, index)}/root/sys/fs/bpf/tandem`;
  }

  /** Whether a map may have an address: of a name that was asked. */
  mayBeLearned(learned: string): boolean {
    return this.names.mayBeLearned(learned) || this.#learnedBefore.has(learned);
  }

  async guarded(): Promise<Guarded> {
    const seen = await this.trial.witness.seen();
    const { complaints } = this.trial.collector;
    return {
      allowed: seen.reduce((sum, { allowed }) => sum + allowed, 0),
      denied: seen.reduce((sum, { denied }) => sum + denied, 0) + complaints.length,
      texts: [
        ...seen.flatMap(({ where, texts }) => texts.map((each) => `${where}: ${each}`)),
      ].concat(complaints.slice(-3)),
    };
  }

  /** The bystander is another pod by now, if it was on this node: it is watched again. */
  async watchAgain(index: number): Promise<void> {
    if (index === this.nodes.at(-1)) await this.trial.witness.watchPod(this.layout, bystander);
  }

  async #dnsWith(moreZones: string): Promise<void> {
    const { layout, config } = this.trial;
    await applyObjects(layout, clusterDnsObjects(config, moreZones));
    const deployment = ['-n', 'kube-system', 'rollout'];
    await kubectl(layout, [...deployment, 'restart', 'deployment/coredns']);
    await kubectl(layout, [...deployment, 'status', 'deployment/coredns', rolloutTimeout]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const { layout } = this;
    await this.upstream[Symbol.asyncDispose]();
    const gone = [
      `ciliumlocalredirectpolicy/${cacheName}`,
      `daemonset/${cacheName}`,
      `configmap/${cacheName}`,
    ];
    await tryKubectl(layout, ['-n', cacheNamespace, 'delete', '--ignore-not-found', ...gone]);
    await this.#dnsWith('').catch(() => undefined);
    await this.trial[Symbol.asyncDispose]();
  }
}
