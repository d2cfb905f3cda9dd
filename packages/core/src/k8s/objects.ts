// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The Kubernetes objects that we read, reduced to the fields that we use, with addresses parsed. Objects
 * of the API server and of hand-written files go the same way, so nothing is taken on trust. The body
 * of a policy stays unread here: its meaning is policy's (`policy/parse/parse-cilium.ts`).
 */

import type { Prefix } from '../net/ip.ts';
import type { Fields, Issue } from './shape.ts';

export interface ObjectMeta {
  /** '' for objects of the cluster. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: ReadonlyMap<string, string>;
}

export interface Namespace extends ObjectMeta {
  readonly kind: 'Namespace';
}

export interface Node extends ObjectMeta {
  readonly kind: 'Node';
  /** spec.podCIDRs, or spec.podCIDR. */
  readonly podCidrs: readonly Prefix[];
  /** status.addresses of every type that is an address, and those of its tunnels (`tunnelAnnotations`). */
  readonly addresses: readonly Uint8Array[];
}

export interface Pod extends ObjectMeta {
  readonly kind: 'Pod';
  /** '' until scheduled. */
  readonly nodeName: string;
  readonly hostNetwork: boolean;
  readonly serviceAccount: string;
  /** status.podIPs, or status.podIP; empty until the sandbox runs. */
  readonly addresses: readonly Uint8Array[];
  /** Succeeded or Failed: its addresses may belong to another pod by now. */
  readonly isFinished: boolean;
  readonly isDeleting: boolean;
  /** Condition Ready is True. Of pods of this node alone. */
  readonly isReady?: true;
  /** Seconds since 1970; 0 if absent. A number, because each agent keeps all pods of the cluster. */
  readonly createdSeconds: number;
  /** Numbers of the named ports of its containers, by protocol and name, `TCP/http`. */
  readonly namedPorts?: ReadonlyMap<string, number>;
  /** Annotation tandem.dev/interface. */
  readonly interfaceName?: string;
  /** CNI sandbox from which the addresses are. Absent: they are from the status, which is less reliable. */
  readonly sandboxId?: string;
  /** Not all of it could be read, so which policies select it is not known. */
  readonly isPartial?: true;
}

export interface ServicePort {
  /** '' for the only port of a Service. */
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
}

export interface Service extends ObjectMeta {
  readonly kind: 'Service';
  /** Empty for headless and ExternalName services. */
  readonly clusterIps: readonly Uint8Array[];
  readonly ports: readonly TargetedPort[];
  /** Labels of the pods behind it; empty: they are not known, or another controller writes its EndpointSlices. */
  readonly selector: ReadonlyMap<string, string>;
}

/** A port of a Service. */
export interface TargetedPort extends ServicePort {
  /** The port of the pods; 0: it has a name, which each pod gives a number. */
  readonly targetPort: number;
}

export interface SliceEndpoint {
  /** The first one: kube-proxy sends to no other (pkg/proxy/endpointslicecache.go). */
  readonly address: Uint8Array;
  readonly isReady: boolean;
  /** kube-proxy may send new connections to it: ready, or serving while it terminates. */
  readonly isUsable: boolean;
}

export interface EndpointSlice extends ObjectMeta {
  readonly kind: 'EndpointSlice';
  /** Label kubernetes.io/service-name; '' if it belongs to none. */
  readonly serviceName: string;
  readonly endpoints: readonly SliceEndpoint[];
  readonly ports: readonly ServicePort[];
}

/** One port of a CiliumLocalRedirectPolicy. */
export interface RedirectPort {
  /** Lower case; '' if it has none. */
  readonly name: string;
  readonly port: number;
  readonly protocol: 'TCP' | 'UDP';
}

export interface LabelCondition {
  readonly key: string;
  readonly operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist';
  readonly values: readonly string[];
}

/** Traffic that a CiliumLocalRedirectPolicy takes: to an address, or to a Service of its own namespace. */
export type RedirectFrontend =
  | {
      readonly kind: 'address';
      readonly address: Uint8Array;
      readonly ports: readonly RedirectPort[];
    }
  | {
      readonly kind: 'service';
      readonly name: string;
      /** Empty: every port of the Service. */
      readonly ports: readonly RedirectPort[];
    };

export interface LocalRedirectPolicy extends ObjectMeta {
  readonly kind: 'CiliumLocalRedirectPolicy';
  /** RFC 3339, sorts as text; '' if absent. */
  readonly createdAt: string;
  readonly frontend: RedirectFrontend;
  /** Labels of the backends: pods of the policy's namespace on this node. */
  readonly selector: readonly LabelCondition[];
  /** At least one. */
  readonly backendPorts: readonly RedirectPort[];
}

export type PolicyKind =
  | 'CiliumNetworkPolicy'
  | 'CiliumClusterwideNetworkPolicy'
  | 'NetworkPolicy'
  | 'ClusterNetworkPolicy';

/** Kinds whose objects have no namespace. */
export function isClusterwide(kind: PolicyKind): boolean {
  return kind === 'CiliumClusterwideNetworkPolicy' || kind === 'ClusterNetworkPolicy';
}

/** A policy whose body is not read yet. Of its metadata only namespace and name count. */
export interface PolicyObject {
  readonly kind: PolicyKind;
  /** '' for clusterwide policies, and where it cannot be read. */
  readonly namespace: string;
  /** '' where it cannot be read. */
  readonly name: string;
  /** False: the namespace cannot be read, so the object may mean pods of any. */
  readonly isPlaced: boolean;
  readonly spec: unknown;
  readonly specs: unknown;
  /** Fields beside spec that do not belong there: their intention is unknown. */
  readonly strays: Fields;
  /** Faults outside of spec and specs; each makes the object invalid. */
  readonly faults: readonly Issue[];
  /** Why its text is no YAML: then all this is what could be recovered of it. Null when it is. */
  readonly damage: string | null;
}

/** An object of a kind that we do not act upon. */
export interface UnsupportedObject extends ObjectMeta {
  readonly kind: 'unsupported';
  readonly apiVersion: string;
  readonly originalKind: string;
  /** True for kinds of policy: the author expects enforcement. */
  readonly isPolicy: boolean;
}

export type K8sObject =
  | Namespace
  | Node
  | Pod
  | Service
  | EndpointSlice
  | LocalRedirectPolicy
  | PolicyObject
  | UnsupportedObject;

/** Key of the maps of objects of one kind: namespace/name. */
export function objectKey(meta: { readonly namespace: string; readonly name: string }): string {
  return `${meta.namespace}/${meta.name}`;
}

/**
 * Annotations of a Node by which CNIs publish the addresses of its tunnels: the host speaks with them to pods of
 * other nodes. Calico: libcalico-go, lib/backend/k8s/resources/node.go; Cilium: pkg/annotation/k8s.go.
 */
export const tunnelAnnotations = [
  'projectcalico.org/IPv4IPIPTunnelAddr',
  'projectcalico.org/IPv4VXLANTunnelAddr',
  'projectcalico.org/IPv6VXLANTunnelAddr',
  'projectcalico.org/IPv4WireguardInterfaceAddr',
  'projectcalico.org/IPv6WireguardInterfaceAddr',
  'network.cilium.io/ipv4-cilium-host',
  'network.cilium.io/ipv6-cilium-host',
] as const;

/** The annotation that names the host side of a pod's veth. */
export const interfaceAnnotation = 'tandem.dev/interface';

/** Whether an object is a policy of a kind that we enforce. */
export function isPolicyObject(object: K8sObject): object is PolicyObject {
  switch (object.kind) {
    case 'CiliumNetworkPolicy':
    case 'CiliumClusterwideNetworkPolicy':
    case 'NetworkPolicy':
    case 'ClusterNetworkPolicy':
      return true;
    default:
      return false;
  }
}
