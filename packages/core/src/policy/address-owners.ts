// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

import { assert } from '../assert.ts';
/**
 * Who owns which addresses: pods, nodes, services, the API server, whole pod and service CIDRs, and the
 * world as the rest. The innermost owner of an address decides what it is: a node's address is a node
 * even inside a pod CIDR. CIDR rules and `world` are for external owners only, so an address of a pod
 * CIDR that no pod is known to have matches no CIDR rule and counts as `cluster` alone.
 */
import type { Pod } from '../k8s/objects.ts';
import {
  formatAddress,
  formatPrefix,
  hostPrefix,
  isIpv4,
  isIpv4Prefix,
  type Prefix,
  parseAddress,
  parsePrefix,
} from '../net/ip.ts';
import type { ClusterState, NodeContext } from './cluster-state.ts';
import type { Diagnostic } from './desired.ts';
import { ClassFlag } from './kernel-numbers.ts';
import { type Identity, podIdentity, reservedIdentity } from './labels.ts';
import { type AskedOfPods, askedOfPods } from './named-ports.ts';
import type { PeerEntity } from './peer.ts';

export interface AddressOwner {
  readonly prefix: Prefix;
  /** `ClassFlag` bits of its own; those of enclosing prefixes are added later. */
  readonly flags: number;
  /** CIDR selectors apply. */
  readonly isExternal: boolean;
  readonly entities: ReadonlySet<PeerEntity>;
  /** Label selectors match the owner if they match one of these. */
  readonly identities: readonly Identity[];
  /** Nobody of this node's pods, though its address may lie in their CIDR. */
  readonly isElsewhere?: boolean;
  /** Named by no object and no interface: no DNS server is looked for there. */
  readonly isImplied?: boolean;
}

/** A pod of this node that has addresses of its own. */
export interface LocalPod {
  readonly pod: Pod;
  readonly identity: Identity;
  /** Those that no other pod or node has a better claim to. */
  readonly addresses: readonly Uint8Array[];
  /** Another pod claims one of them with equal right: hold it, nobody knows whose policy counts. */
  readonly isDisputed: boolean;
}

export interface AddressOwners {
  readonly owners: readonly AddressOwner[];
  readonly localPods: readonly LocalPod[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Link-local, loopback and cloud metadata: addresses that no DNS answer may open (threat T6). */
const specialRanges: readonly Prefix[] = [
  '169.254.0.0/16',
  '127.0.0.0/8',
  '100.100.100.200/32',
  '168.63.129.16/32',
  'fe80::/10',
  '::1/128',
  'fd00:ec2::254/128',
].map((text) => {
  const prefix = parsePrefix(text);
  assert(prefix !== null, `${text} is a prefix`);
  return prefix;
});

export const ipv6World: Prefix = { address: new Uint8Array(16), bits: 0 };
export const ipv4World: Prefix = {
  address: Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0),
  bits: 96,
};

interface Claim {
  readonly pod: Pod;
  isDisputed: boolean;
}

export function findAddressOwners(
  cluster: ClusterState,
  node: NodeContext,
  asked: AskedOfPods = askedOfPods(cluster),
): AddressOwners {
  const table = new OwnerTable();
  addRanges(table, cluster, node);
  for (const service of cluster.services.values()) {
    for (const address of service.clusterIps) {
      table.set(hostPrefix(address), serviceOwner);
    }
  }
  const nodeAddresses = addNodes(table, cluster, node);
  const { claims, diagnostics } = claimPodAddresses(cluster, nodeAddresses);
  const identities = new Map<Pod, Identity>();
  for (const pod of cluster.pods.values()) {
    const namespace = cluster.namespaces.get(`/${pod.namespace}`);
    // A label that could not be read must not be taken for one that the pod lacks.
    const identity = pod.isPartial
      ? reservedIdentity([])
      : podIdentity(pod, namespace, node.clusterName, asked);
    identities.set(pod, identity);
  }
  for (const [address, { pod }] of claims.values()) {
    table.set(hostPrefix(address), {
      flags: ClassFlag.cluster,
      isExternal: false,
      entities: new Set(['cluster']),
      identities: [identities.get(pod) as Identity],
      isElsewhere: pod.nodeName !== node.nodeName,
    });
  }
  addTunnelEnds(table, cluster, node);
  addApiServer(table, cluster);
  addNodeLocalDns(table, cluster, node);
  const localPods = findLocalPods(cluster, node, claims, identities);
  return { owners: [...table.owners()], localPods, diagnostics };
}

type Ownership = Omit<AddressOwner, 'prefix'>;

const serviceOwner: Ownership = {
  flags: ClassFlag.cluster | ClassFlag.service,
  isExternal: false,
  entities: new Set(),
  identities: [],
};

class OwnerTable {
  readonly #byPrefix = new Map<string, AddressOwner>();

  set(prefix: Prefix, ownership: Ownership): void {
    this.#byPrefix.set(formatPrefix(prefix), { prefix, ...ownership });
  }

  /** Adds to the owner of exactly this prefix, or to what `fallback` gives. */
  extend(
    prefix: Prefix,
    extra: Pick<Ownership, 'entities' | 'identities'>,
    fallback: Ownership,
  ): void {
    const owner = this.#byPrefix.get(formatPrefix(prefix)) ?? fallback;
    this.set(prefix, {
      ...owner,
      entities: owner.entities.union(extra.entities),
      identities: [...owner.identities, ...extra.identities],
    });
  }

  get(prefix: Prefix): AddressOwner | undefined {
    return this.#byPrefix.get(formatPrefix(prefix));
  }

  owners(): Iterable<AddressOwner> {
    return this.#byPrefix.values();
  }
}

function worldOwner(ipv4: boolean, flags: number): Ownership {
  return {
    flags,
    isExternal: true,
    entities: new Set(['world', ipv4 ? 'world-ipv4' : 'world-ipv6']),
    identities: [reservedIdentity(['world', ipv4 ? 'world-ipv4' : 'world-ipv6'])],
  };
}

function addRanges(table: OwnerTable, cluster: ClusterState, node: NodeContext): void {
  table.set(ipv6World, worldOwner(false, 0));
  table.set(ipv4World, worldOwner(true, 0));
  for (const range of specialRanges) {
    table.set(range, worldOwner(isIpv4Prefix(range), ClassFlag.linkLocal));
  }
  const anyPod: Ownership = {
    flags: ClassFlag.cluster,
    isExternal: false,
    entities: new Set(['cluster']),
    identities: [],
  };
  for (const prefix of node.serviceCidrs) table.set(prefix, serviceOwner);
  for (const prefix of node.clusterCidrs) table.set(prefix, anyPod);
  for (const { podCidrs } of cluster.nodes.values()) {
    for (const prefix of podCidrs) table.set(prefix, anyPod);
  }
  for (const prefix of localPodCidrs(cluster, node)) {
    table.set(prefix, { ...anyPod, flags: ClassFlag.cluster | ClassFlag.localPods });
  }
}

function localPodCidrs(cluster: ClusterState, node: NodeContext): readonly Prefix[] {
  return node.localPodCidrs ?? cluster.nodes.get(`/${node.nodeName}`)?.podCidrs ?? [];
}

/** Where a packet is delivered to the host whatever its destination, its class is this address' (ADR 12). */
const hostItself = parseAddress('::1');
assert(hostItself !== null, '::1 is an address');

const nodeOwner = (entity: 'host' | 'remote-node'): Ownership => ({
  flags: ClassFlag.cluster | ClassFlag.node,
  isExternal: false,
  entities: new Set([entity, 'cluster']),
  identities: [reservedIdentity([entity])],
  isElsewhere: true,
});

/** Adds the nodes and returns the texts of their addresses. */
function addNodes(
  table: OwnerTable,
  cluster: ClusterState,
  node: NodeContext,
): ReadonlySet<string> {
  const texts = new Set<string>();
  const add = (address: Uint8Array, entity: 'host' | 'remote-node'): void => {
    texts.add(formatAddress(address));
    table.set(hostPrefix(address), nodeOwner(entity));
  };
  for (const { name, addresses } of cluster.nodes.values()) {
    if (name === node.nodeName) continue;
    for (const address of addresses) add(address, 'remote-node');
  }
  const own = cluster.nodes.get(`/${node.nodeName}`)?.addresses ?? [];
  for (const address of [...own, ...node.localAddresses]) add(address, 'host');
  const itself = hostPrefix(hostItself as Uint8Array);
  const flags = ClassFlag.cluster | ClassFlag.node | ClassFlag.linkLocal;
  if (!texts.has('::1')) table.set(itself, { ...nodeOwner('host'), flags, isImplied: true });
  return texts;
}

/**
 * A tunnel of flannel's has the first address of its node's pod CIDR, the node's bridge the second: by the tunnel its
 * host reaches pods of other nodes, by the bridge what came to one of its NodePorts. Not where a pod has it: Calico's IPAM gives it
 * away. This node's bridge is an interface, so its address needs no guess.
 */
function addTunnelEnds(table: OwnerTable, cluster: ClusterState, node: NodeContext): void {
  for (const { name, podCidrs } of cluster.nodes.values()) {
    const isOwn = name === node.nodeName;
    for (const { address, bits } of podCidrs) {
      addNodeEnd(table, address, isOwn ? 'host' : 'remote-node');
      if (!isOwn && bits < 128) addNodeEnd(table, secondOf(address), 'remote-node');
    }
  }
}

function addNodeEnd(table: OwnerTable, address: Uint8Array, entity: 'host' | 'remote-node'): void {
  const prefix = hostPrefix(address);
  if (table.get(prefix) !== undefined) return;
  table.set(prefix, { ...nodeOwner(entity), isImplied: true });
}

/** Of a prefix with this first address, whose last bit is 0. */
function secondOf(address: Uint8Array): Uint8Array {
  const second = Uint8Array.from(address);
  second[15] = (second[15] ?? 0) | 1;
  return second;
}

/** Which pod each pod address belongs to. */
function claimPodAddresses(
  cluster: ClusterState,
  nodeAddresses: ReadonlySet<string>,
): {
  readonly claims: ReadonlyMap<string, readonly [Uint8Array, Claim]>;
  readonly diagnostics: readonly Diagnostic[];
} {
  const claims = new Map<string, readonly [Uint8Array, Claim]>();
  const diagnostics: Diagnostic[] = [];
  const warn = (pod: Pod, message: string): void => {
    const subject = `Pod/${pod.namespace}/${pod.name}`;
    diagnostics.push({ severity: 'error', code: 'pod-address', subject, message });
  };
  for (const pod of cluster.pods.values()) {
    if (pod.hostNetwork || pod.isFinished) continue;
    for (const address of pod.addresses) {
      const text = formatAddress(address);
      if (nodeAddresses.has(text)) {
        warn(
          pod,
          `has address ${text} of a node and is no host-network pod: it is not an endpoint`,
        );
        continue;
      }
      const claim = claims.get(text)?.[1];
      if (claim === undefined) {
        claims.set(text, [address, { pod, isDisputed: false }]);
        continue;
      }
      const order = compareClaims(pod, claim.pod);
      const isDisputed = order === 0;
      if (isDisputed)
        warn(pod, `has address ${text} like ${claim.pod.namespace}/${claim.pod.name}: held`);
      const isBetter = order > 0 || (isDisputed && pod.uid > claim.pod.uid);
      if (isBetter) claims.set(text, [address, { pod, isDisputed }]);
      else claim.isDisputed ||= isDisputed;
    }
  }
  return { claims, diagnostics };
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

function findLocalPods(
  cluster: ClusterState,
  node: NodeContext,
  claims: ReadonlyMap<string, readonly [Uint8Array, Claim]>,
  identities: ReadonlyMap<Pod, Identity>,
): readonly LocalPod[] {
  const localPods: LocalPod[] = [];
  for (const pod of cluster.pods.values()) {
    if (pod.nodeName !== node.nodeName || pod.hostNetwork || pod.isFinished) continue;
    const own = pod.addresses
      .map((address) => claims.get(formatAddress(address)))
      .filter((entry) => entry !== undefined && entry[1].pod === pod);
    if (own.length === 0) continue;
    localPods.push({
      pod,
      identity: identities.get(pod) as Identity,
      addresses: own.map((entry) => (entry as readonly [Uint8Array, Claim])[0]),
      isDisputed: own.some((entry) => entry?.[1].isDisputed),
    });
  }
  return localPods;
}

/**
 * Backends of default/kubernetes carry the entity kube-apiserver beside what they are. One outside of the nodes belongs to the
 * world and is the cluster's all the same: no answer of a name's owner may open it.
 */
function addApiServer(table: OwnerTable, cluster: ClusterState): void {
  for (const slice of cluster.endpointSlices.values()) {
    if (slice.namespace !== 'default' || slice.serviceName !== 'kubernetes') continue;
    for (const { address } of slice.endpoints) {
      const extra = {
        entities: new Set<PeerEntity>(['kube-apiserver']),
        identities: [reservedIdentity(['kube-apiserver'])],
      };
      const outside = worldOwner(isIpv4(address), ClassFlag.cluster);
      table.extend(hostPrefix(address), extra, outside);
    }
  }
}

/**
 * A node-local DNS cache answers for the cluster's DNS pods and its address is the host's: a rule for
 * either is a rule for it. Packets to it are not translated (NOTRACK), so this is what `judge` sees.
 */
function addNodeLocalDns(table: OwnerTable, cluster: ClusterState, node: NodeContext): void {
  const identities: Identity[] = [];
  for (const slice of cluster.endpointSlices.values()) {
    if (!isClusterDns(slice.namespace, slice.serviceName)) continue;
    for (const { address } of slice.endpoints) {
      const owner = table.get(hostPrefix(address));
      if (owner !== undefined && !owner.isExternal) identities.push(...owner.identities);
    }
  }
  const host = nodeOwner('host');
  for (const address of [...node.nodeLocalDns, ...localClusterDns(cluster, node)]) {
    const extra = { entities: host.entities, identities: [...host.identities, ...identities] };
    table.extend(hostPrefix(address), extra, { ...host, identities: [] });
  }
}

/** A cache may listen on the cluster DNS' own ClusterIPs: then they are addresses of the host. */
function localClusterDns(cluster: ClusterState, node: NodeContext): readonly Uint8Array[] {
  const known = new Set(node.nodeLocalDns.map((address) => formatAddress(address)));
  const local = new Set(node.localAddresses.map((address) => formatAddress(address)));
  return [...cluster.services.values()]
    .filter(({ namespace, name }) => isClusterDns(namespace, name))
    .flatMap(({ clusterIps }) => clusterIps)
    .filter((address) => local.has(formatAddress(address)) && !known.has(formatAddress(address)));
}

/** The Service whose pods are the cluster's DNS unless configuration says otherwise. */
export function isClusterDns(namespace: string, serviceName: string): boolean {
  return namespace === 'kube-system' && serviceName === 'kube-dns';
}
