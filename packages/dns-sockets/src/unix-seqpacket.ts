// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * SOCK_SEQPACKET unix sockets: whole messages, file descriptors, the peer's credentials, and its
 * death as an event within about a millisecond. The members' link is made of them.
 */

import { getSystemErrorName } from 'node:util';
import { attempt, DnsSocketError } from './errors.ts';
import * as limits from './limits.ts';
import { native } from './native.ts';

// As DS_UNIX_* in native/dns_sockets.h.
const eventMessage = 0;
const eventEnd = 1;
const eventError = 2;
const eventConnection = 3;

export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/**
 * Credentials of the process that connected (or listened): SO_PEERCRED of any unix socket's fd, fixed at connect time.
 * @throws DnsSocketError
 */
export function peerCredentials(fd: number): PeerCredentials {
  const [pid, uid, gid] = attempt(() => native.peerCredentials(fd));
  return { pid, uid, gid };
}

export interface UnixMessage {
  readonly bytes: Uint8Array;
  /** Received descriptors, close-on-exec; ours until `closeFd` or `releaseFd`. */
  readonly fds: readonly number[];
}

export interface UnixSeqpacketEvents {
  readonly onMessage: (message: UnixMessage) => void;
  /** The peer closed or died; the connection has closed itself. */
  readonly onEnd: () => void;
  /** A message was too long or carried too many fds (EMSGSIZE); onEnd follows. */
  readonly onError?: (error: DnsSocketError) => void;
}

export interface UnixListenOptions {
  /** Permission bits of the path, never wider for a moment. */
  readonly mode: number;
  readonly backlog?: number;
  /** Handlers for a new connection; null refuses it. */
  readonly onConnection: (peer: PeerCredentials) => UnixConnectionHandlers | null;
  /** accept failed; EMFILE: the connection was refused. */
  readonly onError?: (error: DnsSocketError) => void;
}

export interface UnixConnectionHandlers extends UnixSeqpacketEvents {
  readonly onOpen?: (connection: UnixSeqpacket) => void;
}

export interface UnixSeqpacketServer extends Disposable {
  /** Stops listening and removes the path; connections live on. Idempotent. */
  close(): void;
}

function errorOf(errno: number, what: string): DnsSocketError {
  const errnoName = getSystemErrorName(-errno);
  return new DnsSocketError(`${what}: ${errnoName}`, {
    code: 'TANDEM_SOCKET_SYSTEM',
    errno,
    errnoName,
    syscall: what,
  });
}

export class UnixSeqpacket implements Disposable {
  readonly #id: number;

  private constructor(
    open: (onEvent: (event: number, a: unknown, b: unknown) => void) => number,
    events: UnixSeqpacketEvents,
  ) {
    this.#id = attempt(() =>
      open((event, first, second) => {
        if (event === eventMessage) {
          events.onMessage({
            bytes: new Uint8Array(first as ArrayBuffer),
            fds: second as number[],
          });
        } else if (event === eventEnd) {
          events.onEnd();
        } else if (event === eventError) {
          events.onError?.(errorOf(first as number, 'recvmsg'));
        }
      }),
    );
  }

  /** @throws DnsSocketError: ENOENT, ECONNREFUSED (no process listens), EACCES */
  static connect(path: string, events: UnixSeqpacketEvents): UnixSeqpacket {
    return new UnixSeqpacket((onEvent) => native.unixConnect(path, onEvent), events);
  }

  /** Takes over a connected fd that this package owns (received from a peer). */
  static adopt(fd: number, events: UnixSeqpacketEvents): UnixSeqpacket {
    return new UnixSeqpacket((onEvent) => native.unixAdopt(fd, onEvent), events);
  }

  /**
   * Listens on `path`; replaces a socket file on which no process listens any more.
   * @throws DnsSocketError: EADDRINUSE (a process listens), EACCES
   */
  static listen(path: string, options: UnixListenOptions): UnixSeqpacketServer {
    const accept = (fd: number): void => {
      let handlers: UnixConnectionHandlers | null = null;
      try {
        handlers = options.onConnection(peerCredentials(fd));
      } finally {
        if (handlers === null) native.closeFd(fd);
      }
      if (handlers === null) return;
      const connection = UnixSeqpacket.adopt(fd, handlers);
      handlers.onOpen?.(connection);
    };
    const onEvent = (event: number, first: unknown): void => {
      if (event === eventConnection) accept(first as number);
      else if (event === eventError) options.onError?.(errorOf(first as number, 'accept4'));
    };
    const backlog = options.backlog ?? limits.unixBacklog;
    const id = attempt(() => native.unixListen(path, options.mode, backlog, onEvent));
    const close = (): void => native.unixClose(id);
    return { close, [Symbol.dispose]: close };
  }

  /**
   * Sends one message of 1..unixMessageBytesMax bytes with up to unixFdsMax descriptors (which stay
   * the caller's).
   * @returns false if the peer does not read and its queue is full: nothing was sent
   * @throws DnsSocketError: EPIPE (closed), EBADF (an fd is not open)
   */
  send(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    return attempt(() => native.unixSend(this.#id, bytes, fds));
  }

  /** No event follows. Idempotent. */
  close(): void {
    native.unixClose(this.#id);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
