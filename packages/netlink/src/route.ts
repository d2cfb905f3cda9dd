// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Routes: RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE. Layouts: linux/rtnetlink.h. */

import type { Ifindex } from '@tandem/core/ids';
import type { Prefix } from '@tandem/core/net/ip';
import {
  RT_SCOPE_HOST,
  RT_SCOPE_LINK,
  RT_SCOPE_NOWHERE,
  RT_SCOPE_UNIVERSE,
  RTN_LOCAL,
} from './constants.ts';
import { align4, decodeAttributes, decodeMessage, isLittleEndian, viewOf } from './decode.ts';
import { encodeMessage } from './encode.ts';
import { attributeTable, type MessageFormat, type Struct } from './format.ts';
import { familyOf, fromKernel, prefixFromKernel, prefixLength, toKernel } from './ip-bytes.ts';

export interface Route {
  readonly destination: Prefix;
  readonly table: number;
  /** RTN_* */
  readonly type: number;
  /** Origin of the route, RTPROT_* */
  readonly protocol: number;
  /** Interfaces that it leads through: more than one with several next hops, none for a blackhole. */
  readonly ifindexes: readonly Ifindex[];
  readonly hasGateway: boolean;
  /** Gateways of the next hops that have one, of either family. */
  readonly gateways: readonly Uint8Array[];
  /** It is for packets of some sources only. */
  readonly hasSource: boolean;
  /** Metric: of equal destinations the lowest counts. */
  readonly priority: number;
  readonly preferredSource: Uint8Array | null;
}

/** Members that struct rtmsg and struct fib_rule_hdr have at the same offsets. */
export interface RoutingHeader {
  readonly family: number;
  readonly destinationLength: number;
  readonly sourceLength: number;
  readonly tos: number;
  readonly table: number;
  readonly flags: number;
}

export interface RouteHeader extends RoutingHeader {
  readonly protocol: number;
  readonly scope: number;
  readonly type: number;
}

export const routingHeader: Struct<RoutingHeader> = {
  bytes: 12,
  members: {
    family: ['u8', 0],
    destinationLength: ['u8', 1],
    sourceLength: ['u8', 2],
    tos: ['u8', 3],
    table: ['u8', 4],
    flags: ['u32', 8],
  },
};

export interface RouteAttributes {
  readonly destination?: Uint8Array;
  readonly source?: Uint8Array;
  readonly outInterface?: number;
  readonly gateway?: Uint8Array;
  readonly priority?: number;
  readonly preferredSource?: Uint8Array;
  /** struct rtnexthop, each with attributes of its own. */
  readonly multipath?: Uint8Array;
  readonly table?: number;
  readonly mark?: number;
  /** A gateway of the other family. */
  readonly via?: Uint8Array;
}

/** struct rtmsg, enum RTA_* */
export const routeFormat: MessageFormat<RouteHeader, RouteAttributes> = {
  header: {
    bytes: routingHeader.bytes,
    members: {
      ...routingHeader.members,
      protocol: ['u8', 5],
      scope: ['u8', 6],
      type: ['u8', 7],
    },
  },
  attributes: attributeTable<RouteAttributes>({
    destination: [1, 'bytes'],
    source: [2, 'bytes'],
    outInterface: [4, 'u32'],
    gateway: [5, 'bytes'],
    priority: [6, 'u32'],
    preferredSource: [7, 'bytes'],
    multipath: [9, 'bytes'],
    table: [15, 'u32'],
    mark: [16, 'u32'],
    via: [18, 'bytes'],
  }),
};

/** Null: malformed, or of another family. */
export function decodeRoute(payload: Uint8Array): Route | null {
  const decoded = decodeMessage(routeFormat, payload);
  if (!decoded.ok) return null;
  const { header, attributes } = decoded.value;
  const { family, destinationLength } = header;
  const destination = prefixFromKernel(family, attributes.destination, destinationLength);
  if (destination === null) return null;
  const hops = nextHops(family, attributes.multipath ?? new Uint8Array(0));
  const out = attributes.outInterface;
  const own = gatewayOf(family, attributes);
  return {
    destination,
    table: attributes.table ?? header.table,
    type: header.type,
    protocol: header.protocol,
    ifindexes: [...(out === undefined ? [] : [out]), ...hops.map(({ ifindex }) => ifindex)],
    hasGateway: attributes.gateway !== undefined || attributes.via !== undefined || hops.length > 0,
    gateways: [own, ...hops.map(({ gateway }) => gateway)].filter((each) => each !== null),
    hasSource: header.sourceLength !== 0,
    priority: attributes.priority ?? 0,
    preferredSource: fromKernel(family, attributes.preferredSource),
  };
}

/** Null: none, or malformed. */
function gatewayOf(
  family: number,
  { gateway, via }: Pick<RouteAttributes, 'gateway' | 'via'>,
): Uint8Array | null {
  if (gateway !== undefined) return fromKernel(family, gateway);
  // struct rtvia: u16 family, then the address.
  if (via === undefined || via.length < 2) return null;
  return fromKernel(viewOf(via).getUint16(0, isLittleEndian), via.subarray(2));
}

interface NextHop {
  readonly ifindex: Ifindex;
  readonly gateway: Uint8Array | null;
}

const nextHopBytes = 8;

/** Reads struct rtnexthop: u16 length, u8 flags, u8 hops, s32 interface; then attributes of a route. */
function nextHops(family: number, bytes: Uint8Array): readonly NextHop[] {
  const view = viewOf(bytes);
  const found: NextHop[] = [];
  let at = 0;
  while (bytes.length - at >= nextHopBytes) {
    const length = view.getUint16(at, isLittleEndian);
    if (length < nextHopBytes || length > bytes.length - at) break;
    const own = bytes.subarray(at + nextHopBytes, at + length);
    const attributes = decodeAttributes(routeFormat.attributes, own);
    found.push({
      ifindex: view.getInt32(at + 4, isLittleEndian),
      gateway: attributes.ok ? gatewayOf(family, attributes.value) : null,
    });
    at += align4(length);
  }
  return found;
}

export interface RouteSpec {
  readonly destination: Prefix;
  readonly table: number;
  readonly type: number;
  readonly protocol: number;
  readonly ifindex?: Ifindex;
  readonly priority?: number;
}

/** A route without a gateway, to be made or to be deleted. */
export function encodeRoute(route: RouteSpec, isDeletion = false): Uint8Array {
  const { destination, table, type, protocol, ifindex, priority } = route;
  const length = prefixLength(destination);
  return encodeMessage(
    routeFormat,
    {
      family: familyOf(destination.address),
      destinationLength: length,
      protocol,
      scope: isDeletion ? RT_SCOPE_NOWHERE : scopeOf(route),
      type,
    },
    {
      ...(length === 0 ? {} : { destination: toKernel(destination.address) }),
      table,
      ...(ifindex === undefined ? {} : { outInterface: ifindex }),
      ...(priority === undefined ? {} : { priority }),
    },
  );
}

/** As ip(8) chooses it; IPv6 has none. */
function scopeOf({ destination, type }: RouteSpec): number {
  if (familyOf(destination.address) !== familyOf(ipv4)) return RT_SCOPE_UNIVERSE;
  return type === RTN_LOCAL ? RT_SCOPE_HOST : RT_SCOPE_LINK;
}

const ipv4 = Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0);
