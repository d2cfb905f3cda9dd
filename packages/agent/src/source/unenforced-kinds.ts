// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Kinds of network policy of Kubernetes that this version does not enforce. The status names their objects. The objects are not
 * applied, and no start waits for their lists, even if the agent may not read them.
 */

import { parseObject } from '@tandem/core/k8s/parse-object';
import type { Fields } from '@tandem/core/k8s/shape';
import { ListWatch } from '@tandem/kube/list-watch';
import { customResource, type Resource } from '@tandem/kube/resource';
import type { KubeSession } from '@tandem/kube/session';
import { unenforcedNamesMax, unenforcedRetryMs } from '../limits.ts';
import { unsupportedKind } from '../policy/unsupported-kind.ts';
import type { SourceDiagnostic } from './object-source.ts';

const apiVersion = 'policy.networking.k8s.io/v1alpha1';

/** Predecessors of ClusterNetworkPolicy. */
export const unenforcedKinds: readonly Resource[] = [
  customResource(apiVersion, 'AdminNetworkPolicy', 'adminnetworkpolicies'),
  customResource(apiVersion, 'BaselineAdminNetworkPolicy', 'baselineadminnetworkpolicies'),
];

interface Kind {
  readonly resource: Resource;
  readonly list: ListWatch;
  /** Keys of its objects. */
  readonly keys: Set<string>;
}

export class UnenforcedKinds {
  readonly #kinds: readonly Kind[];

  constructor(session: KubeSession) {
    this.#kinds = unenforcedKinds.map((resource) => {
      const keys = new Set<string>();
      const sink = {
        set: (key: string) => void keys.add(key),
        delete: (key: string) => void keys.delete(key),
        retain: (kept: ReadonlySet<string>) => {
          for (const key of keys) if (!kept.has(key)) keys.delete(key);
        },
        stateChanged: () => undefined,
      };
      const absentRetryMs = unenforcedRetryMs;
      return { resource, keys, list: new ListWatch({ session, resource, sink, absentRetryMs }) };
    });
  }

  start(): void {
    for (const { list } of this.#kinds) list.start();
  }

  async stop(): Promise<void> {
    await Promise.all(this.#kinds.map(({ list }) => list.stop()));
  }

  /** One for each object, or for as many as are named, and one for the rest of the kind. */
  get diagnostics(): readonly SourceDiagnostic[] {
    return this.#kinds.flatMap(({ resource, keys }) => {
      const named = [...keys].toSorted().slice(0, unenforcedNamesMax);
      const more = keys.size - named.length;
      const names = named.map((key) => key.split('/').at(-1) ?? key);
      return [...names, ...(more > 0 ? [`and ${more} more`] : [])].map((name) =>
        diagnosticOf(resource, name),
      );
    });
  }

  /** Kinds of which it is not known whether there are objects. */
  get notes(): readonly string[] {
    return this.#kinds.flatMap(({ resource, list: { state } }) =>
      state.kind === 'waiting' && state.cause === 'rights'
        ? [
            `whether the cluster has objects of ${resource.kind}, which is not enforced, is not known: ${state.message}`,
          ]
        : [],
    );
  }
}

function diagnosticOf({ apiVersion: version, kind }: Resource, name: string): SourceDiagnostic {
  const raw: Fields = { apiVersion: version, kind, metadata: { name } };
  const parsed = parseObject(raw);
  if (!parsed.ok || parsed.value.kind !== 'unsupported') throw new Error(`${kind} is read here`);
  return { ...unsupportedKind(parsed.value), severity: 'error' };
}
