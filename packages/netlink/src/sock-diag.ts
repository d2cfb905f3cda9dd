// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Which sockets are bound to a port of this network namespace (sock_diag(7)). Layouts: linux/inet_diag.h. */

import { netlinkProtocol } from '@tandem/dns-sockets/netlink-socket';
import { NetlinkConnection } from './connection.ts';
import { AF_INET, AF_INET6, ENOENT, IPPROTO_TCP, IPPROTO_UDP } from './constants.ts';
import { decodeMessage } from './decode.ts';
import { encodeMessage } from './encode.ts';
import { NetlinkError } from './errors.ts';
import { attributeTable, type MessageFormat } from './format.ts';
import { fromKernel } from './ip-bytes.ts';

/** linux/sock_diag.h */
const SOCK_DIAG_BY_FAMILY = 20;
/** net/tcp_states.h: a UDP socket that is not connected, and a TCP socket that listens. */
const TCP_CLOSE = 7;
const TCP_LISTEN = 10;
/** linux/inet_diag.h: any socket, whatever its cookie. */
const INET_DIAG_NOCOOKIE = 0xffff_ffff;

export interface BoundSocket {
  readonly protocol: 'udp' | 'tcp';
  readonly address: Uint8Array | null;
  readonly port: number;
  readonly uid: number;
  /** Its number in the links of /proc/PID/fd. */
  readonly inode: number;
  /** The kernel's name of a socket, never given twice (SO_COOKIE). */
  readonly cookie: bigint;
}

interface QueryHeader {
  readonly family: number;
  readonly protocol: number;
  /** A bit for each state. */
  readonly states: number;
  readonly port: number;
  readonly cookieLow: number;
  readonly cookieHigh: number;
}

interface SocketHeader {
  readonly family: number;
  readonly port: number;
  readonly cookieLow: number;
  readonly cookieHigh: number;
  readonly uid: number;
  readonly inode: number;
}

type NoAttributes = Readonly<Record<never, never>>;

/** struct inet_diag_req_v2 */
const queryFormat: MessageFormat<QueryHeader, NoAttributes> = {
  header: {
    bytes: 56,
    members: {
      family: ['u8', 0],
      protocol: ['u8', 1],
      states: ['u32', 4],
      port: ['be16', 8],
      cookieLow: ['u32', 48],
      cookieHigh: ['u32', 52],
    },
  },
  attributes: attributeTable<NoAttributes>({}),
};

/** struct inet_diag_msg */
const socketFormat: MessageFormat<SocketHeader, NoAttributes> = {
  header: {
    bytes: 72,
    members: {
      family: ['u8', 0],
      port: ['be16', 4],
      cookieLow: ['u32', 44],
      cookieHigh: ['u32', 48],
      uid: ['u32', 64],
      inode: ['u32', 68],
    },
  },
  attributes: attributeTable<NoAttributes>({}),
};
/** Offset of the own address in struct inet_diag_msg. */
const addressOffset = 8;

export class SocketDiagnostics implements Disposable {
  readonly #connection = new NetlinkConnection(netlinkProtocol.SOCK_DIAG);

  /** Unconnected UDP and listening TCP sockets at `port`, both families. @throws NetlinkError */
  async boundTo(port: number): Promise<readonly BoundSocket[]> {
    const found: BoundSocket[] = [];
    for (const family of [AF_INET, AF_INET6]) {
      for (const protocol of ['udp', 'tcp'] as const) {
        found.push(...(await this.#query(family, protocol, port)));
      }
    }
    return found;
  }

  close(): void {
    this.#connection.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  async #query(
    family: number,
    protocol: BoundSocket['protocol'],
    port: number,
  ): Promise<readonly BoundSocket[]> {
    const isUdp = protocol === 'udp';
    const payload = encodeMessage(
      queryFormat,
      {
        family,
        protocol: isUdp ? IPPROTO_UDP : IPPROTO_TCP,
        states: 1 << (isUdp ? TCP_CLOSE : TCP_LISTEN),
        port,
        cookieLow: INET_DIAG_NOCOOKIE,
        cookieHigh: INET_DIAG_NOCOOKIE,
      },
      {},
    );
    const attempt = `list ${protocol} sockets at port ${port}`;
    try {
      const type = SOCK_DIAG_BY_FAMILY;
      return await this.#connection.dump({ attempt, type, payload }, (message) =>
        decodeSocket(protocol, port, message.payload),
      );
    } catch (error) {
      const isAbsent = error instanceof NetlinkError && error.errno === ENOENT;
      // A kernel without IPv6 has no such sockets; one without sock_diag of IPv4 cannot list them.
      if (isAbsent && family === AF_INET6) return [];
      throw error;
    }
  }
}

/** Null: malformed, or at another port. */
export function decodeSocket(
  protocol: BoundSocket['protocol'],
  port: number,
  payload: Uint8Array,
): BoundSocket | null {
  const decoded = decodeMessage(socketFormat, payload);
  if (!decoded.ok || decoded.value.header.port !== port) return null;
  const { family, cookieLow, cookieHigh, uid, inode } = decoded.value.header;
  const length = family === AF_INET ? 4 : 16;
  const address = fromKernel(family, payload.slice(addressOffset, addressOffset + length));
  const cookie = (BigInt(cookieHigh) << 32n) | BigInt(cookieLow);
  return { protocol, address, port, uid, inode, cookie };
}
