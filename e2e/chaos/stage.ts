// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Where a part of a chaos run takes place: a node of namespaces with four pods that ask, one that knocks
 * at addresses that were not learned, a scripted DNS server, both processes running.
 */

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Probe } from '@tandem/testing/probe';
import { waitFor } from '@tandem/testing/wait';
import { dnsPolicy } from '../kit/objects.ts';
import {
  type StandardNode,
  type StandardNodeOptions,
  standardPolicy,
  startStandardNode,
} from '../kit/standard-node.ts';
import type { ProcessName, TandemNode } from '../kit/tandem-node.ts';
import { Gate } from './gate.ts';
import { Names } from './names.ts';
import { Random } from './random.ts';
import { Upstream, upstreamAddress } from './upstream.ts';

export const processes: readonly ['agent', 'proxy'] = ['agent', 'proxy'];
/** Several, because what one pod may have in flight is bounded, and a hang makes a backlog of 100 ms. */
export const loadPods = ['client', 'load1', 'load2', 'load3'] as const;
/** Room for every name of a part: what makes room for what is the subject of other tests. */
const quota = 100_000;

export const otherOf = (name: ProcessName): ProcessName => (name === 'agent' ? 'proxy' : 'agent');

const chaosPolicy = dnsPolicy({
  name: 'chaos',
  selects: { asks: 'chaos' },
  dnsPeers: { toCIDR: [`${upstreamAddress}/32`] },
  dns: [{ matchPattern: '*.allowed.test' }],
  fqdns: [{ matchPattern: '*.allowed.test' }],
});

export interface StageOptions
  extends Pick<
    StandardNodeOptions,
    'options' | 'agentOptions' | 'pods' | 'diskBytes' | 'environment'
  > {
  readonly seed: number;
  /** Part of what the seed makes; two parts of one run get different names and times. */
  readonly purpose: string;
  /** Members of `pods` to which the policy of the asking pods applies. */
  readonly labelled?: readonly string[];
}

export class Stage implements AsyncDisposable {
  readonly seed: number;
  readonly standard: StandardNode;
  readonly upstream: Upstream;
  readonly gate: Gate;
  readonly names: Names;
  readonly random: Random;
  readonly directory: string;

  private constructor(
    { seed, purpose }: StageOptions,
    standard: StandardNode,
    upstream: Upstream,
    gate: Gate,
  ) {
    this.seed = seed;
    this.standard = standard;
    this.upstream = upstream;
    this.gate = gate;
    this.names = new Names(new Random(seed, `${purpose} names`));
    this.random = new Random(seed, purpose);
    this.directory = join(standard.tandem.directory, 'chaos');
    mkdirSync(this.directory);
  }

  static async start(options: StageOptions): Promise<Stage> {
    const asks = { labels: { asks: 'chaos', app: 'client' } };
    const { diskBytes, environment } = options;
    const standard = await startStandardNode({
      ...(diskBytes === undefined ? {} : { diskBytes }),
      ...(environment === undefined ? {} : { environment }),
      policies: [standardPolicy, chaosPolicy],
      pods: [...loadPods.slice(1), 'gate'].map((name) => ({ name })).concat(options.pods ?? []),
      podObjects: Object.fromEntries(
        [...loadPods, 'gate', ...(options.labelled ?? [])].map((name) => [name, asks]),
      ),
      options: { 'drain-timeout': '10s', 'log-level': 'debug', ...options.options },
      agentOptions: { 'quota-namespace': quota, 'quota-selector': quota, ...options.agentOptions },
    });
    try {
      const { node } = standard;
      const upstream = node.own(await Upstream.start(node.upstream, options.seed));
      const gate = node.own(await Gate.open(node.pod('gate'), standard.internet));
      const stage = new Stage(options, standard, upstream, gate);
      await stage.settle();
      return stage;
    } catch (error) {
      await standard[Symbol.asyncDispose]();
      throw error;
    }
  }

  get tandem(): TandemNode {
    return this.standard.tandem;
  }

  get client(): Probe {
    return this.standard.client;
  }

  /** Whatever was done to them, both run and are linked when this returns. */
  async settle(): Promise<void> {
    const { tandem } = this;
    for (const name of processes) {
      if (tandem.isAlive(name)) tandem.signal(name, 'SIGCONT');
      else await tandem.startProcess(name);
    }
    await tandem.waitForMembers(processes);
    // The later run of the two is the one that must have seen the link.
    const isLinked = (name: ProcessName): boolean =>
      tandem.process(name).stderr().includes('the other member is linked');
    await waitFor(() => processes.every(isLinked), {
      what: 'the members to be linked',
      timeoutMs: 15_000,
    });
  }

  /** Starts a process again and waits until it serves; milliseconds that it took. */
  async restart(name: ProcessName): Promise<number> {
    const started = performance.now();
    await this.tandem.startProcess(name);
    await this.tandem.waitForMembers([name]);
    return performance.now() - started;
  }

  /** The end of a process that was told to end; it must end well. */
  async ended(name: ProcessName): Promise<void> {
    const { status, signal } = await this.tandem.process(name).exited;
    if (status !== 0) {
      throw new Error(`${name} ended with ${signal ?? status}: ${this.tandem.logs()}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.standard[Symbol.asyncDispose]();
  }
}
