// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Services as DNS servers. A pod asks a ClusterIP on port 53; policy names the pods behind it and their
 * port. `from_pod` sees the former, before translation, so every frontend is kept with its backends.
 */
import type { EndpointSlice, Service } from '../k8s/objects.ts';
import { formatAddress, isIpv4 } from '../net/ip.ts';
import { isClusterDns } from './address-owners.ts';
import type { NodeContext } from './cluster-state.ts';
import type { Who } from './dns-judge.ts';
import type { DnsView } from './dns-view.ts';
import { Protocol } from './kernel-numbers.ts';

export interface Backend {
  readonly who: Exclude<Who, 'other'>;
  readonly port: number;
}

/** One address and port of a Service. */
export interface Frontend {
  /** `Service/namespace/name`. */
  readonly subject: string;
  readonly address: Uint8Array;
  readonly port: number;
  readonly protocol: 6 | 17;
  /** Of a Service of the cluster's resolvers. */
  readonly isTrusted: boolean;
  /** Distinct; empty if the service has none. */
  readonly backends: readonly Backend[];
}

/** The frontends of `services`. `slices`: by `namespace/name` of the Service; `trusted`: texts of the cluster's resolvers. */
export function findFrontends(
  services: Iterable<Service>,
  slices: SlicesByService,
  node: NodeContext,
  classes: DnsView,
  trusted: ReadonlySet<string>,
): readonly Frontend[] {
  return [...services].flatMap((service) => {
    const own = slices.get(`${service.namespace}/${service.name}`) ?? [];
    return frontendsOf(service, own, node, classes, trusted);
  });
}

export type SlicesByService = ReadonlyMap<string, readonly EndpointSlice[]>;

/** The EndpointSlices of each Service, by namespace/name. */
export function slicesByService(all: Iterable<EndpointSlice>): SlicesByService {
  const slices = new Map<string, EndpointSlice[]>();
  for (const slice of all) {
    const key = `${slice.namespace}/${slice.serviceName}`;
    const list = slices.get(key);
    if (list === undefined) slices.set(key, [slice]);
    else list.push(slice);
  }
  return slices;
}

function frontendsOf(
  service: Service,
  slices: readonly EndpointSlice[],
  node: NodeContext,
  classes: DnsView,
  trusted: ReadonlySet<string>,
): readonly Frontend[] {
  const isDns = isClusterDns(service.namespace, service.name);
  const isTrusted = service.clusterIps.some((address) => trusted.has(formatAddress(address)));
  // A node-local cache stands for the same pods under its own address.
  const addresses = isDns ? [...service.clusterIps, ...node.nodeLocalDns] : service.clusterIps;
  const frontends: Frontend[] = [];
  for (const { name, port, protocol } of service.ports) {
    const number = protocolNumber(protocol);
    if (number === null) continue;
    const addressesAndPorts = slices.flatMap((slice) => backendAddresses(slice, name, protocol));
    for (const address of addresses) {
      const own = addressesAndPorts.filter(
        (backend) => isIpv4(backend.address) === isIpv4(address),
      );
      frontends.push({
        subject: `Service/${service.namespace}/${service.name}`,
        address,
        port,
        protocol: number,
        isTrusted,
        backends: classify(own, classes, isTrusted),
      });
    }
  }
  return frontends;
}

export interface BackendAddress {
  readonly address: Uint8Array;
  readonly port: number;
  readonly isReady: boolean;
  readonly isUsable: boolean;
}

/** The backends of one port of a Service in one of its slices. */
export function backendAddresses(
  slice: EndpointSlice,
  name: string,
  protocol: string,
): readonly BackendAddress[] {
  const ports = slice.ports.filter((port) => port.name === name && port.protocol === protocol);
  return slice.endpoints.flatMap(({ address, isReady, isUsable }) =>
    ports.map(({ port }) => ({ address, port, isReady, isUsable })),
  );
}

/**
 * The classes behind a frontend. When nothing is ready, what is not counts: a rollout must not look like
 * another service. Backends of the trusted resolvers whose pod is not known yet (slice and pod arrive by
 * different watches) are passed over if others are known, or every rollout of the cluster's DNS would
 * take its name rules away for a moment; a tenant's service gets no such credit.
 */
function classify(
  addresses: readonly BackendAddress[],
  classes: DnsView,
  isTrusted: boolean,
): readonly Backend[] {
  const usable = addresses.filter(({ isUsable }) => isUsable);
  const found = (usable.length > 0 ? usable : addresses).map(({ address, port }) => ({
    port,
    place: classes.at(address),
  }));
  const known = found.filter(
    ({ place: { owner } }) => owner.isExternal || owner.identities.length > 0,
  );
  const counted = isTrusted && known.length > 0 ? known : found;
  const distinct = new Map<string, Backend>();
  for (const { place, port } of counted) {
    const selectors = classes.selectorsOf(place.classId);
    const who = { id: place.classId, selectors: new Set(selectors) };
    distinct.set(`${place.classId} ${port}`, { who, port });
  }
  return [...distinct.values()];
}

/** Null: of another protocol than DNS has. */
export function protocolNumber(protocol: string): 6 | 17 | null {
  if (protocol === 'TCP') return Protocol.tcp;
  return protocol === 'UDP' ? Protocol.udp : null;
}
