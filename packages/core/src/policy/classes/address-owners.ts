// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Owners of addresses: pods, nodes, services, the API server, whole pod and service CIDRs, and the world as the rest. The
 * innermost owner of an address decides its kind: a node's address is a node even inside a pod CIDR. CIDR rules and `world`
 * are for external owners only, so an address of a pod CIDR that no pod is known to have matches no CIDR rule and counts as
 * `cluster` alone.
 *
 * Here is what follows from nodes, services and the node's facts, which are few; pods are in `owner-table.ts`.
 */

import { assert } from '../../assert.ts';
import type { Pod, Service } from '../../k8s/objects.ts';
import {
  addressKey,
  hostPrefix,
  isIpv4Prefix,
  type Prefix,
  parseAddress,
  parsePrefix,
  prefixKey,
} from '../../net/ip.ts';
import type { ClusterState, NodeContext } from '../model/cluster-state.ts';
import { ClassFlag } from '../model/kernel-numbers.ts';
import { type Identity, reservedIdentity } from '../model/labels.ts';
import type { PeerEntity } from '../model/peer.ts';

/** An owner, as selectors see it. Owners that selectors cannot distinguish share one object. */
export interface Ownership {
  /** `ClassFlag` bits of its own; those of enclosing prefixes are added later. */
  readonly flags: number;
  /** CIDR selectors apply. */
  readonly isExternal: boolean;
  readonly entities: ReadonlySet<PeerEntity>;
  /** Label selectors match the owner if they match one of these. */
  readonly identities: readonly Identity[];
  /** It is no pod of this node, though its address may lie in the node's pod CIDR. */
  readonly isElsewhere?: boolean;
  /** Named by no object and no interface: no DNS server is looked for there. */
  readonly isImplied?: boolean;
}

export interface AddressOwner {
  readonly prefix: Prefix;
  readonly owner: Ownership;
}

/** A pod of this node that has addresses of its own. */
export interface LocalPod {
  readonly pod: Pod;
  readonly identity: Identity;
  /** Addresses to which no other pod or node has a better claim. */
  readonly addresses: readonly Uint8Array[];
  /** Another pod claims one of them with equal right: the pod is held, because it is not known which policy counts. */
  readonly isDisputed: boolean;
}

/** By `prefixKey`. */
export type Owners = ReadonlyMap<string, AddressOwner>;

export interface BaseOwners {
  readonly owners: Owners;
  /** Owners of addresses that have no other owner. */
  readonly fallbacks: Owners;
  /** Keys of the nodes' addresses, which no pod can claim. */
  readonly nodeKeys: ReadonlySet<string>;
}

/**
 * Link-local, loopback and cloud metadata: addresses that no DNS answer may open (threat T6). A metadata service gives the node's
 * credentials to whom it answers. Those outside of the link-local ranges are named one by one.
 */
const specialRanges: readonly Prefix[] = [
  '169.254.0.0/16',
  '127.0.0.0/8',
  'fe80::/10',
  '::1/128',
  '100.100.100.200/32', // Alibaba
  'fd00:100::100:200/128',
  '168.63.129.16/32', // Azure
  '192.0.0.192/32', // Oracle
  'fd00:c1::a9fe:a9fe/128',
  'fd00:ec2::/32', // AWS: metadata, pod identity, DNS, NTP
  'fd20:ce::254/128', // Google
  'fd00:a9fe:a9fe::1/128', // Akamai
  'fd00:42::42/128', // Scaleway
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

/** Where a packet is delivered to the host whatever its destination, its class is this address' (ADR 12). */
const hostItself = parseAddress('::1');
assert(hostItself !== null, '::1 is an address');

const serviceOwner: Ownership = {
  flags: ClassFlag.cluster | ClassFlag.service,
  isExternal: false,
  entities: new Set(),
  identities: [],
};

const anyPod: Ownership = {
  flags: ClassFlag.cluster,
  isExternal: false,
  entities: new Set(['cluster']),
  identities: [],
};
const anyLocalPod: Ownership = { ...anyPod, flags: ClassFlag.cluster | ClassFlag.localPods };

const worldOwner = (entity: 'world-ipv4' | 'world-ipv6', flags: number): Ownership => ({
  flags,
  isExternal: true,
  entities: new Set(['world', entity]),
  identities: [reservedIdentity(['world', entity])],
});
const worldOwners = {
  ipv4: worldOwner('world-ipv4', 0),
  ipv6: worldOwner('world-ipv6', 0),
} as const;
/** Owner of addresses of the world that still belong to the cluster: no answer of a name's owner may open them. */
export const outsideOwners: Readonly<Record<'ipv4' | 'ipv6', Ownership>> = {
  ipv4: worldOwner('world-ipv4', ClassFlag.cluster),
  ipv6: worldOwner('world-ipv6', ClassFlag.cluster),
};
const specialOwners = {
  ipv4: worldOwner('world-ipv4', ClassFlag.linkLocal),
  ipv6: worldOwner('world-ipv6', ClassFlag.linkLocal),
} as const;

type NodeEntity = 'host' | 'remote-node';
const nodeOwner = (entity: NodeEntity): Ownership => ({
  flags: ClassFlag.cluster | ClassFlag.node,
  isExternal: false,
  entities: new Set([entity, 'cluster']),
  identities: [reservedIdentity([entity])],
  isElsewhere: true,
});
export const nodeOwners: Readonly<Record<NodeEntity, Ownership>> = {
  host: nodeOwner('host'),
  'remote-node': nodeOwner('remote-node'),
};
/**
 * Owner of addresses of this node's interfaces: any other sender with such a source is forged. Other addresses of its Node
 * object may have other senders.
 */
const localOwner: Ownership = {
  ...nodeOwners.host,
  flags: nodeOwners.host.flags | ClassFlag.host,
};
/**
 * Owner of link-local addresses that no pod may claim. Their links are many and their addresses the same, so as a source they
 * are the world's: without `cluster`, `node` says nothing of whom a packet is from or for (is_node() of bpf).
 */
const linkLocalOwner: Ownership = {
  ...specialOwners.ipv6,
  flags: ClassFlag.linkLocal | ClassFlag.node,
  isImplied: true,
};
const impliedOwners: Readonly<Record<NodeEntity, Ownership>> = {
  host: { ...nodeOwners.host, isImplied: true },
  'remote-node': { ...nodeOwners['remote-node'], isImplied: true },
};
const hostItselfOwner: Ownership = {
  ...impliedOwners.host,
  flags: ClassFlag.cluster | ClassFlag.node | ClassFlag.linkLocal,
};

/** Owners of ranges, of the addresses of services and of nodes. Later ones take the place of earlier ones. */
export function findBaseOwners(cluster: ClusterState, node: NodeContext): BaseOwners {
  const owners = new Map<string, AddressOwner>();
  const set = (prefix: Prefix, owner: Ownership): void => {
    owners.set(prefixKey(prefix), { prefix, owner });
  };
  addRanges(set, cluster, node);
  for (const { clusterIps } of cluster.services.values()) {
    for (const address of clusterIps) set(hostPrefix(address), serviceOwner);
  }
  const nodeKeys = addNodes(set, cluster, node);
  return { owners, fallbacks: tunnelEnds(cluster, node), nodeKeys };
}

type SetOwner = (prefix: Prefix, owner: Ownership) => void;

function addRanges(set: SetOwner, cluster: ClusterState, node: NodeContext): void {
  set(ipv6World, worldOwners.ipv6);
  set(ipv4World, worldOwners.ipv4);
  for (const range of specialRanges) {
    set(range, isIpv4Prefix(range) ? specialOwners.ipv4 : specialOwners.ipv6);
  }
  for (const prefix of node.serviceCidrs) set(prefix, serviceOwner);
  for (const prefix of node.clusterCidrs) set(prefix, anyPod);
  for (const { podCidrs } of cluster.nodes.values()) {
    for (const prefix of podCidrs) set(prefix, anyPod);
  }
  for (const prefix of localPodCidrs(cluster, node)) set(prefix, anyLocalPod);
}

function localPodCidrs(cluster: ClusterState, node: NodeContext): readonly Prefix[] {
  return node.localPodCidrs ?? cluster.nodes.get(`/${node.nodeName}`)?.podCidrs ?? [];
}

/** Adds the nodes and returns the keys of their addresses. */
function addNodes(set: SetOwner, cluster: ClusterState, node: NodeContext): ReadonlySet<string> {
  const keys = new Set<string>();
  const add = (address: Uint8Array, owner: Ownership): void => {
    keys.add(addressKey(address));
    set(hostPrefix(address), owner);
  };
  for (const { name, addresses } of cluster.nodes.values()) {
    if (name === node.nodeName) continue;
    for (const address of addresses) add(address, nodeOwners['remote-node']);
  }
  const own = cluster.nodes.get(`/${node.nodeName}`)?.addresses ?? [];
  for (const address of own) add(address, nodeOwners.host);
  // A node-local cache there has the host's class, and its listener's.
  const caches = new Set(node.nodeLocalDns.map(addressKey));
  for (const address of node.linkLocalAddresses ?? []) {
    if (!caches.has(addressKey(address))) add(address, linkLocalOwner);
  }
  for (const address of node.localAddresses) add(address, localOwner);
  const itself = hostItself as Uint8Array;
  if (!keys.has(addressKey(itself))) set(hostPrefix(itself), hostItselfOwner);
  return keys;
}

/**
 * A tunnel of flannel's has the first address of its node's pod CIDR, the node's bridge the second: by the tunnel its
 * host reaches pods of other nodes, by the bridge what came to one of its NodePorts. Not where a pod has it: Calico's IPAM gives it
 * away. This node's bridge is an interface, so its address needs no guess.
 */
function tunnelEnds(cluster: ClusterState, node: NodeContext): Owners {
  const ends = new Map<string, AddressOwner>();
  const add = (address: Uint8Array, entity: NodeEntity): void => {
    const prefix = hostPrefix(address);
    const key = prefixKey(prefix);
    if (!ends.has(key)) ends.set(key, { prefix, owner: impliedOwners[entity] });
  };
  for (const { name, podCidrs } of cluster.nodes.values()) {
    const isOwn = name === node.nodeName;
    for (const { address, bits } of podCidrs) {
      add(address, isOwn ? 'host' : 'remote-node');
      if (!isOwn && bits < 128) add(secondOf(address), 'remote-node');
    }
  }
  return ends;
}

/** Second address of a prefix with this first address, whose last bit is 0. */
function secondOf(address: Uint8Array): Uint8Array {
  const second = Uint8Array.from(address);
  second[15] = (second[15] ?? 0) | 1;
  return second;
}

/**
 * Whether the Service's pods are the cluster's DNS unless configuration says otherwise: kube-system/kube-dns, or a Service of
 * kube-system with port 53 that selects the same pods under another name (RKE2: rke2-coredns-rke2-coredns, Kubespray: coredns).
 */
export function isClusterDns({ namespace, name, selector, ports }: Service): boolean {
  if (namespace !== 'kube-system') return false;
  if (name === 'kube-dns') return true;
  return selector.get('k8s-app') === 'kube-dns' && ports.some(({ port }) => port === 53);
}

/** The Services of the cluster's DNS. */
export function clusterDnsServices({
  services,
}: Pick<ClusterState, 'services'>): readonly Service[] {
  return services.values().filter(isClusterDns).toArray();
}
