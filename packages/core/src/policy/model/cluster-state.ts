// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Input of the compilation: the cluster's objects as they are now, and the facts of this node that no object has. Maps are
 * keyed by `objectKey`; compilation does not depend on their order.
 */

import type { Revision } from '../../ids.ts';
import type {
  EndpointSlice,
  LocalRedirectPolicy,
  Namespace,
  Node,
  Pod,
  Service,
} from '../../k8s/objects.ts';
import type { Prefix } from '../../net/ip.ts';
import type { Compiled, Diagnostic, MemberPolicy } from './desired.ts';
import type { InvalidPolicy, Policy } from './rule.ts';

export interface ClusterState {
  readonly namespaces: ReadonlyMap<string, Namespace>;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly pods: ReadonlyMap<string, Pod>;
  readonly services: ReadonlyMap<string, Service>;
  readonly endpointSlices: ReadonlyMap<string, EndpointSlice>;
  /** CiliumLocalRedirectPolicies; absent: none. */
  readonly redirectPolicies?: ReadonlyMap<string, LocalRedirectPolicy>;
  /** By `formatPolicyRef`. */
  readonly policies: ReadonlyMap<string, PolicyState>;
  /** About objects that could not be read or are not acted upon; they join the compilation's own. */
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * A policy object with its fate. `inForce` is the current version when that is valid, else the last
 * good one; null when there never was one: then `invalid.hold` is in force.
 */
export interface PolicyState {
  readonly inForce: Policy | null;
  /** Set when the current version is invalid. */
  readonly invalid: InvalidPolicy | null;
  /** Where it is written, `web.yaml:12`; absent where the source has no such places. */
  readonly place?: string;
}

/** Facts of the node and configuration of the agent. */
export interface NodeContext {
  readonly nodeName: string;
  /** Addresses of the host's own interfaces, pod gateways included: entity host. */
  readonly localAddresses: readonly Uint8Array[];
  /**
   * IPv6 link-local addresses of the host and of its routers at bridges: no pod may claim them, and no policy is for them. One
   * of another link may be a stranger's.
   */
  readonly linkLocalAddresses?: readonly Uint8Array[];
  /** Pod CIDRs of this node; default: spec.podCIDRs of its Node. */
  readonly localPodCidrs?: readonly Prefix[];
  /** Pod CIDRs of the whole cluster that no Node has. */
  readonly clusterCidrs: readonly Prefix[];
  /** Service CIDRs. ClusterIPs of known Services count without being named here. */
  readonly serviceCidrs: readonly Prefix[];
  /** DNS servers whose answers count for every policy; default: see `trustedServers`. */
  readonly clusterResolvers?: readonly Uint8Array[];
  /** Node-local DNS caches, as pods see them: they stand for the pods of the cluster's DNS. */
  readonly nodeLocalDns: readonly Uint8Array[];
  /** Namespaces whose CiliumLocalRedirectPolicies may match any address outside the cluster. */
  readonly redirectNamespaces?: readonly string[];
  /** `io.cilium.k8s.policy.cluster` of every pod. */
  readonly clusterName: string;
}

export interface CompileOptions {
  readonly node: NodeContext;
  /** Becomes `MemberPolicy.revision`. */
  readonly revision: Revision;
  /**
   * Results whose policies may still be in the kernel: the one in force, and those that were only partly
   * applied. Their selectors take part in the classes, so that they can be expanded over the new classes,
   * and DNS members keep knowing their ids, until no endpoint uses them (docs/security.md, safety rule 12).
   */
  readonly retain?: readonly Compiled[];
  /**
   * Policy that DNS members have served since before this process, while `retain` does not have it: they keep these policies
   * too.
   */
  readonly served?: MemberPolicy;
}
