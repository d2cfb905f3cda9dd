// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Sockets toward DNS servers. */

import { attempt } from './errors.ts';
import * as limits from './limits.ts';
import { native } from './native.ts';

export interface UpstreamUdpOptions {
  /** Server, 16 bytes in network order, IPv4 as ::ffff:a.b.c.d. */
  readonly address: Uint8Array;
  readonly port: number;
  /** SO_MARK. */
  readonly mark?: number;
  /** SO_PRIORITY, 0 to 6. */
  readonly priority?: number;
  /** Address to send from, 16 bytes; one that is not local needs CAP_NET_RAW or CAP_NET_ADMIN. */
  readonly source?: Uint8Array;
  /** Receive and send buffer; over net.core.rmem_max it needs CAP_NET_ADMIN. */
  readonly bufferBytes?: number;
}

/**
 * A connected UDP socket on a port drawn uniformly by the kernel's random generator from
 * 1024..65535 without net.ipv4.ip_local_reserved_ports (RFC 5452 section 9.2) and the ports of
 * tunnels and some other services of nodes (native/upstream.c). Datagrams that arrived before it was connected are gone. Path MTU discovery is off (IP_PMTUDISC_OMIT).
 *
 * @returns the fd; ours until `closeFd`; for `UdpLoop.add(fd, 'connected')`
 * @throws DnsSocketError: ENETUNREACH (no route), EADDRINUSE (no free port in 256 draws), EPERM (the last of them was refused)
 */
export function createUpstreamUdp(options: UpstreamUdpOptions): number {
  return attempt(() =>
    native.createUpstreamUdp(
      options.address,
      options.port,
      options.mark ?? null,
      options.source ?? null,
      options.bufferBytes ?? limits.socketBufferBytes,
      options.priority ?? null,
    ),
  );
}

export interface UpstreamTcpOptions {
  readonly isIpv6: boolean;
  /** SO_PRIORITY, 0 to 6; also that of the SYN. */
  readonly priority: number;
}

/**
 * A TCP socket, neither bound nor connected, for `new net.Socket({ fd: releaseFd(fd) }).connect(...)`.
 *
 * @returns the fd; ours until `closeFd` or `releaseFd`
 * @throws DnsSocketError: EMFILE, EAFNOSUPPORT (a kernel without the family)
 */
export function createUpstreamTcp({ isIpv6, priority }: UpstreamTcpOptions): number {
  return attempt(() => native.createUpstreamTcp(isIpv6 ? 1 : 0, priority));
}
