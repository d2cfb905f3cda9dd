// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Neighbours (address to hardware address) and the forwarding entries of bridges (hardware address to port):
 * RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH, the latter in family AF_BRIDGE. Layouts: linux/neighbour.h.
 */

import type { Ifindex } from '@tandem/core/ids';
import {
  AF_BRIDGE,
  NTF_MASTER,
  NTF_STICKY,
  NUD_NOARP,
  NUD_PERMANENT,
  RTPROT_TANDEM,
} from './constants.ts';
import { decodeMessage } from './decode.ts';
import { encodeMessage } from './encode.ts';
import { attributeTable, type MessageFormat } from './format.ts';
import { familyOf, fromKernel, toKernel } from './ip-bytes.ts';

export interface Neighbor {
  readonly ifindex: Ifindex;
  readonly address: Uint8Array;
  /** Empty while the kernel does not know it. */
  readonly mac: Uint8Array;
  /** NUD_* */
  readonly state: number;
  /** Origin of the entry, RTPROT_*; 0: the kernel. */
  readonly protocol: number;
}

/** Entry of a bridge for a hardware address. */
export interface ForwardingEntry {
  readonly bridge: Ifindex;
  readonly port: Ifindex;
  readonly mac: Uint8Array;
  /** 0: of no VLAN. */
  readonly vlan: number;
  /** NUD_* and NTF_* */
  readonly state: number;
  readonly flags: number;
}

export interface NeighborHeader {
  readonly family: number;
  readonly ifindex: Ifindex;
  readonly state: number;
  readonly flags: number;
  readonly type: number;
}

export interface NeighborAttributes {
  readonly address?: Uint8Array;
  readonly mac?: Uint8Array;
  readonly vlan?: number;
  readonly master?: number;
  readonly protocol?: number;
}

/** struct ndmsg, enum NDA_* */
export const neighborFormat: MessageFormat<NeighborHeader, NeighborAttributes> = {
  header: {
    bytes: 12,
    members: {
      family: ['u8', 0],
      ifindex: ['s32', 4],
      state: ['u16', 8],
      flags: ['u8', 10],
      type: ['u8', 11],
    },
  },
  attributes: attributeTable<NeighborAttributes>({
    address: [1, 'bytes'],
    mac: [2, 'bytes'],
    vlan: [5, 'u16'],
    master: [9, 'u32'],
    protocol: [12, 'u8'],
  }),
};

/** Null: malformed, or of a bridge. */
export function decodeNeighbor(payload: Uint8Array): Neighbor | null {
  const decoded = decodeMessage(neighborFormat, payload);
  if (!decoded.ok) return null;
  const { header, attributes } = decoded.value;
  const address = fromKernel(header.family, attributes.address);
  if (address === null) return null;
  const { ifindex, state } = header;
  const { mac = new Uint8Array(0), protocol = 0 } = attributes;
  return { ifindex, address, mac, state, protocol };
}

/** Null: malformed, or no entry of a bridge: interfaces have lists of their own, a VXLAN another one. */
export function decodeForwarding(payload: Uint8Array): ForwardingEntry | null {
  const decoded = decodeMessage(neighborFormat, payload);
  if (!decoded.ok) return null;
  const { header, attributes } = decoded.value;
  const { mac, master, vlan = 0 } = attributes;
  if (header.family !== AF_BRIDGE || mac === undefined || master === undefined) return null;
  const { ifindex, state, flags } = header;
  return { bridge: master, port: ifindex, mac, vlan, state, flags };
}

/**
 * An entry that neither the kernel nor a packet changes: the kernel asks no host for the address any more. It bears
 * `RTPROT_TANDEM`, so that it is found again.
 */
export function encodePermanentNeighbor(
  ifindex: Ifindex,
  address: Uint8Array,
  mac: Uint8Array,
): Uint8Array {
  return encodeMessage(
    neighborFormat,
    { family: familyOf(address), ifindex, state: NUD_PERMANENT },
    { address: toKernel(address), mac, protocol: RTPROT_TANDEM },
  );
}

export function encodeNeighborKey(ifindex: Ifindex, address: Uint8Array, flags = 0): Uint8Array {
  return encodeMessage(
    neighborFormat,
    { family: familyOf(address), ifindex, flags },
    { address: toKernel(address) },
  );
}

/** As `bridge fdb replace MAC dev PORT master static sticky`: frames from other ports do not move it. */
export function encodeStickyForwarding(port: Ifindex, mac: Uint8Array): Uint8Array {
  return encodeMessage(
    neighborFormat,
    { family: AF_BRIDGE, ifindex: port, state: NUD_NOARP, flags: NTF_MASTER | NTF_STICKY },
    { mac },
  );
}

export function encodeForwardingKey(port: Ifindex, mac: Uint8Array): Uint8Array {
  return encodeMessage(
    neighborFormat,
    { family: AF_BRIDGE, ifindex: port, flags: NTF_MASTER },
    { mac },
  );
}
