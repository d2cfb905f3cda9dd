// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Queueing disciplines: RTM_GETQDISC, struct tcmsg of linux/rtnetlink.h. */

import type { Ifindex } from '@tandem/core/ids';
import { decodeMessage } from './decode.ts';
import { attributeTable, type MessageFormat } from './format.ts';

export interface Qdisc {
  readonly ifindex: Ifindex;
  /** `clsact` and `ingress` hold the classic filters of tc, which may take packets away. */
  readonly kind: string;
}

interface QdiscHeader {
  readonly family: number;
  readonly ifindex: Ifindex;
}

interface QdiscAttributes {
  readonly kind?: string;
}

export const qdiscFormat: MessageFormat<QdiscHeader, QdiscAttributes> = {
  header: { bytes: 20, members: { family: ['u8', 0], ifindex: ['s32', 4] } },
  attributes: attributeTable<QdiscAttributes>({ kind: [1, 'text'] }),
};

/** Null: malformed. */
export function decodeQdisc(payload: Uint8Array): Qdisc | null {
  const decoded = decodeMessage(qdiscFormat, payload);
  if (!decoded.ok) return null;
  const { header, attributes } = decoded.value;
  return { ifindex: header.ifindex, kind: attributes.kind ?? '' };
}
