// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Services as DNS servers. A pod asks a ClusterIP on port 53; policy names the pods behind it and their
 * port. `from_pod` sees the former, before translation, so every frontend is kept with its backends.
 */

import type { EndpointSlice, Service } from '../../k8s/objects.ts';
import { formatAddress, isIpv4 } from '../../net/ip.ts';
import { isClusterDns } from '../classes/address-owners.ts';
import type { AddressClass } from '../classes/class-hosts.ts';
import type { NodeContext } from '../model/cluster-state.ts';
import { Protocol } from '../model/kernel-numbers.ts';
import { type Identity, impliedIdentity } from '../model/labels.ts';
import type { Redirect } from '../model/redirect.ts';
import type { DnsView } from './dns-view.ts';
import type { Who } from './statement-index.ts';

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
  /** Whether the Service is one of the cluster's resolvers. */
  readonly isTrusted: boolean;
  /** Distinct; empty if the service has none. Null: it is no Service, but an address that a policy redirects. */
  readonly backends: readonly Backend[] | null;
  /**
   * Backend that a pod selected by the Service would be, while it has none; for one of the cluster's resolvers, while none of
   * its backends is usable and of a known pod. Absent otherwise, or if the Service selects no pods.
   */
  readonly expected?: ExpectedBackend;
  /** A CiliumLocalRedirectPolicy leads it to pods of this node, while some of them are ready. */
  readonly local?: LocalBackends;
}

/** Pods that are not there yet. */
export interface ExpectedBackend {
  /** Identity that such a pod has at least. */
  readonly identity: Identity;
  readonly port: number;
}

export interface LocalBackends {
  /** Backends among the pods of this node that the policy selects, ready or not; empty if there are none. */
  readonly backends: readonly Backend[];
  /** Identity that such a pod has at least, while there is none. */
  readonly identity: Identity;
  readonly port: number;
  /** Some of them are ready. */
  readonly isActive: boolean;
}

export interface FrontendInput {
  /** Texts of the cluster's resolvers. */
  readonly trusted: ReadonlySet<string>;
  readonly redirects: readonly Redirect[];
}

/** The frontends of `services`, and those of redirects alone. `slices`: by `namespace/name` of the Service. */
export function findFrontends(
  services: Iterable<Service>,
  slices: SlicesByService,
  node: NodeContext,
  classes: DnsView,
  { trusted, redirects }: FrontendInput,
): readonly Frontend[] {
  const byFrontend = new Map(redirects.map((redirect) => [frontendKey(redirect), redirect]));
  const ofServices = [...services].flatMap((service) => {
    const own = slices.get(`${service.namespace}/${service.name}`) ?? [];
    return frontendsOf(service, own, node, classes, trusted).map((frontend) => {
      const redirect = byFrontend.get(frontendKey(frontend));
      return redirect === undefined
        ? frontend
        : { ...frontend, local: localBackends(redirect, classes) };
    });
  });
  const known = new Set(ofServices.map(frontendKey));
  const others = redirects.filter((redirect) => !known.has(frontendKey(redirect)));
  return [
    ...ofServices,
    ...others.map((redirect) => ({
      ...{ subject: redirect.subject, address: redirect.address, port: redirect.port },
      ...{ protocol: redirect.protocol, isTrusted: false, backends: null },
      local: localBackends(redirect, classes),
    })),
  ];
}

function frontendKey({
  address,
  port,
  protocol,
}: Pick<Frontend, 'address' | 'port' | 'protocol'>): string {
  return `${formatAddress(address)} ${protocol} ${port}`;
}

function localBackends(redirect: Redirect, classes: DnsView): LocalBackends {
  const { namespace, labels, backendPort } = redirect;
  return {
    backends: distinctBackends(
      redirect.selected.map(({ address, port }) => ({ port, place: classes.at(address) })),
      classes,
    ),
    identity: impliedIdentity(namespace, labels),
    port: backendPort,
    isActive: redirect.backends.length > 0,
  };
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
  const isDns = isClusterDns(service);
  const isTrusted = service.clusterIps.some((address) => trusted.has(formatAddress(address)));
  // A node-local cache stands for the same pods under its own address.
  const addresses = isDns ? [...service.clusterIps, ...node.nodeLocalDns] : service.clusterIps;
  const frontends: Frontend[] = [];
  for (const { name, port, protocol, targetPort } of service.ports) {
    const number = protocolNumber(protocol);
    if (number === null) continue;
    const addressesAndPorts = slices.flatMap((slice) => backendAddresses(slice, name, protocol));
    for (const address of addresses) {
      const own = addressesAndPorts.filter(
        (backend) => isIpv4(backend.address) === isIpv4(address),
      );
      const isAway = isTrusted ? !own.some((each) => isInUse(each, classes)) : own.length === 0;
      // A port that has a name alone has its number in the slices, while there are backends.
      const numberOfName = isTrusted ? (own[0]?.port ?? port) : 0;
      frontends.push({
        subject: `Service/${service.namespace}/${service.name}`,
        address,
        port,
        protocol: number,
        isTrusted,
        backends: classify(own, classes, isTrusted),
        ...(isAway ? expectedOf(service, targetPort === 0 ? numberOfName : targetPort) : {}),
      });
    }
  }
  return frontends;
}

/** `port`: of the pods; 0: not known. */
function expectedOf({ namespace, selector }: Service, port: number): Pick<Frontend, 'expected'> {
  if (selector.size === 0 || port === 0) return {};
  return { expected: { identity: impliedIdentity(namespace, selector), port } };
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
  const known = found.filter(({ place }) => isOwned(place));
  return distinctBackends(isTrusted && known.length > 0 ? known : found, classes);
}

/** Whether it takes queries, and the API says whose address it is. */
function isInUse({ address, isUsable }: BackendAddress, classes: DnsView): boolean {
  return isUsable && isOwned(classes.at(address));
}

function isOwned({ owner }: AddressClass): boolean {
  return owner.isExternal || owner.identities.length > 0;
}

function distinctBackends(
  found: readonly { readonly port: number; readonly place: AddressClass }[],
  classes: DnsView,
): readonly Backend[] {
  const distinct = new Map<string, Backend>();
  for (const { place, port } of found) {
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
