// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Conntrack entries whose destination was translated: finding the flows to an address, and removing an entry, so
 * that the next packet of its flow is translated again. Layouts: linux/netfilter/nfnetlink_conntrack.h.
 */

import { netlinkProtocol } from '@tandem/dns-sockets/netlink-socket';
import { NetlinkConnection } from './connection.ts';
import { ENOENT, IPPROTO_UDP } from './constants.ts';
import { decodeMessage } from './decode.ts';
import { encodeMessage } from './encode.ts';
import { NetlinkError } from './errors.ts';
import { type AttributeTable, attributeTable, type MessageFormat } from './format.ts';
import { familyOf, fromKernel, toKernel } from './ip-bytes.ts';

/** linux/netfilter/nfnetlink.h */
const NFNL_SUBSYS_CTNETLINK = 1;
/** linux/netfilter/nfnetlink_conntrack.h */
const IPCTNL_MSG_CT_GET = 1;
const IPCTNL_MSG_CT_DELETE = 2;
/** linux/netfilter/nf_conntrack_common.h */
const IPS_SEEN_REPLY = 2;
/**
 * Which members of a tuple a dump is to compare: net/netfilter/nf_conntrack_netlink.c, CTA_FILTER_F_*. Not addresses: of IPv6
 * 6.18 gives those that are not equal.
 */
const CTA_FILTER_F_CTA_PROTO_NUM = 8;

interface Header {
  readonly family: number;
}

interface TupleAddresses {
  readonly source4?: Uint8Array;
  readonly destination4?: Uint8Array;
  readonly source6?: Uint8Array;
  readonly destination6?: Uint8Array;
}

interface TupleProtocol {
  readonly number?: number;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
}

interface Tuple {
  readonly addresses?: TupleAddresses;
  readonly protocol?: TupleProtocol;
}

interface Filter {
  readonly originalFlags?: number;
  readonly replyFlags?: number;
}

interface Entry {
  readonly original?: Tuple;
  readonly reply?: Tuple;
  /** enum ip_conntrack_status, in network order. */
  readonly status?: Uint8Array;
  /** Which entry it is, of those that had this tuple. */
  readonly id?: Uint8Array;
  readonly zone?: Uint8Array;
  readonly filter?: Filter;
}

const tuple: AttributeTable<Tuple> = attributeTable<Tuple>({
  addresses: [
    1,
    attributeTable<TupleAddresses>({
      source4: [1, 'bytes'],
      destination4: [2, 'bytes'],
      source6: [3, 'bytes'],
      destination6: [4, 'bytes'],
    }),
  ],
  protocol: [
    2,
    attributeTable<TupleProtocol>({
      number: [1, 'u8'],
      sourcePort: [2, 'be16'],
      destinationPort: [3, 'be16'],
    }),
  ],
});

/** struct nfgenmsg, enum ctattr_type */
const entryFormat: MessageFormat<Header, Entry> = {
  header: { bytes: 4, members: { family: ['u8', 0] } },
  attributes: attributeTable<Entry>({
    original: [1, tuple],
    reply: [2, tuple],
    status: [3, 'bytes'],
    id: [12, 'bytes'],
    zone: [18, 'bytes'],
    filter: [25, attributeTable<Filter>({ originalFlags: [1, 'u32'], replyFlags: [2, 'u32'] })],
  }),
};

export class Conntrack implements Disposable {
  readonly #connection = new NetlinkConnection(netlinkProtocol.NETFILTER);

  /**
   * Removes the entries of UDP whose packets are led to this address by a translation of their destination. Gives how many.
   * `isChosen`: which of them, by the sender and by whether something came back; default all.
   * @throws NetlinkError
   */
  async forgetTranslated(
    address: Uint8Array,
    isChosen: (sender: Uint8Array, isAnswered: boolean) => boolean = () => true,
  ): Promise<number> {
    let count = 0;
    for (const entry of await this.#translatedTo(address)) {
      const { addresses } = entry.original ?? {};
      const sender = fromKernel(familyOf(address), addresses?.source4 ?? addresses?.source6);
      const isAnswered = ((entry.status?.at(-1) ?? 0) & IPS_SEEN_REPLY) !== 0;
      if (sender === null || !isChosen(sender, isAnswered)) continue;
      count += (await this.#delete(familyOf(address), entry)) ? 1 : 0;
    }
    return count;
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #translatedTo(address: Uint8Array): Promise<Entry[]> {
    const family = familyOf(address);
    const bytes = toKernel(address);
    const payload = encodeMessage(
      entryFormat,
      { family },
      {
        reply: { protocol: { number: IPPROTO_UDP } },
        filter: { originalFlags: 0, replyFlags: CTA_FILTER_F_CTA_PROTO_NUM },
      },
    );
    const type = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_GET;
    const attempt = 'list connections to a backend';
    return this.#connection.dump({ attempt, type, payload }, (message) => {
      const decoded = decodeMessage(entryFormat, message.payload);
      if (!decoded.ok) return null;
      // A kernel that does not know the filter gives all of them.
      return isTranslatedTo(decoded.value.attributes, bytes) ? decoded.value.attributes : null;
    });
  }

  /** Returns whether it was there still. */
  async #delete(family: number, { original, id, zone }: Entry): Promise<boolean> {
    const payload = encodeMessage(
      entryFormat,
      { family },
      {
        ...(original === undefined ? {} : { original }),
        ...(id === undefined ? {} : { id }),
        ...(zone === undefined ? {} : { zone }),
      },
    );
    const type = (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_DELETE;
    try {
      await this.#connection.request({ attempt: 'remove a connection', type, payload });
      return true;
    } catch (error) {
      if (error instanceof NetlinkError && error.errno === ENOENT) return false;
      throw error;
    }
  }
}

/** Whether the entry is UDP, translated to the backend and answered by it. Without its tuple it could not be removed alone. */
function isTranslatedTo({ original, reply }: Entry, backend: Uint8Array): boolean {
  const answered = reply?.addresses?.source4 ?? reply?.addresses?.source6;
  const sent = original?.addresses?.destination4 ?? original?.addresses?.destination6;
  if (answered === undefined || sent === undefined) return false;
  if (reply?.protocol?.number !== IPPROTO_UDP) return false;
  return Buffer.compare(answered, backend) === 0 && Buffer.compare(sent, backend) !== 0;
}
