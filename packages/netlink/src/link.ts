// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Interfaces: RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK. Layouts: linux/rtnetlink.h, linux/if_link.h. */

import type { Ifindex, NetnsId } from '@tandem/core/ids';
import { AF_UNSPEC, IFF_UP } from './constants.ts';
import { decodeAttributes, decodeMessage } from './decode.ts';
import { type AttributeTable, attributeTable, type MessageFormat } from './format.ts';

export interface Link {
  readonly ifindex: Ifindex;
  readonly name: string;
  /** `veth`, `bridge`, `vxlan`; empty for hardware and the loopback interface. */
  readonly kind: string;
  /** ARPHRD_* of linux/if_arp.h. */
  readonly hardwareType: number;
  /** IFF_* */
  readonly flags: number;
  readonly isUp: boolean;
  /** Hardware address, six bytes on Ethernet; empty without one. */
  readonly mac: Uint8Array;
  /** Index of the bridge, bond or VRF that it belongs to; 0: none. */
  readonly master: Ifindex;
  /**
   * IFLA_LINK: of a veth its peer, of a VLAN its lower device; 0: none. An index of the namespace that
   * `linkNetnsId` names.
   */
  readonly link: Ifindex;
  /** This namespace's number for the one that `link` is in; null: this one. */
  readonly linkNetnsId: NetnsId | null;
  readonly mtu: number;
  /** UDP port at which the interface takes packets out of a tunnel (VXLAN, Geneve, bare UDP); 0: it is none. */
  readonly tunnelPort: number;
  /** Families for which a bridge has netfilter see what it switches, whatever the sysctl says. */
  readonly bridgeNetfilter: { readonly ipv4: boolean; readonly ipv6: boolean };
  /** Held down (IFF_PROTO_DOWN). */
  readonly isProtoDown: boolean;
}

export interface LinkHeader {
  readonly family: number;
  readonly hardwareType: number;
  readonly ifindex: Ifindex;
  readonly flags: number;
  /** Which flags a request changes. */
  readonly change: number;
}

export interface LinkInfoAttributes {
  readonly kind?: string;
  /** In attributes of the kind's own. */
  readonly data?: Uint8Array;
}

export interface LinkAttributes {
  readonly mac?: Uint8Array;
  readonly name?: string;
  readonly mtu?: number;
  readonly link?: number;
  readonly master?: number;
  readonly info?: LinkInfoAttributes;
  /** Moves the interface to the namespace of this file descriptor. */
  readonly netnsFd?: number;
  /** RTEXT_FILTER_*: what a dump holds. */
  readonly extMask?: number;
  readonly linkNetnsId?: number;
  readonly protoDown?: number;
  /** Number, in this namespace, of the network namespace in which a request looks for the interface. */
  readonly targetNetnsId?: number;
}

const linkInfoAttributes: AttributeTable<LinkInfoAttributes> = attributeTable<LinkInfoAttributes>({
  kind: [1, 'text'],
  data: [2, 'bytes'],
});

interface TunnelAttributes {
  readonly port?: number;
}

/** enum IFLA_VXLAN_*, IFLA_GENEVE_*, IFLA_BAREUDP_* */
const tunnelAttributes: Readonly<Record<string, AttributeTable<TunnelAttributes>>> = {
  vxlan: attributeTable<TunnelAttributes>({ port: [15, 'be16'] }),
  geneve: attributeTable<TunnelAttributes>({ port: [5, 'be16'] }),
  bareudp: attributeTable<TunnelAttributes>({ port: [1, 'be16'] }),
};

interface BridgeAttributes {
  readonly ipv4?: number;
  readonly ipv6?: number;
}

/** IFLA_BR_NF_CALL_IPTABLES, IFLA_BR_NF_CALL_IP6TABLES */
const bridgeAttributes: AttributeTable<BridgeAttributes> = attributeTable<BridgeAttributes>({
  ipv4: [36, 'u8'],
  ipv6: [37, 'u8'],
});

/** struct ifinfomsg, enum IFLA_* */
export const linkFormat: MessageFormat<LinkHeader, LinkAttributes> = {
  header: {
    bytes: 16,
    members: {
      family: ['u8', 0],
      hardwareType: ['u16', 2],
      ifindex: ['s32', 4],
      flags: ['u32', 8],
      change: ['u32', 12],
    },
  },
  attributes: attributeTable<LinkAttributes>({
    mac: [1, 'bytes'],
    name: [3, 'text'],
    mtu: [4, 'u32'],
    link: [5, 'u32'],
    master: [10, 'u32'],
    info: [18, linkInfoAttributes],
    netnsFd: [28, 'u32'],
    extMask: [29, 'u32'],
    linkNetnsId: [37, 's32'],
    protoDown: [39, 'u8'],
    targetNetnsId: [46, 's32'],
  }),
};

/** Null: malformed, or of a family: a bridge reports its ports with messages of the same type. */
export function decodeLink(payload: Uint8Array): Link | null {
  const decoded = decodeMessage(linkFormat, payload);
  if (!decoded.ok) return null;
  const { header, attributes } = decoded.value;
  if (header.family !== AF_UNSPEC || attributes.name === undefined) return null;
  return {
    ifindex: header.ifindex,
    name: attributes.name,
    kind: attributes.info?.kind ?? '',
    hardwareType: header.hardwareType,
    flags: header.flags,
    isUp: (header.flags & IFF_UP) !== 0,
    mac: attributes.mac ?? new Uint8Array(0),
    master: attributes.master ?? 0,
    link: attributes.link ?? 0,
    linkNetnsId: attributes.linkNetnsId ?? null,
    mtu: attributes.mtu ?? 0,
    tunnelPort: tunnelPortOf(attributes.info),
    bridgeNetfilter: bridgeNetfilterOf(attributes.info),
    isProtoDown: (attributes.protoDown ?? 0) !== 0,
  };
}

function tunnelPortOf({ kind = '', data }: LinkInfoAttributes = {}): number {
  const table = tunnelAttributes[kind];
  if (table === undefined || data === undefined) return 0;
  const decoded = decodeAttributes(table, data);
  return decoded.ok ? (decoded.value.port ?? 0) : 0;
}

function bridgeNetfilterOf({ kind = '', data }: LinkInfoAttributes = {}): Link['bridgeNetfilter'] {
  const decoded =
    kind === 'bridge' && data !== undefined ? decodeAttributes(bridgeAttributes, data) : null;
  const { ipv4 = 0, ipv6 = 0 } = decoded?.ok === true ? decoded.value : {};
  return { ipv4: ipv4 !== 0, ipv6: ipv6 !== 0 };
}
