// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Addresses that are something beside what they are anyway: those behind the API server carry the entity kube-apiserver; a
 * node-local DNS cache is the host, and the cluster's DNS, whose queries it answers.
 */

import { objectKey, type Service } from '../../k8s/objects.ts';
import { addressKey, isIpv4 } from '../../net/ip.ts';
import type { ClusterState, NodeContext } from '../model/cluster-state.ts';
import { type Identity, identityKey, reservedIdentity } from '../model/labels.ts';
import type { PeerEntity } from '../model/peer.ts';
import { clusterDnsServices, nodeOwners, type Ownership, outsideOwners } from './address-owners.ts';

export class SpecialOwners {
  #extensions: ReadonlyMap<string, readonly [Uint8Array, Ownership]> = new Map();
  readonly #extended = new Map<string, Ownership>();

  /** Owner of the address with this key; undefined: it is none of these. */
  get(key: string): Ownership | undefined {
    return this.#extensions.get(key)?.[1];
  }

  /** Addresses, by key, whose owners are others than before. `plainOwnerOf`: the owner without these. */
  update(
    cluster: ClusterState,
    node: NodeContext,
    plainOwnerOf: (key: string) => Ownership | null,
  ): ReadonlyMap<string, Uint8Array> {
    const extensions = new Map<string, readonly [Uint8Array, Ownership]>();
    const extend = (
      address: Uint8Array,
      extra: Pick<Ownership, 'entities' | 'identities'>,
      fallback: Ownership,
    ): void => {
      const key = addressKey(address);
      const owner = extensions.get(key)?.[1] ?? plainOwnerOf(key) ?? fallback;
      extensions.set(key, [address, this.#interned(owner, extra)]);
    };
    const dnsServices = clusterDnsServices(cluster);
    const { apiServer, dns } = specialSlices(cluster, dnsServices);
    for (const address of apiServer) {
      extend(address, apiServerExtra, isIpv4(address) ? outsideOwners.ipv4 : outsideOwners.ipv6);
    }
    const identities: Identity[] = [];
    for (const address of dns) {
      const key = addressKey(address);
      const owner = extensions.get(key)?.[1] ?? plainOwnerOf(key);
      if (owner !== null && !owner.isExternal) identities.push(...owner.identities);
    }
    const host = nodeOwners.host;
    const extra = { entities: host.entities, identities: [...host.identities, ...identities] };
    for (const address of [...node.nodeLocalDns, ...localClusterDns(dnsServices, node)]) {
      extend(address, extra, localDnsFallback);
    }
    const changed = new Map<string, Uint8Array>();
    const former = this.#extensions;
    this.#extensions = extensions;
    for (const [key, [address, owner]] of extensions) {
      if (former.get(key)?.[1] !== owner) changed.set(key, address);
    }
    for (const [key, [address]] of former) {
      if (!extensions.has(key)) changed.set(key, address);
    }
    return changed;
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

/** Owners of the API server's and the DNS caches' addresses that are remembered; with more they are made again. */
const extendedMax = 1024;
const localDnsFallback: Ownership = { ...nodeOwners.host, identities: [] };

/**
 * Backends of default/kubernetes carry the entity kube-apiserver beside what they are; those outside of the nodes are the world's.
 * All of them are of entity cluster (Cilium pkg/policy/api/entity.go, clusterSelectors).
 */
const apiServerExtra: Pick<Ownership, 'entities' | 'identities'> = {
  entities: new Set<PeerEntity>(['kube-apiserver', 'cluster']),
  identities: [reservedIdentity(['kube-apiserver'])],
};

/**
 * Addresses behind the API server and the cluster's DNS. A node-local DNS cache answers for the latter, and its address is
 * the host's: a rule for either is a rule for it. Packets to it are not translated (NOTRACK), so this is what `judge` sees.
 */
function specialSlices(
  { endpointSlices }: ClusterState,
  dnsServices: readonly Service[],
): {
  readonly apiServer: readonly Uint8Array[];
  readonly dns: readonly Uint8Array[];
} {
  const apiServer: Uint8Array[] = [];
  const dns = new Map<string, Uint8Array>();
  // A slice may be known before its Service.
  const dnsNames = new Set(['kube-system/kube-dns', ...dnsServices.map(objectKey)]);
  for (const { namespace, serviceName, endpoints } of endpointSlices.values()) {
    const name = `${namespace}/${serviceName}`;
    if (name === 'default/kubernetes') apiServer.push(...endpoints.map(({ address }) => address));
    else if (dnsNames.has(name))
      for (const { address } of endpoints) dns.set(addressKey(address), address);
  }
  return { apiServer, dns: [...dns.values()] };
}

/** A cache may listen on the cluster DNS' own ClusterIPs: then they are addresses of the host. */
function localClusterDns(
  dnsServices: readonly Service[],
  node: NodeContext,
): readonly Uint8Array[] {
  const known = new Set(node.nodeLocalDns.map(addressKey));
  const local = new Set(node.localAddresses.map(addressKey));
  const found: Uint8Array[] = [];
  for (const { clusterIps } of dnsServices) {
    found.push(
      ...clusterIps.filter((each) => local.has(addressKey(each)) && !known.has(addressKey(each))),
    );
  }
  return found;
}
