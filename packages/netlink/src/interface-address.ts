// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Addresses of interfaces: RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR. Layouts: linux/if_addr.h. */

import type { Ifindex } from '@tandem/core/ids';
import { IFA_F_DADFAILED } from './constants.ts';
import { decodeMessage } from './decode.ts';
import { attributeTable, type MessageFormat } from './format.ts';
import { fromKernel } from './ip-bytes.ts';

export interface InterfaceAddress {
  readonly ifindex: Ifindex;
  /** The interface's own, not its peer's. */
  readonly address: Uint8Array;
  /** On a point-to-point interface, which may have one address for several peers; else the address. */
  readonly peer: Uint8Array;
  readonly prefixLength: number;
  /** RT_SCOPE_* */
  readonly scope: number;
  /** Origin of the address, IFAPROT_*; 0: unknown. */
  readonly protocol: number;
  /** Duplicate address detection found another owner: the node does not use it. */
  readonly isDuplicate: boolean;
}

export interface AddressHeader {
  readonly family: number;
  readonly prefixLength: number;
  readonly flags: number;
  readonly scope: number;
  readonly ifindex: Ifindex;
}

export interface AddressAttributes {
  /** The peer's on a point-to-point interface. */
  readonly address?: Uint8Array;
  readonly local?: Uint8Array;
  readonly protocol?: number;
}

/** struct ifaddrmsg, enum IFA_* */
export const addressFormat: MessageFormat<AddressHeader, AddressAttributes> = {
  header: {
    bytes: 8,
    members: {
      family: ['u8', 0],
      prefixLength: ['u8', 1],
      flags: ['u8', 2],
      scope: ['u8', 3],
      ifindex: ['u32', 4],
    },
  },
  attributes: attributeTable<AddressAttributes>({
    address: [1, 'bytes'],
    local: [2, 'bytes'],
    protocol: [11, 'u8'],
  }),
};

export function decodeAddress(payload: Uint8Array): InterfaceAddress | null {
  const decoded = decodeMessage(addressFormat, payload);
  if (!decoded.ok) return null;
  const { header, attributes } = decoded.value;
  const address = fromKernel(header.family, attributes.local ?? attributes.address);
  if (address === null) return null;
  const peer = fromKernel(header.family, attributes.address) ?? address;
  const { ifindex, prefixLength, scope } = header;
  const isDuplicate = (header.flags & IFA_F_DADFAILED) !== 0;
  return {
    ...{ ifindex, address, peer, prefixLength, scope, isDuplicate },
    protocol: attributes.protocol ?? 0,
  };
}
