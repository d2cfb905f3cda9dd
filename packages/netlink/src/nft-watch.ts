// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Notices of changes of nftables tables, or of all others (NFNLGRP_NFTABLES): which table, not what. Layouts:
 * linux/netfilter/nfnetlink.h, linux/netfilter/nf_tables.h.
 */

import { NetlinkSocket, netlinkProtocol } from '@tandem/dns-sockets/netlink-socket';
import { decodeMessage } from './decode.ts';
import { attributeTable, type MessageFormat } from './format.ts';
import { type NetlinkMessage, visitMessages } from './message.ts';

/** linux/netfilter/nfnetlink.h */
const NFNLGRP_NFTABLES = 7;
const NFNL_SUBSYS_NFTABLES = 10;
/** linux/netfilter/nf_tables.h: the end of a change; it names no table. */
const NFT_MSG_NEWGEN = 15;
/** linux/netfilter.h */
export const NFPROTO_INET = 1;
export const NFPROTO_ARP = 3;
export const NFPROTO_NETDEV = 5;

export interface NftTableName {
  /** NFPROTO_* */
  readonly family: number;
  readonly name: string;
}

interface NftHeader {
  readonly family: number;
}

interface NftAttributes {
  readonly table?: string;
}

/**
 * struct nfgenmsg. Attribute 1 is the table in all messages of nftables: NFTA_TABLE_NAME, NFTA_CHAIN_TABLE,
 * NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE, NFTA_OBJ_TABLE, NFTA_FLOWTABLE_TABLE.
 */
const nftFormat: MessageFormat<NftHeader, NftAttributes> = {
  header: { bytes: 4, members: { family: ['u8', 0] } },
  attributes: attributeTable<NftAttributes>({ table: [1, 'text'] }),
};

export interface NftWatchOptions {
  readonly tables: readonly NftTableName[];
  /** Watches all tables except these. Default false. */
  readonly isOther?: boolean;
  /** Something of a table came, went or changed; or notices were lost. */
  readonly onChange: () => void;
}

export class NftWatch implements Disposable {
  readonly #options: NftWatchOptions;
  readonly #socket: NetlinkSocket;

  /** @throws DnsSocketError: EPERM, EPROTONOSUPPORT (no nfnetlink) */
  constructor(options: NftWatchOptions) {
    this.#options = options;
    const { onChange } = options;
    this.#socket = new NetlinkSocket({
      protocol: netlinkProtocol.NETFILTER,
      groups: [NFNLGRP_NFTABLES],
      onMessages: (bytes) => this.#onMessages(bytes),
      onOverrun: onChange,
      onError: onChange,
    });
  }

  close(): void {
    this.#socket.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #onMessages(bytes: Uint8Array): void {
    let isConcerned = false;
    const read = visitMessages(bytes, (message) => {
      isConcerned ||= isConcerning(message, this.#options);
    });
    if (isConcerned || !read.ok) this.#options.onChange();
  }
}

function isConcerning(
  { type, payload }: NetlinkMessage,
  { tables, isOther = false }: NftWatchOptions,
): boolean {
  if (type >> 8 !== NFNL_SUBSYS_NFTABLES || (type & 0xff) === NFT_MSG_NEWGEN) return false;
  const decoded = decodeMessage(nftFormat, payload);
  if (!decoded.ok) return true;
  const { header, attributes } = decoded.value;
  const { table } = attributes;
  const isListed = tables.some(({ family, name }) => family === header.family && name === table);
  return isListed !== isOther;
}
