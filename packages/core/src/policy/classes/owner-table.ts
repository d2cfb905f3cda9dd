// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The owner of each address, kept from one state of the cluster to the next: a change costs as much as it changes. Of several
 * claims to an address one wins, by a rule that does not depend on the order in which they came.
 */

import { MapFollower } from '../../change-map.ts';
import type { Namespace, Node, Pod, Service } from '../../k8s/objects.ts';
import { addressKey, formatAddress, hostPrefix, prefixKey } from '../../net/ip.ts';
import type { ClusterState, NodeContext } from '../model/cluster-state.ts';
import type { Diagnostic } from '../model/desired.ts';
import { ClassFlag } from '../model/kernel-numbers.ts';
import type { AskedOfPods } from '../model/labels.ts';
import { PortNumbers } from '../model/port-numbers.ts';
import { AddressClaims, compareClaims, type KnownPod, type Winner } from './address-claims.ts';
import {
  type AddressOwner,
  type BaseOwners,
  findBaseOwners,
  type LocalPod,
  type Owners,
  type Ownership,
} from './address-owners.ts';
import { type PodFacts, PodOwners } from './pod-owners.ts';
import { SpecialOwners } from './special-owners.ts';

const noBase: BaseOwners = { owners: new Map(), fallbacks: new Map(), nodeKeys: new Set() };

export class OwnerTable {
  readonly #nodes = new MapFollower<Node>();
  readonly #services = new MapFollower<Service>();
  readonly #namespaces = new MapFollower<Namespace>();
  readonly #pods: MapFollower<Pod>;
  /** Pods that changed since the last `update`. */
  #moved = new Set<string>();
  readonly #ports = new PortNumbers();
  readonly #podOwners = new PodOwners();
  readonly #known = new Map<string, KnownPod>();
  readonly #local = new Map<string, KnownPod>();
  /** Pods of this node with hostNetwork. */
  readonly #host = new Map<string, Pod>();
  readonly #claims = new AddressClaims();
  #base = noBase;
  #baseFacts = '';
  #podFacts = '';
  readonly #special = new SpecialOwners();
  #crowded: ReadonlyMap<string, Uint8Array> = new Map();
  #changed = new Map<string, Uint8Array>();
  #areRangesChanged = false;

  constructor() {
    const known = this.#known;
    const later = (): void => undefined; // `update` notes them
    this.#pods = new MapFollower({
      get size() {
        return known.size;
      },
      get: (key) => known.get(key)?.pod,
      keys: () => known.keys(),
      ...{ set: later, delete: later },
    });
  }

  /** Which pods have which numbers for named ports: before `update`, which may depend on it. */
  portNumbers(pods: ReadonlyMap<string, Pod>): PortNumbers {
    for (const [key, former] of this.#pods.follow(pods)) {
      this.#moved.add(key);
      if (former !== undefined) this.#ports.count(former, -1);
      const pod = pods.get(key);
      if (pod !== undefined) this.#ports.count(pod, 1);
    }
    return this.#ports;
  }

  /** Brings the table to this state of the cluster, of whose pods `portNumbers` was asked. */
  update(cluster: ClusterState, node: NodeContext, asked: AskedOfPods): void {
    this.#updateBase(cluster, node);
    this.#updatePods(cluster, node, asked);
    const plainOwnerOf = (key: string): Ownership | null => this.#plainOwnerOf(key);
    for (const [key, address] of this.#special.update(cluster, node, plainOwnerOf)) {
      this.#changed.set(key, address);
    }
  }

  /** Owners of more than one address, with those of the same prefix in none of them. */
  *ranges(): Generator<AddressOwner, void, undefined> {
    for (const each of this.#base.owners.values()) if (each.prefix.bits < 128) yield each;
  }

  /** Owner of the address with this key; null: it has the owner of the range around it. */
  ownerOf(key: string): Ownership | null {
    const owner = this.#special.get(key) ?? this.#plainOwnerOf(key);
    return owner !== null && this.#crowded.has(key) ? closedOwner(owner) : owner;
  }

  /**
   * Sets the addresses without room: an address in a range of this node's pods without an endpoint is dropped, and so are
   * these.
   */
  setCrowded(addresses: Iterable<Uint8Array>): void {
    const crowded = new Map<string, Uint8Array>();
    for (const address of addresses) crowded.set(addressKey(address), address);
    for (const [key, address] of [...this.#crowded, ...crowded]) {
      if (crowded.has(key) !== this.#crowded.has(key)) this.#changed.set(key, address);
    }
    this.#crowded = crowded;
  }

  /** Addresses, by key, whose owners may be others than at the last call, and whether ranges' may. */
  takeChanges(): {
    readonly addresses: ReadonlyMap<string, Uint8Array>;
    readonly areRanges: boolean;
  } {
    const changes = { addresses: this.#changed, areRanges: this.#areRangesChanged };
    this.#changed = new Map();
    this.#areRangesChanged = false;
    return changes;
  }

  /** Pods of this node without a network of their own, which no policy selects. */
  hostPods(): Iterable<Pod> {
    return this.#host.values();
  }

  localPods(): readonly LocalPod[] {
    const localPods: LocalPod[] = [];
    for (const known of this.#local.values()) {
      const { pod, owner } = known;
      if (owner === null) continue;
      const own = pod.addresses.flatMap((address) => {
        const winner = this.#winnerOf(addressKey(address));
        return winner?.known === known ? [{ address, isDisputed: winner.isDisputed }] : [];
      });
      if (own.length === 0) continue;
      localPods.push({
        pod,
        identity: owner.identity,
        addresses: own.map(({ address }) => address),
        isDisputed: own.some(({ isDisputed }) => isDisputed),
      });
    }
    return localPods;
  }

  /** Pods that have an address of a node, or one of another pod. */
  diagnostics(): readonly Diagnostic[] {
    const diagnostics: Diagnostic[] = [];
    const warn = ({ pod }: KnownPod, message: string): void => {
      const subject = `Pod/${pod.namespace}/${pod.name}`;
      diagnostics.push({ severity: 'error', code: 'pod-address', subject, message });
    };
    for (const key of this.#base.nodeKeys) {
      for (const known of this.#claims.of(key)) {
        const text = textOf(known, key);
        warn(
          known,
          `has address ${text} of a node and is no host-network pod: it is not an endpoint`,
        );
      }
    }
    for (const key of this.#claims.contested) {
      const winner = this.#winnerOf(key);
      if (winner === null || !winner.isDisputed) continue;
      const { pod } = winner.known;
      for (const known of this.#claims.of(key)) {
        if (known === winner.known || compareClaims(known.pod, pod) !== 0) continue;
        warn(
          known,
          `has address ${textOf(known, key)} like ${pod.namespace}/${pod.name}: its traffic is dropped`,
        );
      }
    }
    return diagnostics;
  }

  #updateBase(cluster: ClusterState, node: NodeContext): void {
    const facts = JSON.stringify([
      ...[node.nodeName, node.localAddresses, node.localPodCidrs, node.clusterCidrs],
      ...[node.serviceCidrs, node.linkLocalAddresses],
    ]);
    const nodes = this.#nodes.follow(cluster.nodes);
    const services = this.#services.follow(cluster.services);
    if (nodes.size === 0 && services.size === 0 && facts === this.#baseFacts) return;
    const former = this.#base;
    this.#baseFacts = facts;
    this.#base = findBaseOwners(cluster, node);
    this.#compare(former.owners, this.#base.owners);
    this.#compare(former.fallbacks, this.#base.fallbacks);
  }

  #compare(former: Owners, owners: Owners): void {
    const differ = ({ prefix }: AddressOwner): void => {
      if (prefix.bits < 128) this.#areRangesChanged = true;
      else this.#changed.set(addressKey(prefix.address), prefix.address);
    };
    for (const [key, each] of owners) if (former.get(key)?.owner !== each.owner) differ(each);
    for (const [key, each] of former) if (!owners.has(key)) differ(each);
  }

  #updatePods(cluster: ClusterState, node: NodeContext, asked: AskedOfPods): void {
    const facts: PodFacts = { ...node, namespaces: cluster.namespaces, asked };
    const text = JSON.stringify([node.nodeName, node.clusterName, ...askedTexts(asked)]);
    const namespaces = this.#namespaces.follow(cluster.namespaces);
    const pods = this.#moved;
    this.#moved = new Set();
    const isAll = text !== this.#podFacts;
    this.#podFacts = text;
    if (isAll || namespaces.size > 0) {
      this.#podOwners.forget();
      for (const [key, { pod }] of [...this.#known]) {
        const isAffected = isAll || namespaces.has(`/${pod.namespace}`);
        if (isAffected && !pods.has(key)) this.#setPod(key, pod, facts);
      }
    }
    for (const key of pods) this.#setPod(key, cluster.pods.get(key), facts);
  }

  #setPod(key: string, pod: Pod | undefined, facts: PodFacts): void {
    const former = this.#known.get(key);
    const isPolicied = pod !== undefined && !pod.hostNetwork && !pod.isFinished;
    // Before the former one is given back: if it looks the same, it is the same.
    const owner = isPolicied ? this.#podOwners.take(pod, facts) : null;
    if (former !== undefined) {
      if (former.owner !== null) {
        for (const address of former.pod.addresses) this.#unclaim(address, former);
      }
      if (former.owner !== null) this.#podOwners.release(former.owner);
      this.#known.delete(key);
      this.#local.delete(key);
      this.#host.delete(key);
    }
    if (pod === undefined) return;
    const known: KnownPod = { pod, owner };
    this.#known.set(key, known);
    const isHost = pod.hostNetwork && !pod.isFinished && pod.nodeName === facts.nodeName;
    if (isHost) this.#host.set(key, pod);
    if (owner === null) return;
    if (pod.nodeName === facts.nodeName) this.#local.set(key, known);
    for (const address of pod.addresses) this.#claim(address, known);
  }

  #claim(address: Uint8Array, known: KnownPod): void {
    const key = addressKey(address);
    this.#changed.set(key, address);
    this.#claims.add(key, known);
  }

  #unclaim(address: Uint8Array, known: KnownPod): void {
    const key = addressKey(address);
    this.#changed.set(key, address);
    this.#claims.remove(key, known);
  }

  /** The pod that has the address; null: none does. */
  #winnerOf(key: string): Winner | null {
    return this.#base.nodeKeys.has(key) ? null : this.#claims.winnerOf(key);
  }

  #plainOwnerOf(key: string): Ownership | null {
    const winner = this.#base.nodeKeys.has(key) ? null : this.#claims.podOf(key);
    if (winner !== null) return winner.owner;
    const prefix = key + hostSuffix;
    const { owners, fallbacks } = this.#base;
    return (owners.get(prefix) ?? fallbacks.get(prefix))?.owner ?? null;
  }
}

const hostSuffix = prefixKey(hostPrefix(new Uint8Array(16))).slice(-1);
const closedOwners = new WeakMap<Ownership, Ownership>();

function closedOwner(owner: Ownership): Ownership {
  const known = closedOwners.get(owner);
  if (known !== undefined) return known;
  const { isExternal, entities, identities, isElsewhere, isImplied } = owner;
  const closed: Ownership = {
    flags: owner.flags | ClassFlag.localPods,
    ...{ isExternal, entities, identities },
    ...(isElsewhere === undefined ? {} : { isElsewhere }),
    ...(isImplied === undefined ? {} : { isImplied }),
  };
  closedOwners.set(owner, closed);
  return closed;
}

function textOf({ pod }: KnownPod, key: string): string {
  const address = pod.addresses.find((each) => addressKey(each) === key);
  return address === undefined ? '' : formatAddress(address);
}

function askedTexts({ labels, namespaceLabels, numbers }: AskedOfPods): readonly string[][] {
  return [[...labels].sort(), [...namespaceLabels].sort(), [...numbers.keys()].sort()];
}
