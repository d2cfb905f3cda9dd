// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The Kubernetes API as source. Nothing is applied before every kind is read whole once, or known to be absent: until
 * then what the pins and the snapshot hold stays in force, and pods that they do not know pass nothing.
 */

import { setTimeout as delay } from 'node:timers/promises';
import type { ClusterState } from '@tandem/core/policy/model/cluster-state';
import { type Degradation, degradation } from '@tandem/dns-proxy/admin/degradation';
import type { KubeEndpoint } from '@tandem/kube/endpoint';
import type { FailureCause } from '@tandem/kube/failure';
import { ListWatch } from '@tandem/kube/list-watch';
import type { ObjectSink } from '@tandem/kube/object-sink';
import { KubeSession } from '@tandem/kube/session';
import type { Logger } from '@tandem/runtime/log';
import type { Metrics } from '@tandem/runtime/metrics';
import type { Sandboxes } from '../gate/sandboxes.ts';
import {
  kubeFirstWaitMs,
  kubeSayMs,
  kubeSettleMaxMs,
  kubeSettleMs,
  kubeStaleMs,
} from '../limits.ts';
import { KubeCluster } from './kube-cluster.ts';
import { addKubeMetrics } from './kube-metrics.ts';
import { kubeResources, type ListName } from './kube-resources.ts';
import type { ObjectSource, SourceDiagnostic } from './object-source.ts';
import { DirectPodDirectory, type ObjectFeed, type PodDirectory } from './pod-directory.ts';
import { UnenforcedKinds } from './unenforced-kinds.ts';

export interface KubeSourceOptions {
  readonly endpoint: KubeEndpoint;
  readonly nodeName: string;
  readonly sandboxes: Sandboxes;
  readonly apply: (cluster: ClusterState) => Promise<void>;
  readonly log: Logger;
}

export class KubeSource implements ObjectSource {
  readonly #o: KubeSourceOptions;
  readonly #session: KubeSession;
  readonly #cluster: KubeCluster;
  readonly #feeds: readonly { readonly list: ListName; readonly feed: ObjectFeed }[];
  readonly #unenforced: UnenforcedKinds;
  #isApplied = false;
  #isStopped = false;
  #settle: NodeJS.Timeout | null = null;
  /** Time of the oldest change that is not applied, ms; 0: none. */
  #changedMs = 0;
  #said = '';
  /** `unread` when the state was last looked at. */
  #unreadBefore = '';
  #saying: NodeJS.Timeout | null = null;
  readonly #first = Promise.withResolvers<void>();

  constructor(options: KubeSourceOptions) {
    this.#o = options;
    const { endpoint, nodeName, sandboxes } = options;
    this.#session = new KubeSession({ endpoint });
    this.#cluster = new KubeCluster({
      nodeName,
      podGone: (podKey, uids) => sandboxes.podGone(podKey, uids),
      sandboxOf: (podKey, uids) =>
        uids.map((uid) => sandboxes.of(podKey, uid)).find((found) => found !== undefined),
    });
    const session = this.#session;
    this.#unenforced = new UnenforcedKinds(session);
    const directory: PodDirectory = new DirectPodDirectory(session, nodeName);
    const others = 'pods of other nodes';
    this.#feeds = [
      ...kubeResources(nodeName).map((resource) => {
        const { list } = resource;
        return { list, feed: new ListWatch({ session, resource, sink: this.#sinkOf(list) }) };
      }),
      { list: others, feed: directory.follow(this.#sinkOf(others)) },
    ];
  }

  async start(): Promise<void> {
    for (const { feed } of this.#feeds) feed.start();
    this.#unenforced.start();
    await Promise.race([this.#first.promise, delay(kubeFirstWaitMs, undefined, { ref: false })]);
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of [this.#settle, this.#saying]) if (timer !== null) clearTimeout(timer);
    const feeds = this.#feeds.map(({ feed }) => feed.stop());
    const stopped = Promise.all([...feeds, this.#unenforced.stop()]);
    this.#session.close();
    await stopped;
  }

  /** The sandboxes changed: pods of this node may have got their addresses. */
  sandboxesChanged(): void {
    this.#changed();
  }

  get diagnostics(): readonly SourceDiagnostic[] {
    return this.#unenforced.diagnostics;
  }

  /**
   * Kinds that are served and may not be read, once everything else is in force: their definitions came while the agent has the
   * ClusterRole of a former version.
   */
  get unread(): string {
    if (!this.#isApplied) return '';
    const unread = this.#feeds.filter(
      ({ feed: { state } }) => state.kind === 'waiting' && state.cause === 'rights',
    );
    return unread.map(({ list }) => list).join(', ');
  }

  get degradations(): readonly Degradation[] {
    const { message, causes, isAll } = this.#problem();
    if (message === '') return [];
    const ofThese =
      isAll || this.unread !== ''
        ? `${isAll ? 'policy and endpoints stay as they were read last' : 'the others are followed'}; pods that start now are held`
        : 'what these lists had stays as it was read last, and the others are followed';
    const stays = this.#isApplied
      ? ofThese
      : 'policy and endpoints stay as they are in the datapath and the snapshot';
    return [
      degradation('source-unreachable', {
        message: `the Kubernetes API cannot be read: ${message}; ${stays}`,
        fix: `${[...causes].map((cause) => fixOf(cause, this.#o.endpoint.url)).join('; ')}; the agent tries again by itself`,
      }),
    ];
  }

  get notes(): readonly string[] {
    const absent = this.#feeds.filter(({ feed }) => feed.state.kind === 'absent');
    const notes = absent.map(({ list, feed: { state } }) => {
      const what = `the API server has no ${list} of a version that is read here: no policy of this kind is enforced`;
      return state.kind === 'absent' && state.isForbidden
        ? `${what}. When it has some, the agent may not read them: ${fixOf('rights', '')} before`
        : what;
    });
    return [...notes, ...this.#unenforced.notes];
  }

  addMetrics(metrics: Metrics): void {
    addKubeMetrics(metrics, {
      session: this.#session.counters,
      lists: this.#feeds,
      objectsOf: (list) => this.#cluster.sizeOf(list),
    });
  }

  /** Problems of the lists that cannot be read now. A watch that is being renewed is not a problem yet. */
  #problem(): {
    readonly message: string;
    readonly causes: ReadonlySet<FailureCause>;
    /** No list is followed. */
    readonly isAll: boolean;
  } {
    const causes = new Set<FailureCause>();
    const messages = new Map<string, string[]>();
    for (const { list, feed } of this.#feeds) {
      const { state } = feed;
      const isLate = state.kind === 'stale' && performance.now() - state.sinceMs > kubeStaleMs;
      if (state.kind !== 'waiting' && !isLate) continue;
      causes.add(state.cause);
      messages.set(state.message, [...(messages.get(state.message) ?? []), list]);
    }
    const parts = [...messages].map(([message, lists]) => `${lists.join(', ')}: ${message}`);
    const isAll = this.#feeds.every(({ feed }) => feed.state.kind !== 'synced');
    return { message: parts.join('; '), causes, isAll };
  }

  #sinkOf(list: ListName): ObjectSink {
    const cluster = this.#cluster;
    return {
      set: (key, object) => {
        if (cluster.set(list, key, object)) this.#changed();
      },
      delete: (key) => {
        if (cluster.delete(list, key)) this.#changed();
      },
      retain: (keys) => {
        if (cluster.retain(list, keys)) this.#changed();
      },
      stateChanged: () => this.#onState(),
    };
  }

  #onState(): void {
    if (this.#isStopped) return;
    const { unread } = this;
    // Pods wait in the gate for the next policy that is applied.
    if (!this.#isApplied || unread !== this.#unreadBefore) this.#changed();
    this.#unreadBefore = unread;
    // All lists fail together: said once, when all have.
    this.#saying ??= setTimeout(() => this.#say(), kubeSayMs);
  }

  #say(): void {
    this.#saying = null;
    const { message } = this.#problem();
    if (message === this.#said) return;
    this.#said = message;
    if (message === '') this.#o.log.info('the Kubernetes API is read');
    else this.#o.log.error('source-unreachable: the policy in force stays', { reason: message });
  }

  /** Changes that come together are applied together, and none waits long for others. */
  #changed(): void {
    if (this.#isStopped) return;
    const nowMs = performance.now();
    if (this.#changedMs === 0) this.#changedMs = nowMs;
    if (this.#settle !== null) clearTimeout(this.#settle);
    const leftMs = Math.max(0, this.#changedMs + kubeSettleMaxMs - nowMs);
    this.#settle = setTimeout(() => void this.#apply(), Math.min(kubeSettleMs, leftMs));
  }

  async #apply(): Promise<void> {
    this.#settle = null;
    this.#changedMs = 0;
    const isWhole = this.#feeds.every(({ feed }) => feed.state.kind !== 'waiting');
    if (!this.#isApplied && !isWhole) return;
    this.#isApplied = true;
    await this.#o.apply(this.#cluster.state());
    this.#first.resolve();
  }
}

/** Fix for an operator. `url`: of the API server. */
function fixOf(cause: FailureCause, url: string): string {
  switch (cause) {
    case 'network':
      return `make ${url} reachable from this node`;
    case 'trust':
      return `give the authority that signed the certificate of ${url} (certificate-authority of the kubeconfig, ca.crt of the service account), by a name or address that is in it; if it has expired or is not valid yet, see the clock of this node`;
    case 'credentials':
      return 'give a token or client certificate that the API server accepts (the kubeconfig, or the token of the service account; if it has expired, see the clock of this node)';
    case 'rights':
      return 'let the agent’s ClusterRole allow get, list and watch of these kinds, and get of customresourcedefinitions';
    case 'server':
      return `see why ${url} does not answer as a Kubernetes API does`;
  }
}
