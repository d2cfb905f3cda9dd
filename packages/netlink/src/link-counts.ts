// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Packets of an interface: RTM_GETLINK with IFLA_STATS, struct rtnl_link_stats of linux/if_link.h; and IFLA_XDP. */

import type { Ifindex } from '@tandem/core/ids';
import { AF_UNSPEC } from './constants.ts';
import { decodeMessage } from './decode.ts';
import { attributeTable, type MessageFormat } from './format.ts';
import { type LinkHeader, linkFormat } from './link.ts';

/** Since the interface was made; 32 bits, which wrap. */
export interface LinkCounts {
  readonly ifindex: Ifindex;
  readonly received: number;
  readonly sent: number;
  /** An XDP program is attached. */
  readonly hasXdp: boolean;
}

interface CountsAttributes {
  readonly stats?: { readonly received: number; readonly sent: number };
  readonly xdp?: { readonly attached?: number };
}

const countsFormat: MessageFormat<LinkHeader, CountsAttributes> = {
  header: linkFormat.header,
  attributes: attributeTable<CountsAttributes>({
    stats: [7, { bytes: 8, members: { received: ['u32', 0], sent: ['u32', 4] } }],
    xdp: [43, attributeTable<{ readonly attached?: number }>({ attached: [2, 'u8'] })],
  }),
};

/** Null: malformed, of a family, or without counts. */
export function decodeLinkCounts(payload: Uint8Array): LinkCounts | null {
  const decoded = decodeMessage(countsFormat, payload);
  if (!decoded.ok) return null;
  const { header, attributes } = decoded.value;
  if (header.family !== AF_UNSPEC || attributes.stats === undefined) return null;
  const { stats, xdp } = attributes;
  return { ifindex: header.ifindex, ...stats, hasXdp: (xdp?.attached ?? 0) !== 0 };
}
