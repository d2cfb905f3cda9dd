// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The numbers of bpf/include/tandem/abi.h that policy compilation puts into its output. `core` reads
 * no object file, so they are written here once; a test beside the datapath asserts that they equal
 * the object's BTF, and this package's own test reads abi.h.
 */

/** td_endpoint_flags that compilation decides; TD_EP_BRIDGED is the agent's. */
export const EndpointFlag = {
  enforceIngress: 1,
  enforceEgress: 2,
  hold: 4,
  wildIngress: 8,
  wildEgress: 16,
  fqdn: 32,
  dns: 64,
  audit: 128,
  bridged: 256,
} as const;

/** td_class_flags. */
export const ClassFlag = {
  cluster: 1,
  node: 2,
  service: 4,
  linkLocal: 8,
  localPods: 16,
  host: 32,
} as const;

/** td_class_owner: the combinations of `cluster`, `node` and `host` (TD_CLASS_OWNER) that classes have, each with its meaning. */
export const ClassOwner = {
  world: 0,
  cluster: 1,
  aNode: 3,
  thisNode: 35,
  worldAndNoPodMayClaimIt: 2,
} as const;
/** TD_CLASS_OWNER. */
export const classOwnerFlags: number = ClassFlag.cluster | ClassFlag.node | ClassFlag.host;

/** TD_CLASS_NEVER_LEARN: FQDN selectors never apply to addresses with one of these flags. */
export const classNeverLearn: number =
  ClassFlag.cluster |
  ClassFlag.node |
  ClassFlag.service |
  ClassFlag.linkLocal |
  ClassFlag.localPods;

/** TD_PEER_ANY: peer of a policy entry that holds for every peer. */
export const peerAny = 0;
/** TD_CLASS_NONE: the class of a peer that no selector in use matches; also what an LPM miss gives. */
export const classNone = 1;
/** TD_SELECTOR_BIT, set in FQDN selector ids and in no class id. */
export const selectorBit = 0x80000000;

/** TD_INGRESS, TD_EGRESS. */
export const Direction = { ingress: 0, egress: 1 } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** td_verdict. Precedence is not numeric order: deny beats L7-DNS beats allow beats none. */
export const Verdict = { none: 0, allow: 1, deny: 2, l7Dns: 3 } as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];

/** TD_VERDICT_DECIDED: beside the verdict of a class's entry that includes what the rules for every peer say. */
export const verdictDecided = 0x80;

/** TD_POLICY_BITS_PEER, _PROTO, _PORT: prefix lengths of policy keys. */
export const policyBitsPeer = 72;
export const policyBitsProtocol = 80;
export const policyBitsPort = 96;

/** IPPROTO_* numbers that rules with ports can name. */
export const Protocol = { tcp: 6, udp: 17, sctp: 132 } as const;
export type Protocol = (typeof Protocol)[keyof typeof Protocol];
