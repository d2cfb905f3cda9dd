// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Pods as selectors see them. Most pods of a cluster look like others: each look is worked out once, as long as
 * some pod has it, and pods with equal looks have one `Ownership`.
 */

import type { Namespace, Pod } from '../../k8s/objects.ts';
import { ClassFlag } from '../model/kernel-numbers.ts';
import {
  type AskedOfPods,
  type Identity,
  identityKey,
  partialIdentity,
  podIdentity,
} from '../model/labels.ts';
import type { PeerEntity } from '../model/peer.ts';
import type { Ownership } from './address-owners.ts';

const entitiesOf: Readonly<
  Record<NonNullable<Identity['unknown']> | 'none', ReadonlySet<PeerEntity>>
> = {
  none: new Set<PeerEntity>(['cluster']),
  namespace: new Set<PeerEntity>(['cluster', 'unknown-namespace']),
  all: new Set<PeerEntity>(['cluster', 'unknown-namespace', 'unknown-labels']),
};

/** One look of pods. */
export class PodOwner implements Ownership {
  readonly flags: number = ClassFlag.cluster;
  readonly isExternal = false;
  readonly entities: ReadonlySet<PeerEntity>;
  readonly identities: readonly Identity[];
  readonly isElsewhere: boolean;
  readonly key: string;
  /** Pods that have it. */
  users = 0;

  constructor(identity: Identity, isElsewhere: boolean, key: string) {
    this.identities = [identity];
    this.entities = entitiesOf[identity.unknown ?? 'none'];
    this.isElsewhere = isElsewhere;
    this.key = key;
  }

  get identity(): Identity {
    return this.identities[0] as Identity;
  }
}

export interface PodFacts {
  readonly namespaces: ReadonlyMap<string, Namespace>;
  readonly nodeName: string;
  readonly clusterName: string;
  readonly asked: AskedOfPods;
}

export class PodOwners {
  readonly #byKey = new Map<string, PodOwner>();
  /** Pods of the API share the objects of their labels. */
  #byLabels = new WeakMap<Pod['labels'], Map<string, PodOwner>>();

  /** Facts about pods are others than before: what is remembered of labels does not hold. */
  forget(): void {
    this.#byLabels = new WeakMap();
  }

  /** Each call is undone by one of `release`. */
  take(pod: Pod, facts: PodFacts): PodOwner {
    const owner = this.#find(pod, facts);
    if (owner.users++ === 0) this.#byKey.set(owner.key, owner);
    return owner;
  }

  release(owner: PodOwner): void {
    owner.users--;
    if (owner.users === 0 && this.#byKey.get(owner.key) === owner) this.#byKey.delete(owner.key);
  }

  #find(pod: Pod, facts: PodFacts): PodOwner {
    const isElsewhere = pod.nodeName !== facts.nodeName;
    const rest = [
      pod.namespace,
      pod.serviceAccount,
      isElsewhere,
      pod.isPartial === true,
      ...portsOf(pod, facts.asked),
    ].join(' ');
    let byRest = this.#byLabels.get(pod.labels);
    if (byRest === undefined) this.#byLabels.set(pod.labels, (byRest = new Map()));
    const known = byRest.get(rest);
    if (known !== undefined && (known.users > 0 || !this.#byKey.has(known.key))) return known;
    const identity = identityOf(pod, facts);
    const key = `${isElsewhere} ${identityKey(identity)}`;
    const owner = this.#byKey.get(key) ?? new PodOwner(identity, isElsewhere, key);
    byRest.set(rest, owner);
    return owner;
  }
}

function identityOf(pod: Pod, { namespaces, clusterName, asked }: PodFacts): Identity {
  // A label that could not be read must not be taken for one that the pod lacks.
  if (pod.isPartial === true) return partialIdentity;
  return podIdentity(pod, namespaces.get(`/${pod.namespace}`), clusterName, asked);
}

function portsOf({ namedPorts }: Pod, { numbers }: AskedOfPods): readonly string[] {
  if (numbers.size === 0 || namedPorts === undefined) return [];
  return [...namedPorts].map(([name, number]) => `${name}=${numbers.has(name) ? number : ''}`);
}
