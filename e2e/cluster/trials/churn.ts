// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pods, labels, namespaces, policies and services that change all the time, while every pod sends to every pod: what arrives was allowed
 * within the stated window, what is allowed arrives, and memory stays flat.
 */

import { appendFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { tryRun } from '@tandem/testing/process';
import { tryKubectl } from '../kubectl.ts';
import { inNode } from '../node.ts';
import { programs } from './agents.ts';
import { ApiClient } from './churn-api.ts';
import { Model } from './churn-model.ts';
import { ChurnOperations, churnNamespaces, churnSelector, firstState } from './churn-operations.ts';
import type { Trial } from './trial.ts';

/** A change is in force so long after the API server has taken it, on a machine that is busy with the whole cluster. */
const windowMs = 3000;
/** A packet must arrive within this time of being allowed: talkers send twice a second. */
const silenceMs: number = windowMs + 5000;
const operationMs = 200;
const lookMs = 1000;
const sampleMs = 15_000;
/** Faults that the report names. */
const faultsMax = 12;
/** The median of the last third of the samples, to that of the second: what grows for ever is above it after minutes. */
const growthMax = 1.1;

interface PodList {
  readonly items: readonly {
    readonly metadata: { readonly name: string };
    readonly status: { readonly podIP?: string };
  }[];
}

export async function churn(trial: Trial, minutes: number, seed: number): Promise<void> {
  const { steps, layout } = trial;
  await using api = await ApiClient.start(layout);
  await tryKubectl(layout, ['delete', 'namespace', '--ignore-not-found', ...churnNamespaces]);
  const model = new Model(firstState);
  const file = join(layout.logs, 'churn.log');
  writeFileSync(file, '');
  const log = (record: object): void => appendFileSync(file, `${JSON.stringify(record)}\n`);
  const operations = new ChurnOperations(trial, api, model, { seed, log });
  const observer = new Observer(trial, api, model, log);
  const memory = new Map<string, number[]>();
  steps.title(`${minutes} minutes of changes, seed ${seed}`);
  await steps.step('namespaces and pods', async () => {
    await operations.begin();
    return `${model.state.pods.size} pods in ${churnNamespaces.length} namespaces`;
  });
  await steps.step('changes', async () => {
    const endsMs = performance.now() + minutes * 60_000;
    let lookAtMs = 0;
    let sampleAtMs = performance.now() + sampleMs;
    while (performance.now() < endsMs) {
      await operations.next();
      if (performance.now() >= lookAtMs) {
        await observer.look();
        lookAtMs = performance.now() + lookMs;
      }
      if (performance.now() >= sampleAtMs) {
        await sample(trial, memory);
        sampleAtMs = performance.now() + sampleMs;
      }
      await delay(operationMs);
    }
    return operations.summary();
  });
  await steps.step(`what arrives was allowed within ${windowMs} ms`, () =>
    observer.judgeArrivals(),
  );
  await steps.step(`what is allowed for ${silenceMs} ms arrives in it`, () =>
    observer.judgeSilence(),
  );
  for (const [name, samples] of memory) {
    await steps.step(`memory of ${name} is flat`, () => judgeMemory(samples));
  }
  const options = ['--ignore-not-found', '--wait=false'];
  await tryKubectl(layout, ['delete', 'namespace', ...churnNamespaces, ...options]);
}

class Observer {
  readonly #trial: Trial;
  readonly #api: ApiClient;
  readonly #model: Model;
  readonly #log: (record: object) => void;
  /** By "sender receiver". */
  readonly #lastSeenMs = new Map<string, number>();
  /** Time since which a pod takes part, for pods that were heard and introduced. */
  readonly #sinceMs = new Map<string, number>();
  /** Longest staleness by pair, of what should not have arrived. */
  readonly #wrongMs = new Map<string, number>();
  readonly #silent = new Set<string>();
  #arrivals = 0;
  #pairs = 0;
  #stalestMs = 0;

  constructor(trial: Trial, api: ApiClient, model: Model, log: (record: object) => void) {
    this.#log = log;
    this.#trial = trial;
    this.#api = api;
    this.#model = model;
    trial.collector.onReceived = (receiver, sender, atMs) => this.#arrived(sender, receiver, atMs);
  }

  #arrived(sender: string, receiver: string, atMs: number): void {
    const { pods } = this.#model.state;
    // what a pod does that is being deleted is no fault, and what it sends to itself does not leave it
    if (sender === receiver || !pods.has(sender) || !pods.has(receiver)) return;
    this.#arrivals += 1;
    this.#lastSeenMs.set(`${sender} ${receiver}`, atMs);
    const stale = this.#model.staleness(sender, receiver, atMs);
    this.#stalestMs = Math.max(this.#stalestMs, stale);
    if (stale <= windowMs) return;
    const pair = `${sender} to ${receiver}`;
    this.#log({ atMs, wrong: pair, staleMs: stale });
    this.#wrongMs.set(pair, Math.max(stale, this.#wrongMs.get(pair) ?? 0));
  }

  /** Introduces pods to each other, and looks for what is allowed and does not arrive. */
  async look(): Promise<void> {
    const path = `/api/v1/pods?labelSelector=${encodeURIComponent(churnSelector)}`;
    const { items } = (await this.#api.get(path)) as PodList;
    const { heard } = this.#trial.collector;
    const there = items.filter(({ metadata, status }) => {
      return heard.has(metadata.name) && status.podIP !== undefined;
    });
    this.#trial.collector.introduce(there.map(({ status }) => status.podIP ?? ''));
    const nowMs = performance.now();
    const names = new Set(there.map(({ metadata }) => metadata.name));
    for (const name of this.#sinceMs.keys()) if (!names.has(name)) this.#sinceMs.delete(name);
    for (const name of names) if (!this.#sinceMs.has(name)) this.#sinceMs.set(name, nowMs);
    const settled = [...names].filter(
      (name) => nowMs - (this.#sinceMs.get(name) ?? nowMs) > silenceMs,
    );
    for (const sender of settled) {
      for (const receiver of settled) if (sender !== receiver) this.#lookAt(sender, receiver);
    }
  }

  #lookAt(sender: string, receiver: string): void {
    if (!this.#model.isAllowedSince(sender, receiver, silenceMs)) return;
    this.#pairs += 1;
    const lastMs = this.#lastSeenMs.get(`${sender} ${receiver}`) ?? Number.NEGATIVE_INFINITY;
    if (Date.now() - lastMs > silenceMs) this.#silent.add(`${sender} to ${receiver}`);
  }

  judgeArrivals(): string {
    const text = `${this.#arrivals} packets; longest after a change: ${this.#stalestMs.toFixed(0)} ms`;
    if (this.#wrongMs.size > 0) {
      const worst = [...this.#wrongMs].toSorted(([, a], [, b]) => b - a).slice(0, faultsMax);
      const words = worst.map(([pair, ms]) => `${pair}, denied for ${ms.toFixed(0)} ms`);
      throw new Error(`${text}; ${this.#wrongMs.size} pairs: ${words.join('; ')}`);
    }
    if (this.#arrivals === 0) throw new Error('none arrived');
    return text;
  }

  judgeSilence(): string {
    const text = `${this.#pairs} pairs looked at`;
    if (this.#silent.size > 0) {
      const some = [...this.#silent].slice(0, faultsMax).join('; ');
      throw new Error(`${text}; ${this.#silent.size} did not: ${some}`);
    }
    if (this.#pairs === 0) throw new Error('no pair was allowed for so long');
    return text;
  }
}

async function sample(trial: Trial, memory: Map<string, number[]>): Promise<void> {
  for (const [place, node] of trial.nodeNames.entries()) {
    for (const program of programs) {
      const script = `cat /proc/$(pgrep --oldest --full '/dist/${program}[.]js')/status`;
      const { stdout } = await tryRun(
        ...(await inNode(trial.layout, place + 1, ['sh', '-c', script])),
      );
      const kibibytes = Number(/^VmRSS:\s+([0-9]+) kB$/m.exec(stdout)?.[1] ?? Number.NaN);
      const name = `${program} on ${node}`;
      memory.set(name, [...(memory.get(name) ?? []), kibibytes / 1024]);
    }
  }
}

function judgeMemory(samples: readonly number[]): string {
  const third = Math.floor(samples.length / 3);
  const median = (values: readonly number[]): number =>
    values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
  const before = median(samples.slice(third, 2 * third));
  const after = median(samples.slice(2 * third));
  const text = `${before.toFixed(0)} MiB, then ${after.toFixed(0)} MiB, at most ${Math.max(...samples).toFixed(0)} MiB of ${samples.length} samples`;
  if (!(after <= before * growthMax)) throw new Error(text);
  return text;
}
