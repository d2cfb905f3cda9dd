// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Result of the policy compilation: the desired content of the kernel's maps and of the DNS members' policy. Plain data; the
 * agent and the datapath encode it. Addresses are 16 bytes in network order (IPv4 as ::ffff:a.b.c.d), ports are numbers in
 * host order.
 */

import type { DiagnosticCode } from '../../codes/diagnostics.ts';
import type { Pattern } from '../../dns/pattern.ts';
import type { EndpointId, NamespaceId, PolicyId, Revision } from '../../ids.ts';
import type { Prefix } from '../../net/ip.ts';
import type { ClassEntries } from './class-entries.ts';
import type { Direction, Verdict } from './kernel-numbers.ts';
import type { Peer } from './peer.ts';
import type { Redirect } from './redirect.ts';
import type { PortRange } from './rule.ts';
import type { StableIds } from './stable-ids.ts';
import type { RuleVerdict, Tier } from './tiers.ts';

/** One local pod address. The agent adds interface indices, MAC and TD_EP_BRIDGED. */
export interface EndpointDesired {
  readonly address: Uint8Array;
  /** 31 bits, not 0; equal for all addresses of one pod, different for a pod of the same name later. */
  readonly endpointId: EndpointId;
  readonly pod: { readonly namespace: string; readonly name: string; readonly uid: string };
  /** `noPolicy` only of a pod that is held; a pod that no rule selects has the id of the empty policy. */
  readonly policyId: PolicyId;
  /** Class of the pod's own address, for peers on the same node. */
  readonly classId: number;
  /** `EndpointFlag` bits. */
  readonly flags: number;
  readonly namespaceId: NamespaceId;
  /** Annotation tandem.dev/interface: the host side of the pod's veth. */
  readonly interfaceName?: string;
  /** CNI sandbox from which the address is, if known. */
  readonly sandboxId?: string;
}

/**
 * Which peer selectors match each class: input of `expandPolicy`. Keys of selectors are stable texts,
 * so a policy compiled earlier can be expanded over classes of now, if these were compiled with that
 * policy in `CompileOptions.retain`.
 */
export interface ClassTable {
  /** Peer selector key -> class ids that it matches, ascending. */
  readonly classesOf: ReadonlyMap<string, readonly number[]>;
  /** Class id -> keys of the peer selectors that match it, sorted. `classNone` is absent: it matches none. */
  readonly selectorsOf: ReadonlyMap<number, readonly string[]>;
}

/** One statement of a policy. */
export interface CompiledRule {
  readonly direction: Direction;
  readonly tier: Tier;
  readonly verdict: RuleVerdict;
  /** Keys of peer selectors; 'any' is every peer. May be empty for a rule of FQDN selectors. */
  readonly peers: 'any' | readonly string[];
  /** Selector ids (bit 31 set) of toFQDNs, only with verdict allow on egress. */
  readonly fqdnSelectors: readonly number[];
  /** 'any' is every protocol and port, ICMP included. */
  readonly ports: 'any' | readonly PortRange[];
  /** For events and `policy explain`; see `Compiled.rules`. */
  readonly ruleId: number;
}

/** The rules of all pods that the same rules select. Immutable: other rules are another id. */
export interface CompiledPolicy {
  readonly id: PolicyId;
  /** In order of evaluation (tiers.ts). */
  readonly rules: readonly CompiledRule[];
  /** The peers that the rules name, by key. */
  readonly peers: ReadonlyMap<string, Peer>;
  /** `EndpointFlag` bits of its endpoints: enforce, wild, fqdn, dns. */
  readonly flags: number;
}

/** One entry of `policy`, in the terms of td_policy_key. */
export interface PolicyEntry {
  readonly policyId: PolicyId;
  /** Class id, FQDN selector id or `peerAny`. */
  readonly peer: number;
  readonly direction: Direction;
  /** 0 when `prefixLength` is `policyBitsPeer`. */
  readonly protocol: number;
  /** First port of the prefix; 0 when `prefixLength` is at most `policyBitsProtocol`. */
  readonly port: number;
  /** 72 any protocol, 80 any port, 80 + n a port prefix of n bits. */
  readonly prefixLength: number;
  /** `none` only where the order of rules counts: the entry keeps a wider one from answering. */
  readonly verdict: Verdict;
  /** 0: several rules agree. */
  readonly ruleId: number;
  /** TD_VERDICT_DECIDED: it includes what the rules for every peer say. */
  readonly isDecided?: true;
}

/** One entry of `dns_servers`. */
export interface DnsServerEntry {
  readonly policyId: PolicyId;
  /** As the pod sees it, before service translation. All zero: any server without an entry of its own. */
  readonly server: Uint8Array;
  readonly protocol: 6 | 17;
  readonly ruleSetId: number;
}

export interface MemberSelector {
  /** Bit 31 set; the same for the same pattern for ever (and policy, if private). */
  readonly id: number;
  /** Index into `MemberPolicy.patterns`. */
  readonly patternIndex: number;
  /** `noPolicy`: learns from trusted servers, for all policies. Else: learns from answers of other servers to pods of this policy. */
  readonly policyId: PolicyId;
}

export interface MemberRuleSet {
  readonly id: number;
  /** Indices into `MemberPolicy.patterns`, ascending. Empty and not `matchAll`: every name is refused. */
  readonly patternIndexes: readonly number[];
  /** Every name passes, whatever its bytes. */
  readonly matchAll: boolean;
}

export interface MemberEndpoint {
  readonly address: Uint8Array;
  readonly endpointId: EndpointId;
  readonly policyId: PolicyId;
  readonly namespaceId: NamespaceId;
  readonly namespace: string;
  readonly pod: string;
}

export interface MemberServer {
  readonly server: Uint8Array;
  readonly protocol: 6 | 17;
  readonly ruleSetId: number;
}

export interface MemberPolicyEntry {
  readonly id: PolicyId;
  /** Without DNS rules: none. */
  readonly servers: readonly MemberServer[];
  /** Policies that it replaced: answers that their pods got count for it too (succession.ts). */
  readonly predecessors: readonly PolicyId[];
  /** Indices into `MemberPolicy.patterns`: names whose addresses its rules allow; its namespaces pay for them. */
  readonly fqdnPatterns: readonly number[];
}

/** Policy that a DNS member needs to serve without the agent: the content of the policy snapshot. */
export interface MemberPolicy {
  readonly revision: Revision;
  readonly endpoints: readonly MemberEndpoint[];
  /** Distinct (text, context), sorted by them. */
  readonly patterns: readonly Pattern[];
  readonly selectors: readonly MemberSelector[];
  readonly ruleSets: readonly MemberRuleSet[];
  /** Every policy of the node's endpoints, the empty one included. */
  readonly policies: readonly MemberPolicyEntry[];
  /** Only answers of these servers count for selectors with policy id 0. */
  readonly trustedServers: readonly Uint8Array[];
  /** Addresses in these prefixes are never learned. No prefix lies in another one. */
  readonly neverLearn: readonly Prefix[];
  /** Sorted by address, which is distinct: the servers whose ready backends are known. */
  readonly backendDigests: readonly BackendDigest[];
}

/** A digest of the ready backends behind a DNS server's ClusterIP. Equal backends have equal digests. */
export interface BackendDigest {
  readonly address: Uint8Array;
  /** 32 bits. 0: not known. */
  readonly digest: number;
}

/** A problem for the operator. */
export interface Diagnostic {
  readonly severity: 'error' | 'warning';
  readonly code: DiagnosticCode;
  /** `Kind/namespace/name`, followed by the field where there is one. */
  readonly subject: string;
  /** Fault, consequence and fix. */
  readonly message: string;
}

/** Where a rule id comes from. */
export interface RuleOrigin {
  readonly ruleId: number;
  /** `Kind/namespace/name: spec.egress[0]`. */
  readonly text: string;
  /** Tier of a ClusterNetworkPolicy: `Admin tier, priority 10`. */
  readonly tier?: string;
}

/** Rules by their ids. */
export interface RuleOrigins {
  get(ruleId: number): RuleOrigin | undefined;
  all(): ReadonlyMap<number, RuleOrigin>;
}

export interface Compiled {
  readonly endpoints: readonly EndpointDesired[];
  readonly classes: ClassEntries;
  readonly classTable: ClassTable;
  readonly policies: ReadonlyMap<PolicyId, CompiledPolicy>;
  readonly dnsServers: readonly DnsServerEntry[];
  readonly members: MemberPolicy;
  /** Former policies whose answers no longer count, because there were too many (`policyPredecessorsMax`). */
  readonly predecessorsForgotten: number;
  readonly rules: RuleOrigins;
  /** Redirects of the node to its own pods. */
  readonly redirects: readonly Redirect[];
  readonly diagnostics: readonly Diagnostic[];
  /** False: it is more than the node can carry, whatever is left out (a diagnostic says what). */
  readonly fits: boolean;
  /** False: policies of `CompileOptions.retain` had no room, so endpoints that have them are to be held. */
  readonly isRetained: boolean;
  /** The ids after this compilation: persist them, hand them to the next one. */
  readonly ids: StableIds;
}
