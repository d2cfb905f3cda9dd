// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Nodes on which both processes of Tandem are ready. A pod counts if its DaemonSet owns it: labels only select,
 * because every user who may create pods in the namespace can write them.
 */

import { type Fields, isFields } from '@tandem/core/k8s/shape';
import type { ObjectSink } from '@tandem/kube/object-sink';

export type Process = 'agent' | 'dns-proxy';

interface PodState {
  readonly node: string;
  readonly process: Process;
  readonly isReady: boolean;
  /** When it was created, or, if that is later, became ready; ms since 1970. Infinity: the API does not say. */
  readonly newsMs: number;
}

interface NodeState {
  /** Keys of pods that are ready. */
  readonly ready: Record<Process, Set<string>>;
  /** Keys of agents, ready or not. */
  readonly agents: Set<string>;
}

export class NodePods implements ObjectSink {
  readonly #daemonSets: Readonly<Record<string, Process>>;
  readonly #onChange: (node: string) => void;
  readonly #onSynced: () => void;
  readonly #pods = new Map<string, PodState>();
  readonly #nodes = new Map<string, NodeState>();

  /** `daemonSets`: names, with the process that is in their pods. */
  constructor(
    daemonSets: Readonly<Record<string, Process>>,
    onChange: (node: string) => void,
    onSynced: () => void,
  ) {
    this.#daemonSets = daemonSets;
    this.#onChange = onChange;
    this.#onSynced = onSynced;
  }

  /**
   * Both: from then on either of them can fail. The agent alone enforces policy, but pods that start beside it have no DNS
   * when it fails.
   */
  isReady(node: string): boolean {
    const state = this.#nodes.get(node);
    return state !== undefined && state.ready.agent.size > 0 && state.ready['dns-proxy'].size > 0;
  }

  /** The same of pods that are not older than `sinceMs`, or have become ready since; ms since 1970. */
  isReadySince(node: string, sinceMs: number): boolean {
    const ready = this.#nodes.get(node)?.ready;
    const isNew = (key: string): boolean => (this.#pods.get(key)?.newsMs ?? 0) >= sinceMs;
    return ready !== undefined && Object.values(ready).every((keys) => [...keys].some(isNew));
  }

  /** There is an agent, and none is ready. */
  isAgentUnready(node: string): boolean {
    const state = this.#nodes.get(node);
    return state !== undefined && state.agents.size > 0 && state.ready.agent.size === 0;
  }

  set(key: string, object: Fields): void {
    const former = this.#pods.get(key);
    const pod = this.#read(object);
    if (former !== undefined) this.#remove(key, former);
    if (pod !== null) this.#put(key, pod);
    if (former !== undefined) this.#onChange(former.node);
    if (pod !== null && pod.node !== former?.node) this.#onChange(pod.node);
  }

  delete(key: string): void {
    const former = this.#pods.get(key);
    if (former === undefined) return;
    this.#remove(key, former);
    this.#onChange(former.node);
  }

  retain(keys: ReadonlySet<string>): void {
    for (const key of this.#pods.keys()) if (!keys.has(key)) this.delete(key);
  }

  stateChanged(): void {
    this.#onSynced();
  }

  #put(key: string, pod: PodState): void {
    this.#pods.set(key, pod);
    let state = this.#nodes.get(pod.node);
    if (state === undefined) {
      state = { ready: { agent: new Set(), 'dns-proxy': new Set() }, agents: new Set() };
      this.#nodes.set(pod.node, state);
    }
    if (pod.process === 'agent') state.agents.add(key);
    if (pod.isReady) state.ready[pod.process].add(key);
  }

  #remove(key: string, pod: PodState): void {
    this.#pods.delete(key);
    const state = this.#nodes.get(pod.node);
    if (state === undefined) return;
    state.agents.delete(key);
    for (const keys of Object.values(state.ready)) keys.delete(key);
    if (state.agents.size === 0 && state.ready['dns-proxy'].size === 0) {
      this.#nodes.delete(pod.node);
    }
  }

  /** Null: no pod of ours, or on no node yet. */
  #read(object: Fields): PodState | null {
    const metadata = isFields(object['metadata']) ? object['metadata'] : {};
    const spec = isFields(object['spec']) ? object['spec'] : {};
    const status = isFields(object['status']) ? object['status'] : {};
    const process = this.#processOf(metadata['ownerReferences']);
    const node = spec['nodeName'];
    if (process === null || typeof node !== 'string' || node === '') return null;
    const isGoing = metadata['deletionTimestamp'] !== undefined;
    const isReady = !isGoing && isConditionTrue(status['conditions'], 'Ready');
    const readyMs = timeMs(conditionOf(status['conditions'], 'Ready')?.['lastTransitionTime']);
    const createdMs = timeMs(metadata['creationTimestamp']);
    return { node, process, isReady, newsMs: Math.max(createdMs, readyMs) };
  }

  #processOf(references: unknown): Process | null {
    if (!Array.isArray(references)) return null;
    for (const each of references) {
      if (!isFields(each) || each['controller'] !== true) continue;
      const { apiVersion, kind, name } = each;
      if (apiVersion !== 'apps/v1' || kind !== 'DaemonSet' || typeof name !== 'string') continue;
      if (Object.hasOwn(this.#daemonSets, name)) return this.#daemonSets[name] ?? null;
    }
    return null;
  }
}

export function isConditionTrue(conditions: unknown, type: string): boolean {
  return conditionOf(conditions, type)?.['status'] === 'True';
}

function conditionOf(conditions: unknown, type: string): Fields | undefined {
  if (!Array.isArray(conditions)) return undefined;
  return conditions.filter(isFields).find((each) => each['type'] === type);
}

/** A time of the API; Infinity: it is none. */
export function timeMs(value: unknown): number {
  const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
  return Number.isNaN(ms) ? Number.POSITIVE_INFINITY : ms;
}
