// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Work of the leader during one term. Every term begins with empty state. */

import { ListWatch } from '@tandem/kube/list-watch';
import type { ObjectSink } from '@tandem/kube/object-sink';
import { clusterPolicies, networkPolicies } from '@tandem/kube/policy-resources';
import type { Resource } from '@tandem/kube/resource';
import type { KubeSession } from '@tandem/kube/session';
import type { Logger } from '@tandem/runtime/log';
import type { ControllerConfig } from './config.ts';
import type { DefinitionKeeper } from './definition-keeper.ts';
import { relistMs } from './limits.ts';
import { PolicyEvents } from './policy-events.ts';
import { PolicyStatus } from './policy-status.ts';
import { ciliumKinds, nodes, ownPods } from './resources.ts';
import { StartupTaint } from './startup-taint.ts';
import type { WorkQueue } from './work-queue.ts';
import type { Writer } from './writer.ts';

export interface TermOptions {
  readonly session: KubeSession;
  readonly config: ControllerConfig;
  readonly writer: Writer;
  readonly keeper: DefinitionKeeper;
  readonly identity: string;
  readonly log: Logger;
}

export class Term {
  readonly statuses: readonly PolicyStatus[];
  readonly events: PolicyEvents;
  readonly taint: StartupTaint;
  readonly #o: TermOptions;
  readonly #lists = new Map<string, ListWatch>();
  readonly #relists = new Set<NodeJS.Timeout>();
  #isStopped = false;

  constructor(options: TermOptions) {
    this.#o = options;
    const { config, writer, keeper, identity, log } = options;
    this.statuses = [...ciliumKinds, clusterPolicies].map((resource) => {
      const isCiliums = resource !== clusterPolicies;
      const onRoom = (): void => this.#relist(resource, status);
      const status: PolicyStatus = new PolicyStatus({
        ...{ resource, writer, log, onRoom, hasReasons: !isCiliums },
        served: () => this.#lists.get(resource.path)?.resource ?? resource,
        // A definition that Tandem does not keep has the status that the API gives it.
        hasStatus: () => !isCiliums || keeper.hasStatus(resource.definition ?? ''),
      });
      this.#follow(resource, status);
      return status;
    });
    this.events = new PolicyEvents({
      ...{ resource: networkPolicies, writer, identity },
      onRoom: () => this.#relist(networkPolicies, this.events),
    });
    this.#follow(networkPolicies, this.events);
    const pods = ownPods(config.namespace);
    this.taint = new StartupTaint({
      taint: config.startupTaint,
      setsAgain: config.taintNotReady,
      daemonSets: { [config.agentDaemonSet]: 'agent', [config.dnsProxyDaemonSet]: 'dns-proxy' },
      writer,
      log,
      isSynced: () =>
        [nodes, pods].every(({ path }) => this.#lists.get(path)?.state.kind === 'synced'),
    });
    if (config.startupTaint === '') return;
    this.#follow(pods, this.taint.pods);
    this.#follow(nodes, this.taint.nodes);
  }

  start(): void {
    for (const list of this.#lists.values()) list.start();
  }

  async stop(): Promise<void> {
    this.#isStopped = true;
    for (const timer of this.#relists) clearTimeout(timer);
    for (const status of this.statuses) status.stop();
    this.events.stop();
    this.taint.stop();
    await Promise.all([...this.#lists.values()].map((list) => list.stop()));
  }

  /** Lists by kind. */
  get lists(): ReadonlyMap<string, ListWatch> {
    return new Map([...this.#lists.values()].map((list) => [list.resource.kind, list]));
  }

  /** Queues by kind of write. */
  get queues(): ReadonlyMap<string, WorkQueue> {
    return new Map([
      ...this.statuses.map((status): [string, WorkQueue] => [status.kind, status.queue]),
      [networkPolicies.kind, this.events.queue],
      [nodes.kind, this.taint.queue],
    ]);
  }

  #follow(resource: Resource, sink: ObjectSink): ListWatch {
    const { session } = this.#o;
    const list = new ListWatch({ session, resource, sink });
    this.#lists.set(resource.path, list);
    return list;
  }

  /** Reading all objects again finds those that had no room. */
  #relist(resource: Resource, sink: ObjectSink): void {
    const timer = setTimeout(() => {
      this.#relists.delete(timer);
      void this.#readAnew(resource, sink);
    }, relistMs);
    this.#relists.add(timer);
  }

  async #readAnew(resource: Resource, sink: ObjectSink): Promise<void> {
    if (this.#isStopped) return;
    await this.#lists.get(resource.path)?.stop();
    if (!this.#isStopped) this.#follow(resource, sink).start();
  }
}
