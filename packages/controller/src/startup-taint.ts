// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The taint that keeps pods off a node until Tandem is ready there. It is removed once; on a node that lost it, it is set
 * again only where `taintNotReady` says so.
 */

import { type Fields, isFields } from '@tandem/core/k8s/shape';
import { patchTypes } from '@tandem/kube/call';
import type { ObjectSink } from '@tandem/kube/object-sink';
import type { Logger } from '@tandem/runtime/log';
import {
  formerPodsMs,
  nodesBurst,
  nodesPerSecond,
  notReadyMs,
  queueKeysMax,
  refusedPauseMs,
  writesAtOnce,
} from './limits.ts';
import { NodePods, type Process, timeMs } from './node-pods.ts';
import { done, type WorkOutcome, WorkQueue } from './work-queue.ts';
import type { Writer } from './writer.ts';

export interface StartupTaintOptions {
  /** Key of the taint. */
  readonly taint: string;
  readonly setsAgain: boolean;
  readonly daemonSets: Readonly<Record<string, Process>>;
  readonly writer: Writer;
  readonly log: Logger;
  /** Whether pods and nodes are read whole. */
  readonly isSynced: () => boolean;
  /** Default `notReadyMs`. */
  readonly notReadyMs?: number;
  /** Default `formerPodsMs`. */
  readonly formerPodsMs?: number;
}

/** A node's object, which is another one when the node was deleted and came again. */
interface NodeObject {
  /** As the API has them. */
  readonly taints: readonly unknown[];
  /** Ms since 1970; 0: the API does not say. */
  readonly createdMs: number;
  /** When it was first seen; of the monotonic clock. */
  readonly seenMs: number;
}

export class StartupTaint {
  readonly queue: WorkQueue;
  readonly pods: NodePods;
  readonly counters = { removed: 0, set: 0 };
  readonly #o: StartupTaintOptions;
  readonly #nodes = new Map<string, NodeObject>();
  /** Nodes whose pods count later. */
  readonly #later = new Map<string, NodeJS.Timeout>();
  /** Nodes with an agent of which none is ready. */
  readonly #waiting = new Map<string, NodeJS.Timeout>();
  /** Nodes whose taint is due. */
  readonly #due = new Set<string>();
  #said = '';

  constructor(options: StartupTaintOptions) {
    this.#o = options;
    this.pods = new NodePods(
      options.daemonSets,
      (node) => this.#look(node),
      () => this.lookAtAll(),
    );
    this.queue = new WorkQueue({
      work: (node) => this.#patch(node),
      atOnce: writesAtOnce,
      perSecond: nodesPerSecond,
      burst: nodesBurst,
      keysMax: queueKeysMax,
      onRoom: () => this.lookAtAll(),
    });
  }

  /** Nodes that have the taint. */
  get tainted(): number {
    let count = 0;
    for (const { taints } of this.#nodes.values())
      if (taints.some((each) => this.#isOurs(each))) count += 1;
    return count;
  }

  /** Keys are `/NAME`. */
  readonly nodes: ObjectSink = {
    set: (key, object) => {
      const spec = isFields(object['spec']) ? object['spec'] : {};
      const metadata = isFields(object['metadata']) ? object['metadata'] : {};
      const given: unknown = spec['taints'];
      const taints: readonly unknown[] = Array.isArray(given) ? given : [];
      const node = key.slice(1);
      const created = timeMs(metadata['creationTimestamp']);
      const createdMs = Number.isFinite(created) ? created : 0;
      const former = this.#nodes.get(node);
      const seenMs = former?.createdMs === createdMs ? former.seenMs : performance.now();
      this.#nodes.set(node, { taints, createdMs, seenMs });
      this.#look(node);
    },
    delete: (key) => this.#forget(key.slice(1)),
    retain: (keys) => {
      for (const node of this.#nodes.keys()) if (!keys.has(`/${node}`)) this.#forget(node);
    },
    stateChanged: () => this.lookAtAll(),
  };

  lookAtAll(): void {
    if (!this.#o.isSynced()) return;
    for (const node of this.#nodes.keys()) this.#look(node);
  }

  stop(): void {
    this.queue.stop();
    for (const timer of [...this.#waiting.values(), ...this.#later.values()]) clearTimeout(timer);
    this.#waiting.clear();
    this.#later.clear();
  }

  #look(node: string): void {
    // Before that nothing is known to be missing.
    if (!this.#o.isSynced()) return;
    if (this.#o.setsAgain) this.#watchAgent(node);
    if (this.#wanted(node) === null) this.queue.forget(node);
    else this.queue.add(node);
  }

  #watchAgent(node: string): void {
    if (!this.pods.isAgentUnready(node)) {
      clearTimeout(this.#waiting.get(node));
      this.#waiting.delete(node);
      this.#due.delete(node);
      return;
    }
    if (this.#waiting.has(node)) return;
    const timer = setTimeout(() => {
      this.#due.add(node);
      this.#look(node);
    }, this.#o.notReadyMs ?? notReadyMs);
    this.#waiting.set(node, timer);
  }

  /**
   * Whether both processes run on this node. Pods of a former node of its name have the status of before until its kubelet has
   * reported them.
   */
  #isReady(node: string, { createdMs, seenMs }: NodeObject): boolean {
    if (!this.pods.isReady(node)) return false;
    const leftMs = seenMs + (this.#o.formerPodsMs ?? formerPodsMs) - performance.now();
    if (leftMs <= 0 || this.pods.isReadySince(node, createdMs)) return true;
    clearTimeout(this.#later.get(node));
    this.#later.set(
      node,
      setTimeout(() => this.#look(node), leftMs + 1),
    );
    return false;
  }

  /** The taints that the node is to have; null: those that it has. */
  #wanted(node: string): readonly unknown[] | null {
    const object = this.#nodes.get(node);
    if (object === undefined) return null;
    const { taints } = object;
    const others = taints.filter((each) => !this.#isOurs(each));
    const isTainted = others.length < taints.length;
    if (isTainted) return this.#isReady(node, object) ? others : null;
    return this.#due.has(node) ? [...taints, { key: this.#o.taint, effect: 'NoSchedule' }] : null;
  }

  #isOurs(taint: unknown): boolean {
    return isFields(taint) && taint['key'] === this.#o.taint;
  }

  #forget(node: string): void {
    clearTimeout(this.#waiting.get(node));
    this.#waiting.delete(node);
    clearTimeout(this.#later.get(node));
    this.#later.delete(node);
    this.#due.delete(node);
    this.#nodes.delete(node);
    this.queue.forget(node);
  }

  async #patch(node: string): Promise<WorkOutcome> {
    const wanted = this.#wanted(node);
    const object = this.#nodes.get(node);
    if (wanted === null || object === undefined) return done;
    const former = object.taints;
    const { result, message, retryAfterMs } = await this.#o.writer.write('taint', {
      method: 'PATCH',
      path: `/api/v1/nodes/${encodeURIComponent(node)}`,
      type: patchTypes.json,
      content: patchOf(former, wanted),
    });
    switch (result) {
      case 'written': {
        const isRemoval = wanted.length < former.length;
        this.counters[isRemoval ? 'removed' : 'set'] += 1;
        const what = isRemoval
          ? 'the node is ready: its taint is removed'
          : 'no agent is ready: the taint is set';
        this.#o.log.info(what, { node, taint: this.#o.taint });
        this.#said = '';
        // Until its change comes: it is not patched twice.
        if (this.#nodes.get(node) === object) this.#nodes.set(node, { ...object, taints: wanted });
        return done;
      }
      case 'forbidden':
        this.#say(message);
        return { kind: 'pause', forMs: refusedPauseMs };
      case 'busy':
        return retryAfterMs > 0
          ? { kind: 'pause', forMs: Math.min(retryAfterMs, refusedPauseMs) }
          : { kind: 'retry', afterMs: 0 };
      case 'not-leader':
      case 'refused':
      case 'changed':
        // A test of the patch failed: the node has other taints by now, and its change may be on the way.
        return { kind: 'retry', afterMs: 0 };
      default:
        return done;
    }
  }

  #say(problem: string): void {
    if (problem === this.#said) return;
    this.#said = problem;
    this.#o.log.error('taints of nodes cannot be written', { problem });
  }
}

/** Only if the taints are still those: the rest of the node changes all the time. */
function patchOf(former: readonly unknown[], wanted: readonly unknown[]): readonly Fields[] {
  const path = '/spec/taints';
  if (former.length === 0)
    return [
      { op: 'test', path, value: null },
      { op: 'add', path, value: wanted },
    ];
  return [
    { op: 'test', path, value: former },
    wanted.length === 0 ? { op: 'remove', path } : { op: 'replace', path, value: wanted },
  ];
}
