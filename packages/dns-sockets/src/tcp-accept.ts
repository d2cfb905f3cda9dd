// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Accepts TCP connections without reading them: an accepted one is a file descriptor until a socket is made
 * of it (`new net.Socket({ fd: releaseFd(fd) })`), so that many can wait at the cost of a descriptor each.
 */

import { attempt, DnsSocketError } from './errors.ts';
import { closeFd } from './fd.ts';
import { native } from './native.ts';

// As DS_UNIX_* in native/dns_sockets.h.
const eventError = 2;
const eventConnection = 3;

export interface AcceptedTcp {
  /** Close-on-exec, non-blocking; the package's until `closeFd`, `resetTcp` or `releaseFd`. */
  readonly fd: number;
  /** The peer's address and the local one, 16 bytes each, IPv4 as ::ffff:a.b.c.d. */
  readonly addresses: Uint8Array;
  readonly peerPort: number;
}

export interface AcceptEvents {
  readonly onConnection: (connection: AcceptedTcp) => void;
  /** accept failed; EMFILE: the connection was refused. */
  readonly onError: (errno: number) => void;
}

/**
 * Accepts on a listening TCP socket, by a duplicate of `fd`, at most 128 connections a turn of the event loop.
 * Returns what stops it.
 * @throws DnsSocketError: EPROTOTYPE (no listening TCP socket)
 */
export function acceptTcp(fd: number, events: AcceptEvents): () => void {
  const onEvent = (event: number, value: unknown): void => {
    if (event === eventError) events.onError(value as number);
    if (event !== eventConnection) return;
    const connection = describe(value as number);
    if (connection !== null) events.onConnection(connection);
  };
  const id = attempt(() => native.tcpListen(fd, onEvent));
  return () => native.unixClose(id);
}

/**
 * Has the close of the last descriptor end the connection with RST: of what was written nothing more is sent. `fd`: any open socket;
 * needs no descriptor of its own. @throws DnsSocketError: EBADF, ENOTSOCK
 */
export function resetOnClose(fd: number): void {
  attempt(() => native.tcpResetOnClose(fd));
}

/** Closes the connection with RST, whatever is unread. @throws DnsSocketError (EBADF) if it is not ours */
export function resetTcp(fd: number): void {
  resetOnClose(fd);
  closeFd(fd);
}

/** Null, and the descriptor closed, when the peer is gone already. */
function describe(fd: number): AcceptedTcp | null {
  const addresses = new Uint8Array(32);
  try {
    const peerPort = attempt(() => native.tcpAddresses(fd, addresses));
    return { fd, addresses, peerPort };
  } catch (error) {
    closeFd(fd);
    if (error instanceof DnsSocketError) return null;
    throw error;
  }
}
