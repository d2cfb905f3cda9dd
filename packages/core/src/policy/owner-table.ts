// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The owner of each address, kept from one state of the cluster to the next: a change costs what it changes. Of several
 * claims to an address one wins, by a rule that does not depend on the order in which they came.
 */
import { MapFollower } from '../change-map.ts';
import type { EndpointSlice, Namespace, Node, Pod, Service } from '../k8s/objects.ts';
import { addressKey, formatAddress, hostPrefix, isIpv4, prefixKey } from '../net/ip.ts';
import {
  type AddressOwner,
  type BaseOwners,
  findBaseOwners,
  isClusterDns,
  type LocalPod,
  nodeOwners,
  type Owners,
  type Ownership,
  outsideOwners,
} from './address-owners.ts';
import type { ClusterState, NodeContext } from './cluster-state.ts';
import type { Diagnostic } from './desired.ts';
import { ClassFlag } from './kernel-numbers.ts';
import { type Identity, identityKey, reservedIdentity } from './labels.ts';
import type { AskedOfPods } from './named-ports.ts';
import type { PeerEntity } from './peer.ts';
import { type PodFacts, type PodOwner, PodOwners } from './pod-owners.ts';
import { PortNumbers } from './port-numbers.ts';

interface KnownPod {
  readonly pod: Pod;
  /** Null: policy does not concern it. */
  readonly owner: PodOwner | null;
}

/** Whoever claims an address: one pod nearly always. */
type Claim = KnownPod | readonly KnownPod[];

interface Winner {
  readonly known: KnownPod;
  readonly isDisputed: boolean;
}

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
  /** By `addressKey`. */
  readonly #claims = new Map<string, Claim>();
  /** Addresses that several pods claim. */
  readonly #contested = new Set<string>();
  #base = noBase;
  #baseFacts = '';
  #podFacts = '';
  #extensions: ReadonlyMap<string, readonly [Uint8Array, Ownership]> = new Map();
  readonly #extended = new Map<string, Ownership>();
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
    this.#updateExtensions(cluster, node);
  }

  /** Owners of more than one address, with those of the same prefix in none of them. */
  *ranges(): Generator<AddressOwner, void, undefined> {
    for (const each of this.#base.owners.values()) if (each.prefix.bits < 128) yield each;
  }

  /** Of the address with this key; null: it is that of the range around it. */
  ownerOf(key: string): Ownership | null {
    const owner = this.#extensions.get(key)?.[1] ?? this.#plainOwnerOf(key);
    return owner !== null && this.#crowded.has(key) ? closedOwner(owner) : owner;
  }

  /** What is no endpoint, but in a range of this node's pods, is dropped: so are these addresses. */
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
      for (const known of listed(this.#claims.get(key))) {
        const text = textOf(known, key);
        warn(
          known,
          `has address ${text} of a node and is no host-network pod: it is not an endpoint`,
        );
      }
    }
    for (const key of this.#contested) {
      const winner = this.#winnerOf(key);
      if (winner === null || !winner.isDisputed) continue;
      const { pod } = winner.known;
      for (const known of listed(this.#claims.get(key))) {
        if (known === winner.known || compareClaims(known.pod, pod) !== 0) continue;
        warn(known, `has address ${textOf(known, key)} like ${pod.namespace}/${pod.name}: held`);
      }
    }
    return diagnostics;
  }

  #updateBase(cluster: ClusterState, node: NodeContext): void {
    const facts = JSON.stringify([
      ...[node.nodeName, node.localAddresses, node.localPodCidrs, node.clusterCidrs],
      node.serviceCidrs,
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
    }
    if (pod === undefined) return;
    const known: KnownPod = { pod, owner };
    this.#known.set(key, known);
    if (owner === null) return;
    if (pod.nodeName === facts.nodeName) this.#local.set(key, known);
    for (const address of pod.addresses) this.#claim(address, known);
  }

  #claim(address: Uint8Array, known: KnownPod): void {
    const key = addressKey(address);
    this.#changed.set(key, address);
    const claim = this.#claims.get(key);
    if (claim === known) return;
    if (claim === undefined) this.#claims.set(key, known);
    else if (!listed(claim).includes(known)) {
      this.#claims.set(key, [...listed(claim), known]);
      this.#contested.add(key);
    }
  }

  #unclaim(address: Uint8Array, known: KnownPod): void {
    const key = addressKey(address);
    this.#changed.set(key, address);
    const rest = listed(this.#claims.get(key)).filter((each) => each !== known);
    if (rest.length < 2) this.#contested.delete(key);
    const [first] = rest;
    if (first === undefined) this.#claims.delete(key);
    else this.#claims.set(key, rest.length === 1 ? first : rest);
  }

  /** The pod that has the address; null: none does. */
  #winnerOf(key: string): Winner | null {
    if (this.#base.nodeKeys.has(key)) return null;
    const claim = this.#claims.get(key);
    if (claim === undefined) return null;
    const claims = listed(claim);
    let best = claims[0] as KnownPod;
    for (const each of claims) {
      const order = compareClaims(each.pod, best.pod) || (each.pod.uid > best.pod.uid ? 1 : -1);
      if (each !== best && order > 0) best = each;
    }
    const isDisputed = claims.some(
      (each) => each !== best && compareClaims(each.pod, best.pod) === 0,
    );
    return { known: best, isDisputed };
  }

  #plainOwnerOf(key: string): Ownership | null {
    const claim = this.#claims.get(key);
    const winner =
      claim === undefined
        ? undefined
        : 'pod' in claim && !this.#base.nodeKeys.has(key)
          ? claim
          : this.#winnerOf(key)?.known;
    if (winner !== undefined) return winner.owner;
    const prefix = key + hostSuffix;
    const { owners, fallbacks } = this.#base;
    return (owners.get(prefix) ?? fallbacks.get(prefix))?.owner ?? null;
  }

  #updateExtensions(cluster: ClusterState, node: NodeContext): void {
    const extensions = new Map<string, readonly [Uint8Array, Ownership]>();
    const extend = (
      address: Uint8Array,
      extra: Pick<Ownership, 'entities' | 'identities'>,
      fallback: Ownership,
    ): void => {
      const key = addressKey(address);
      const owner = extensions.get(key)?.[1] ?? this.#plainOwnerOf(key) ?? fallback;
      extensions.set(key, [address, this.#interned(owner, extra)]);
    };
    const { apiServer, dns } = specialSlices(cluster.endpointSlices.values());
    for (const address of apiServer) {
      extend(address, apiServerExtra, isIpv4(address) ? outsideOwners.ipv4 : outsideOwners.ipv6);
    }
    const identities: Identity[] = [];
    for (const address of dns) {
      const key = addressKey(address);
      const owner = extensions.get(key)?.[1] ?? this.#plainOwnerOf(key);
      if (owner !== null && !owner.isExternal) identities.push(...owner.identities);
    }
    const host = nodeOwners.host;
    const extra = { entities: host.entities, identities: [...host.identities, ...identities] };
    for (const address of [...node.nodeLocalDns, ...localClusterDns(cluster, node)]) {
      extend(address, extra, localDnsFallback);
    }
    const former = this.#extensions;
    this.#extensions = extensions;
    for (const [key, [address, owner]] of extensions) {
      if (former.get(key)?.[1] !== owner) this.#changed.set(key, address);
    }
    for (const [key, [address]] of former) {
      if (!extensions.has(key)) this.#changed.set(key, address);
    }
  }

  /** The owner with something more. Equal ones are one object while they are in use. */
  #interned(owner: Ownership, extra: Pick<Ownership, 'entities' | 'identities'>): Ownership {
    const more: Ownership = {
      flags: owner.flags,
      isExternal: owner.isExternal,
      entities: owner.entities.union(extra.entities),
      identities: [...owner.identities, ...extra.identities],
      ...(owner.isElsewhere === undefined ? {} : { isElsewhere: owner.isElsewhere }),
      ...(owner.isImplied === undefined ? {} : { isImplied: owner.isImplied }),
    };
    const key = JSON.stringify([
      ...[more.flags, more.isExternal, more.isElsewhere === true, more.isImplied === true],
      ...[[...more.entities].sort(), more.identities.map(identityKey)],
    ]);
    const known = this.#extended.get(key);
    if (known !== undefined) return known;
    if (this.#extended.size >= extendedMax) this.#extended.clear();
    this.#extended.set(key, more);
    return more;
  }
}

/** Owners of the API server's and the DNS caches' addresses that are remembered; with more they are made anew. */
const extendedMax = 1024;
const hostSuffix = prefixKey(hostPrefix(new Uint8Array(16))).slice(-1);
const localDnsFallback: Ownership = { ...nodeOwners.host, identities: [] };

/** Backends of default/kubernetes carry the entity kube-apiserver beside what they are; those outside of the nodes are the world's. */
const apiServerExtra: Pick<Ownership, 'entities' | 'identities'> = {
  entities: new Set<PeerEntity>(['kube-apiserver']),
  identities: [reservedIdentity(['kube-apiserver'])],
};

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

function listed(claim: Claim | undefined): readonly KnownPod[] {
  if (claim === undefined) return [];
  return 'pod' in claim ? [claim] : claim;
}

function textOf({ pod }: KnownPod, key: string): string {
  const address = pod.addresses.find((each) => addressKey(each) === key);
  return address === undefined ? '' : formatAddress(address);
}

function askedTexts({ labels, namespaceLabels, numbers }: AskedOfPods): readonly string[][] {
  return [[...labels].sort(), [...namespaceLabels].sort(), [...numbers.keys()].sort()];
}

/**
 * Positive when `left` has the better claim: the pod that CNI gave the address on this node, then the one that stays, then
 * the younger one. A status may be old, and of a pod that has no address any more.
 */
function compareClaims(left: Pod, right: Pod): number {
  const [isLeftGiven, isRightGiven] = [left, right].map(({ sandboxId }) => sandboxId !== undefined);
  if (isLeftGiven !== isRightGiven) return isLeftGiven === true ? 1 : -1;
  if (left.isDeleting !== right.isDeleting) return left.isDeleting ? -1 : 1;
  if (left.createdAt === right.createdAt) return 0;
  return left.createdAt > right.createdAt ? 1 : -1;
}

/**
 * Addresses behind the API server and the cluster's DNS. A node-local DNS cache answers for the latter, and its address is
 * the host's: a rule for either is a rule for it. Packets to it are not translated (NOTRACK), so this is what `judge` sees.
 */
function specialSlices(slices: Iterable<EndpointSlice>): {
  readonly apiServer: readonly Uint8Array[];
  readonly dns: readonly Uint8Array[];
} {
  const apiServer: Uint8Array[] = [];
  const dns: Uint8Array[] = [];
  for (const { namespace, serviceName, endpoints } of slices) {
    const isApiServer = namespace === 'default' && serviceName === 'kubernetes';
    if (!isApiServer && !isClusterDns(namespace, serviceName)) continue;
    const list = isApiServer ? apiServer : dns;
    for (const { address } of endpoints) list.push(address);
  }
  return { apiServer, dns };
}

/** A cache may listen on the cluster DNS' own ClusterIPs: then they are addresses of the host. */
function localClusterDns(cluster: ClusterState, node: NodeContext): readonly Uint8Array[] {
  const known = new Set(node.nodeLocalDns.map(addressKey));
  const local = new Set(node.localAddresses.map(addressKey));
  const found: Uint8Array[] = [];
  for (const { namespace, name, clusterIps } of cluster.services.values()) {
    if (!isClusterDns(namespace, name)) continue;
    found.push(
      ...clusterIps.filter((each) => local.has(addressKey(each)) && !known.has(addressKey(each))),
    );
  }
  return found;
}
