// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Every bound of core, with its unit in the name. A limit that refuses something has a counter where
 * it is applied; nothing in core grows beyond these numbers.
 */

import { assert } from './assert.ts';

/* ---- names (RFC 1035 section 2.3.4) ---------------------------------------------------------- */
/** Octets of one label, without its length octet. */
export const labelBytesMax = 63;
/** Octets of a name in wire form, length octets and root included. */
export const nameBytesMax = 255;
/** Labels of a name, root excluded: each takes two octets at least. */
export const nameLabelsMax = 127;

/* ---- messages (threats T1, T3, T4, T5) -------------------------------------------------------- */
export const dnsHeaderBytes = 12;
/** Additional records of a query: one OPT and one TSIG. */
export const queryAdditionalsMax = 2;
/** Compression pointers followed for one name of a reply. */
export const pointerHopsMax = 16;
/** Different CNAME and DNAME records of a reply. More: nothing is learned. */
export const replyAliasesMax = 16;
/** CNAME and DNAME records of a reply that are read, copies of one record included. */
export const replyAliasRecordsMax = 32;
/** Records of a refused query in which its OPT is searched. */
export const refusedQueryRecordsMax = 64;
/** Address records of a reply that are read; the rest is counted. */
export const replyAddressesMax = 256;
/** UDP payload that every client takes (RFC 1035 section 4.2.1). */
export const udpPayloadBytesMin = 512;
/** UDP payload that our own replies announce (DNS flag day 2020). */
export const udpPayloadBytes = 1232;

/** Suffixes of one set. */
export const nameSuffixesMax = 64;

/* ---- patterns --------------------------------------------------------------------------------- */
/** Characters of matchName and matchPattern (CustomResourceDefinition of Cilium). */
export const patternCharsMax = 255;
/** Patterns of one matcher. */
export const matcherPatternsMax = 65_536;
/** Constructions that are tried, each with the worst patterns of the one before left out. */
export const matcherAttemptsMax = 6;

/** Budgets of one compilation of a matcher. */
export interface MatcherLimits {
  /** Nodes of the trie of all patterns. 10,000 ordinary patterns take about 60,000. */
  readonly trieNodesMax: number;
  /** States that are allowed for each node of the trie, beyond `statesFree`. */
  readonly statesPerNode: number;
  /** States that any set of patterns may use, however small its trie is. */
  readonly statesFree: number;
  /** Nodes in all state sets of one construction: bounds its memory, 4 bytes each. */
  readonly setNodesMax: number;
  /** Nodes that one construction may touch: bounds its time. */
  readonly setWorkMax: number;
  /** Pattern indices in all accept sets. */
  readonly acceptMembersMax: number;
  /** 32-bit words of the simulation of what finds no room: the work for one octet of a name. */
  readonly simulationWordsMax: number;
}

export const matcherLimits: MatcherLimits = {
  trieNodesMax: 262_144,
  statesPerNode: 4,
  statesFree: 16_384,
  setNodesMax: 4_194_304,
  setWorkMax: 67_108_864,
  acceptMembersMax: 1_048_576,
  simulationWordsMax: 64,
};

/* ---- FQDN cache ------------------------------------------------------------------------------- */
/** Mappings name x address x namespace x scope. */
export const fqdnEntriesMax = 131_072;
/** Names x namespaces x scopes. */
export const fqdnNamesMax = 65_536;
/** Blocks of 32 octets that hold the names. */
export const fqdnNameBlocksMax = 131_072;
/** Namespaces with at least one mapping. */
export const fqdnNamespacesMax = 4_096;
/** Mappings of one namespace; it evicts its own oldest beyond that. */
export const fqdnEntriesPerNamespaceMax = 8_192;
/**
 * Seconds that a mapping may live from now: the longest TTL that is learned, a week, and the longest grace, a day. A process that is
 * broken could give the other one mappings for ever, and each gives its own to the next run of the other.
 */
export const fqdnAheadSecondsMax = 691_200;
/** Addresses of one name (Cilium: tofqdns-endpoint-max-ip-per-hostname). */
export const fqdnAddressesPerNameMax = 1_000;
/** Places of the cache's expiry that asking the kernel whether an address is in use counts for. */
export const fqdnPlacesPerUse = 4;

/* ---- policy ----------------------------------------------------------------------------------- */
/** Capacities of kernel maps (abi.h): TD_ENDPOINTS_MAX, _CLASSES_MAX, _POLICY_MAX, _DNS_SERVERS_MAX. */
export const endpointsMax = 8_192;
export const classPrefixesMax = 524_288;
export const policyEntriesMax = 262_144;
export const dnsServersMax = 65_536;
/** Octets that a policy snapshot may be estimated to have: proto's snapshotBytesMax less a quarter. */
export const snapshotBytesEstimateMax: number = 48 << 20;
/** Selectors of all classes of a node together: what each class matches is in memory. */
export const classSelectorsMax = 1_000_000;
/** Nodes of the matcher's trie that the patterns of a node may take, so that it has room for each of them. */
export const patternNodesMax: number = matcherLimits.trieNodesMax - patternCharsMax - 2;
/** Nodes that count for a pattern at least, so that `matcherPatternsMax` is not exceeded. */
export const patternNodesMin = 4;
/** DNS servers that the CIDR rules of one object may list. */
export const dnsServersPerObjectMax = 8_192;
/** Compilations until all that has no room is left out; each leaves out twice as many objects as the one before. */
export const fitRoundsMax = 24;
/** Rounds in which objects of one namespace alone are left out, each of which estimates again what the others take. */
export const fitFreshRounds = 6;
/** Ports of one toPorts element (Cilium). */
export const portsPerRuleMax = 40;
/** Rules of a direction of a ClusterNetworkPolicy, peers and protocols of a rule, networks of a peer: the API's own limit. */
export const tierItemsMax = 25;
/** Priority of a ClusterNetworkPolicy: the API's own limit. */
export const tierPriorityMax = 1000;
/** Characters of the name of a rule of a ClusterNetworkPolicy: the API's own limit. */
export const tierRuleNameMax = 100;
/** Rules, peers, ports and names of one policy object together: bounds the work it can ask for. */
export const policyObjectItemsMax = 20_000;
/** Requirements and values of the selectors of one policy object together: each pod is compared with them. */
export const selectorItemsMax = 20_000;
/** Ports of one list of a CiliumLocalRedirectPolicy. */
export const redirectPortsMax = 40;
/** Values and conditions of one localEndpointSelector together: every pod of the namespace is compared with them. */
export const redirectSelectorItemsMax = 128;
/** CiliumLocalRedirectPolicies of a node; the rest redirects nothing. */
export const redirectPoliciesMax = 256;
/** Addresses and ports from which a node redirects, and from which one policy does: both families of 40 ports. */
export const redirectFrontendsMax = 1_024;
export const redirectFrontendsPerPolicyMax = 80;
/** Pods of this node among which the traffic of one policy is spread. */
export const redirectBackendsMax = 64;
/** Frontends times backends, of a node and of one policy: nft writes and reads each of them. */
export const redirectPairsMax = 8_192;
export const redirectPairsPerPolicyMax = 512;
/** Errors listed for one object; more are counted. */
export const objectErrorsMax = 20;
/** Characters of the path and of the message of an error; the rest is cut off. */
export const objectErrorCharsMax = 1_000;
/** Addresses of one toCIDR that a DNS rule can name as servers. */
export const dnsServersPerCidrMax = 256;
/** Addresses of pods and nodes that one peer of a DNS rule can name as servers. */
export const dnsServersPerRuleMax = 1_024;
/** Names in all sets of names that the DNS servers of one policy have, equal sets counted once; one set may be larger. */
export const dnsNamesPerPolicyMax = 65_536;
/** Addresses that may be watched for deleted DNS rules; with more, all watches are made again. */
export const dnsWatchedInVainMax = 4_096;
/** Changes that a `ChangeMap` remembers: who follows it and comes after more of them compares everything. */
export const changesKeptMax = 16_384;
/** Digests of contents that are remembered in each of two generations. */
export const digestsKeptMax = 32_768;
/** Ids out of use that are remembered, of each kind, so that they are not given to something else. */
export const idsRetiredMax = 16_384;
/** FQDN selector ids out of use that are remembered, because their learned addresses outlive them. */
export const selectorIdsRetiredMax = 262_144;

assert(nameLabelsMax * 2 + 1 <= nameBytesMax, 'labels fit a name');
assert(replyAliasesMax <= replyAliasRecordsMax, 'a chain of the longest is looked at');
assert(fqdnEntriesPerNamespaceMax <= fqdnEntriesMax, 'a namespace fits the cache');
assert(fqdnAddressesPerNameMax <= fqdnEntriesPerNamespaceMax, 'a name fits its namespace');
assert(fqdnNamesMax <= fqdnEntriesMax, 'a name has an address');
assert(patternNodesMax <= matcherPatternsMax * patternNodesMin, 'patterns that fit are few enough');

/** Former policies whose untrusted answers count for a policy; policies of older changes are forgotten. */
export const policyPredecessorsMax = 64;
