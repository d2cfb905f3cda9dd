// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * This namespace's numbers for other network namespaces (RTM_GETNSID): the same that `Link.linkNetnsId`
 * has. Layouts: linux/net_namespace.h.
 */

import { decodeMessage } from './decode.ts';
import { encodeMessage } from './encode.ts';
import { attributeTable, type MessageFormat } from './format.ts';

export interface NetnsIdHeader {
  readonly family: number;
}

export interface NetnsIdAttributes {
  readonly id?: number;
  readonly pid?: number;
  readonly fd?: number;
}

/** struct rtgenmsg, enum NETNSA_* */
export const netnsIdFormat: MessageFormat<NetnsIdHeader, NetnsIdAttributes> = {
  header: { bytes: 1, members: { family: ['u8', 0] } },
  attributes: attributeTable<NetnsIdAttributes>({
    id: [1, 's32'],
    pid: [2, 'u32'],
    fd: [3, 'u32'],
  }),
};

export function encodeNetnsQuery(fd: number): Uint8Array {
  return encodeMessage(netnsIdFormat, {}, { fd });
}

/** Null: malformed, or the namespace has no number here: none of its interfaces has a peer here. */
export function decodeNetnsId(payload: Uint8Array): number | null {
  const decoded = decodeMessage(netnsIdFormat, payload);
  const id = decoded.ok ? decoded.value.attributes.id : undefined;
  return id === undefined || id < 0 ? null : id;
}
