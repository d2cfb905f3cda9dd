// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The group's listening sockets: shared, transparent, guarded by a mark. */

import { attempt } from './errors.ts';
import * as limits from './limits.ts';
import { native } from './native.ts';

export interface ListenerOptions {
  readonly family: 4 | 6;
  readonly protocol: 'udp' | 'tcp';
  /** Port P of the redirect; 0 lets the kernel choose (tests). */
  readonly port: number;
  /** SO_MARK of everything the socket sends; accepted TCP connections inherit it. */
  readonly mark: number;
  /** Bits of a packet's mark that the guard looks at; 0 switches the guard off (tests). */
  readonly markMask: number;
  /** The guard drops packets unless `(mark & markMask) == redirectMark`. */
  readonly redirectMark: number;
  /**
   * Uid of the socket, set before bind: the kernel shares a port only among sockets of one uid.
   * Default: the uid of the process. Another one needs CAP_CHOWN.
   */
  readonly ownerUid?: number;
  /** Receive and send buffer of UDP sockets; over net.core.rmem_max it needs CAP_NET_ADMIN. */
  readonly receiveBufferBytes?: number;
  /** Connections that wait to be accepted. */
  readonly backlog?: number;
  /** A TCP connection is over when its peer has acknowledged nothing, or taken nothing, for so long; also after it was closed here. */
  readonly unackedMs?: number;
}

/**
 * A nonblocking, close-on-exec socket bound to the wildcard address with SO_REUSEPORT,
 * IP(V6)_TRANSPARENT, IPV6_V6ONLY, and for UDP the original destination and interface of each
 * datagram. Mark guard and owner are set before bind, so the socket is never open to others.
 * UDP: `UdpLoop.add(fd, 'listener')`. TCP: `server.listen({ fd: releaseFd(fd) })`; a connection's
 * `localAddress` is the original destination.
 *
 * @returns the fd; ours until `closeFd` or `releaseFd`
 * @throws DnsSocketError: EADDRINUSE (port taken, or by another uid), EPERM (needs CAP_NET_RAW and
 *   CAP_BPF, or CAP_NET_ADMIN)
 */
export function createListener(options: ListenerOptions): number {
  return attempt(() =>
    native.createListener(
      options.family === 6 ? 1 : 0,
      options.protocol === 'tcp' ? 1 : 0,
      options.port,
      options.mark,
      options.markMask,
      options.redirectMark,
      options.ownerUid ?? null,
      options.receiveBufferBytes ?? limits.socketBufferBytes,
      options.backlog ?? limits.tcpBacklog,
      options.unackedMs ?? limits.tcpUnackedMs,
    ),
  );
}

/**
 * Gives a listener another guard, at once and without a packet between the two. Connections that were
 * accepted keep theirs.
 * @throws DnsSocketError (EBADF) if `fd` is not ours
 */
export function guardListener(
  fd: number,
  { markMask, redirectMark }: Pick<ListenerOptions, 'markMask' | 'redirectMark'>,
): void {
  attempt(() => native.guardListener(fd, markMask, redirectMark));
}

/**
 * Makes room in the socket behind a descriptor, also when it is another process's that was refused it: over
 * net.core.rmem_max it takes CAP_NET_ADMIN of the caller. Whether there is that much room now; of what is no socket, false.
 */
export function enlargeBuffers(fd: number, bytes: number = limits.socketBufferBytes): boolean {
  return attempt(() => native.enlargeBuffers(fd, bytes));
}
