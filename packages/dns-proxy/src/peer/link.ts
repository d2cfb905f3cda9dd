// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The link between the DNS workers of the two processes: a unix socket over which each sends its listeners. Its end reports the
 * death of the other process, as soon as the kernel has closed that process's sockets. The agent listens, because the directory is
 * its own; the proxy connects, and never stops trying.
 */

import { chownSync, existsSync } from 'node:fs';
import { DnsSocketError } from '@tandem/dns-sockets/errors';
import { closeFd } from '@tandem/dns-sockets/fd';
import {
  type PeerCredentials,
  type UnixConnectionHandlers,
  type UnixMessage,
  UnixSeqpacket,
  type UnixSeqpacketServer,
} from '@tandem/dns-sockets/unix-seqpacket';
import { peerCheckMs, peerConnectionsMax, peerRetryMsMax, peerRetryMsMin } from '../limits.ts';
import { decodeHello, encodeHello, type Hello } from './hello.ts';

export interface PeerLinkOptions {
  readonly path: string;
  readonly role: 'listen' | 'connect';
  /** Index of this member. */
  readonly member: number;
  /** Uids that may connect, and the group that the socket is shared with. */
  readonly allowedUids: readonly number[];
  readonly groupId: number;
  /** This member's listeners, by td_listener_kind. */
  readonly listeners: () => readonly number[];
  /**
   * A life of another member said hello; its descriptors are the callee's. `holdsOurs`: our listeners were sent to it;
   * else it has died since.
   */
  readonly onLinked: (hello: Hello, holdsOurs: boolean) => void;
  /** That life closed the link or died. */
  readonly onLost: (member: number) => void;
  readonly onRefused: () => void;
}

interface Connection {
  socket: UnixSeqpacket | null;
  /** -1 before its hello. */
  member: number;
  /** Our hello was sent. */
  isSent: boolean;
}

export class PeerLink {
  readonly #o: PeerLinkOptions;
  readonly #connections = new Set<Connection>();
  #server: UnixSeqpacketServer | null = null;
  #timer: NodeJS.Timeout | null = null;
  #retryMs = peerRetryMsMin;
  #isStopped = false;

  constructor(options: PeerLinkOptions) {
    this.#o = options;
  }

  start(): void {
    if (this.#isStopped) return;
    try {
      if (this.#o.role === 'listen') this.#listen();
      else this.#connect();
    } catch {
      // Nobody listens yet, or an older life still does.
      this.#startLater();
    }
  }

  stop(): void {
    this.#isStopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#server?.close();
    for (const { socket } of this.#connections) socket?.close();
    this.#connections.clear();
  }

  #startLater(): void {
    this.#timer = setTimeout(() => this.start(), this.#retryMs);
    this.#retryMs = Math.min(this.#retryMs * 2, peerRetryMsMax);
  }

  #listen(): void {
    const { path, groupId } = this.#o;
    this.#server = UnixSeqpacket.listen(path, {
      mode: 0o660,
      onConnection: (peer) => this.#accept(peer),
    });
    // Until here only root could connect; others try again.
    chownSync(path, -1, groupId);
    this.#checkLater();
  }

  /** A socket that was removed with its directory is made anew; connections over it live on. */
  #checkLater(): void {
    this.#timer = setTimeout(() => {
      if (existsSync(this.#o.path)) {
        this.#checkLater();
        return;
      }
      this.#server?.close();
      this.#server = null;
      this.start();
    }, peerCheckMs);
  }

  #accept({ uid }: PeerCredentials): UnixConnectionHandlers | null {
    if (!this.#o.allowedUids.includes(uid) || this.#connections.size >= peerConnectionsMax) {
      this.#o.onRefused();
      return null;
    }
    const connection: Connection = { socket: null, member: -1, isSent: false };
    return {
      ...this.#handlers(connection),
      onOpen: (socket) => this.#open(connection, socket),
    };
  }

  #connect(): void {
    const connection: Connection = { socket: null, member: -1, isSent: false };
    this.#open(connection, UnixSeqpacket.connect(this.#o.path, this.#handlers(connection)));
  }

  #open(connection: Connection, socket: UnixSeqpacket): void {
    connection.socket = socket;
    this.#connections.add(connection);
    try {
      const { member, listeners } = this.#o;
      const hello = encodeHello({ member, listeners: listeners() });
      connection.isSent = socket.send(hello.bytes, hello.fds);
    } catch (error) {
      // A process that has died since it connected has left its hello, which is read before the end is.
      if (!isOver(error)) this.#end(connection);
    }
  }

  #handlers(connection: Connection): UnixConnectionHandlers {
    return {
      onMessage: (message) => this.#onMessage(connection, message),
      onEnd: () => this.#end(connection),
    };
  }

  #onMessage(connection: Connection, message: UnixMessage): void {
    const hello = connection.member === -1 ? decodeHello(message, this.#o.member) : null;
    if (hello === null) {
      // No hello, or more than one: whoever speaks so is not this program.
      for (const fd of message.fds) closeFd(fd);
      this.#o.onRefused();
      this.#end(connection);
      return;
    }
    connection.member = hello.member;
    this.#retryMs = peerRetryMsMin;
    this.#o.onLinked(hello, connection.isSent);
  }

  /** A later connection of the same member may have taken this one's place: then nobody is lost. */
  #end(connection: Connection): void {
    if (!this.#connections.delete(connection)) return;
    connection.socket?.close();
    const { member } = connection;
    const others = [...this.#connections];
    if (member !== -1 && !others.some((other) => other.member === member)) this.#o.onLost(member);
    if (this.#o.role === 'connect' && !this.#isStopped) this.#startLater();
  }
}

function isOver(error: unknown): boolean {
  const name = error instanceof DnsSocketError ? error.errnoName : '';
  return name === 'EPIPE' || name === 'ECONNRESET';
}
