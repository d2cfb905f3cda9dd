// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The one normalised shape of a policy rule, of any API. Everything is parsed: label
 * selectors carry their namespace defaults, CIDRs are prefixes, patterns are canonical, protocol ANY
 * is spelled out. Semantics of absent lists are resolved here, not later:
 * `peers: 'any'` is an absent L3 list, `peers: []` selects no peer.
 */

import type { Pattern } from '../../dns/pattern.ts';
import type { PolicyKind } from '../../k8s/objects.ts';
import type { Issue } from '../../k8s/shape.ts';
import type { Direction, Protocol } from './kernel-numbers.ts';
import type { Peer } from './peer.ts';
import type { LabelSelector } from './selector.ts';

/** The names of one rules.dns. `patterns` empty allows no name. */
export interface DnsNames {
  readonly patterns: readonly Pattern[];
  /** `dns: []`: Cilium redirects, and permits every name. */
  readonly matchAll: boolean;
}

/** A port range of one protocol, both ends included. */
export interface PortRange {
  readonly protocol: Protocol;
  readonly first: number;
  readonly last: number;
}

/** One toPorts element, its ports spelled out; `dns` null for plain L4. */
export interface PortRule {
  readonly ports: readonly PortRange[];
  readonly dns: DnsNames | null;
}

/** A port by its name, of a NetworkPolicy. */
export interface NamedPort {
  readonly protocol: Protocol;
  /** Protocol and name, `TCP/http`. */
  readonly name: string;
}

/** One element of ingress, ingressDeny, egress or egressDeny that says something. */
export interface PolicyRule {
  readonly direction: Direction;
  /** 'pass' only in a spec with a tier. */
  readonly action: 'allow' | 'deny' | 'pass';
  readonly peers: 'any' | readonly Peer[];
  /** toFQDNs; then `peers` is empty. */
  readonly fqdns: readonly Pattern[];
  /** 'any': every port and protocol. */
  readonly ports: 'any' | readonly PortRule[];
  /** Ports beside `ports` that each pod which the packet goes to has a number for; a PortRule without ports is none. */
  readonly namedPorts?: readonly NamedPort[];
  /** Field path inside the object, `spec.egress[0]`. */
  readonly path: string;
  /** Place among the rules of its direction, in a spec with a tier. */
  readonly index?: number;
}

/** Tier of a ClusterNetworkPolicy. */
export interface SpecTier {
  readonly name: 'admin' | 'baseline';
  /** 0 to 1000; the lowest is asked first. */
  readonly priority: number;
}

/** One Rule of a policy object (its spec, or one of its specs). */
export interface PolicySpec {
  readonly subject: LabelSelector;
  /** Directions that have a section; a pod selected in one is subject to policy in it. */
  readonly hasIngress: boolean;
  readonly hasEgress: boolean;
  /** Directions that switch to default deny. */
  readonly denyIngress: boolean;
  readonly denyEgress: boolean;
  readonly rules: readonly PolicyRule[];
  /** Set for ClusterNetworkPolicy. Its rules are ordered, and it isolates no pod: `denyIngress` and `denyEgress` are false. */
  readonly tier?: SpecTier;
}

export interface PolicyRef {
  readonly kind: PolicyKind;
  /** '' for clusterwide policies. */
  readonly namespace: string;
  readonly name: string;
}

/** A valid policy object. */
export interface Policy {
  readonly ref: PolicyRef;
  readonly specs: readonly PolicySpec[];
  /** Legal, and probably not the intention. */
  readonly warnings: readonly Issue[];
}

/** An invalid policy object. */
export interface InvalidPolicy {
  readonly ref: PolicyRef;
  /** 'policy-left-out': valid, but more than the node can carry. Default 'policy-invalid'. */
  readonly code?: 'policy-left-out';
  /** At least one. */
  readonly errors: readonly Issue[];
  /** Specs in force in its place if no earlier version was valid (policy-hold.ts). */
  readonly hold: readonly PolicySpec[];
  readonly holdScope: HoldScope;
}

/**
 * Whom `hold` denies: the pods that the object selects; all that it may select, because its selector cannot
 * be read whole; none, because it selects none (`nodeSelector`), or 'accepts', because all its rules Accept; or, 'unknown',
 * none because it may mean every pod of the cluster.
 */
export type HoldScope = 'selected' | 'superset' | 'none' | 'accepts' | 'unknown';

/** `Kind/namespace/name`, or `Kind/name`. */
export function formatPolicyRef(ref: PolicyRef): string {
  const name = ref.name || '(unnamed)';
  return ref.namespace === '' ? `${ref.kind}/${name}` : `${ref.kind}/${ref.namespace}/${name}`;
}
