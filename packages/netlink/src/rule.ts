// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Routing rules: RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE. Layouts: linux/fib_rules.h. */

import { FR_ACT_TO_TBL } from './constants.ts';
import { decodeMessage } from './decode.ts';
import { encodeMessage } from './encode.ts';
import { attributeTable, type MessageFormat, type Struct } from './format.ts';
import { type RoutingHeader, routingHeader } from './route.ts';

export interface PortRange {
  readonly start: number;
  readonly end: number;
}

/** A rule of the product: mark, protocol and destination port lead to a table. */
export interface RuleSpec {
  /** AF_INET or AF_INET6. */
  readonly family: number;
  readonly priority: number;
  readonly table: number;
  readonly mark: number;
  readonly mask: number;
  /** IPPROTO_*; 0: any. */
  readonly ipProtocol: number;
  readonly sourcePort: PortRange | null;
  readonly destinationPort: PortRange | null;
}

export interface Rule extends RuleSpec {
  /** FR_ACT_* */
  readonly action: number;
  /** RTPROT_*, the program that made it; 0: the kernel, or a program that gave none. */
  readonly protocol: number;
  /** It looks at more than a RuleSpec says: addresses, interfaces, users, or it is inverted. */
  readonly hasOtherConditions: boolean;
}

export interface RuleHeader extends RoutingHeader {
  readonly action: number;
}

export interface RuleAttributes {
  readonly inInterface?: string;
  readonly priority?: number;
  readonly mark?: number;
  readonly tunnelId?: Uint8Array;
  readonly table?: number;
  readonly mask?: number;
  readonly outInterface?: string;
  readonly l3mdev?: number;
  readonly users?: Uint8Array;
  readonly protocol?: number;
  readonly ipProtocol?: number;
  readonly sourcePort?: PortRange;
  readonly destinationPort?: PortRange;
}

/** struct fib_rule_port_range */
const portRange: Struct<PortRange> = { bytes: 4, members: { start: ['u16', 0], end: ['u16', 2] } };

/** struct fib_rule_hdr, enum FRA_* */
export const ruleFormat: MessageFormat<RuleHeader, RuleAttributes> = {
  header: {
    bytes: routingHeader.bytes,
    members: { ...routingHeader.members, action: ['u8', 7] },
  },
  attributes: attributeTable<RuleAttributes>({
    inInterface: [3, 'text'],
    priority: [6, 'u32'],
    mark: [10, 'u32'],
    tunnelId: [12, 'bytes'],
    table: [15, 'u32'],
    mask: [16, 'u32'],
    outInterface: [17, 'text'],
    l3mdev: [19, 'u8'],
    users: [20, 'bytes'],
    protocol: [21, 'u8'],
    ipProtocol: [22, 'u8'],
    sourcePort: [23, portRange],
    destinationPort: [24, portRange],
  }),
};

/** linux/fib_rules.h: the rule counts where it does not match. */
const FIB_RULE_INVERT = 0x2;
/** linux/fib_rules.h: the kernel gives every rule a range of users, this one when none was asked for. */
const allUsers = Uint8Array.of(0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff);

export function decodeRule(payload: Uint8Array): Rule | null {
  const decoded = decodeMessage(ruleFormat, payload);
  if (!decoded.ok) return null;
  const { header, attributes } = decoded.value;
  return {
    family: header.family,
    priority: attributes.priority ?? 0,
    table: attributes.table ?? header.table,
    mark: attributes.mark ?? 0,
    mask: attributes.mask ?? 0,
    ipProtocol: attributes.ipProtocol ?? 0,
    sourcePort: attributes.sourcePort ?? null,
    destinationPort: attributes.destinationPort ?? null,
    action: header.action,
    protocol: attributes.protocol ?? 0,
    hasOtherConditions: hasOtherConditions(header, attributes),
  };
}

function hasOtherConditions(header: RuleHeader, attributes: RuleAttributes): boolean {
  const { inInterface, outInterface, tunnelId, l3mdev = 0, users = allUsers } = attributes;
  return (
    header.destinationLength !== 0 ||
    header.sourceLength !== 0 ||
    header.tos !== 0 ||
    (header.flags & FIB_RULE_INVERT) !== 0 ||
    inInterface !== undefined ||
    outInterface !== undefined ||
    tunnelId !== undefined ||
    l3mdev !== 0 ||
    Buffer.compare(users, allUsers) !== 0
  );
}

/** `protocol`: RTPROT_* of the program that makes the rule; 0: none, as for a deletion, which matches rules of any. */
export function encodeRule(rule: RuleSpec, protocol = 0): Uint8Array {
  const { family, priority, table, mark, mask, ipProtocol, sourcePort, destinationPort } = rule;
  return encodeMessage(
    ruleFormat,
    { family, action: FR_ACT_TO_TBL },
    {
      priority,
      mark,
      mask,
      table,
      ...(protocol === 0 ? {} : { protocol }),
      ...(ipProtocol === 0 ? {} : { ipProtocol }),
      ...(sourcePort === null ? {} : { sourcePort }),
      ...(destinationPort === null ? {} : { destinationPort }),
    },
  );
}

/** Whether the kernel's rule is this one and nothing else. */
export function isSameRule(rule: Rule, spec: RuleSpec): boolean {
  return (
    !rule.hasOtherConditions &&
    rule.action === FR_ACT_TO_TBL &&
    rule.family === spec.family &&
    rule.priority === spec.priority &&
    rule.table === spec.table &&
    rule.mark === spec.mark &&
    rule.mask === spec.mask &&
    rule.ipProtocol === spec.ipProtocol &&
    isSameRange(rule.sourcePort, spec.sourcePort) &&
    isSameRange(rule.destinationPort, spec.destinationPort)
  );
}

function isSameRange(left: PortRange | null, right: PortRange | null): boolean {
  return left?.start === right?.start && left?.end === right?.end;
}
