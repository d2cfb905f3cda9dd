// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The link between the DNS workers of the two processes: a unix socket over which each sends its listeners. Its end reports the
 * death of the other process, as soon as the kernel has closed that process's sockets. The agent listens, because the directory is
 * its own; the proxy connects, and never stops trying.
 */

import type { GroupIndex } from '@tandem/core/ids';
import { DnsSocketError } from '@tandem/dns-sockets/errors';
import type { PeerCredentials, UnixMessage } from '@tandem/dns-sockets/unix-seqpacket';
import { peerCheckMs, peerConnectionsMax, peerRetryMsMax, peerRetryMsMin } from '../limits.ts';
import { decodeHeavy, decodeHello, encodeHeavy, encodeHello, type Hello } from './hello.ts';
import type { PeerHandlers, PeerServer, PeerSocket, PeerSockets } from './peer-sockets.ts';

/** Takes further listeners of a run, of the kinds from TD_KINDS on; the callee closes them. */
export type TakeHeavy = (listeners: readonly number[]) => void;

export interface PeerLinkOptions {
  readonly sockets: PeerSockets;
  /** Calls `work` once, `ms` from now. */
  readonly after: (ms: number, work: () => void) => void;
  readonly closeFd: (fd: number) => void;
  readonly role: 'listen' | 'connect';
  /** Index of this member. */
  readonly member: GroupIndex;
  /** Uids that may connect. */
  readonly allowedUids: readonly number[];
  /** This member's listeners, by td_listener_kind. */
  readonly listeners: () => readonly number[];
  /**
   * A run of another member sent its hello; the callee closes its descriptors. `holdsOurs`: it has our listeners, or will
   * have them when it reads; else it has died since. Returns the function that takes the listeners for pods that ask much, if they come.
   */
  readonly onLinked: (hello: Hello, holdsOurs: boolean) => TakeHeavy;
  /** The other process closed the link or died. */
  readonly onLost: (member: GroupIndex) => void;
  readonly onRefused: () => void;
}

interface Connection {
  socket: PeerSocket | null;
  /** -1 before its hello. */
  member: GroupIndex;
  /** All that we have to say was sent. */
  isSent: boolean;
  /** Until it was called. */
  takeHeavy: TakeHeavy | null;
}

const newConnection = (): Connection => ({
  socket: null,
  member: -1,
  isSent: false,
  takeHeavy: null,
});

export class PeerLink {
  readonly #o: PeerLinkOptions;
  readonly #connections = new Set<Connection>();
  #server: PeerServer | null = null;
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
      // No process listens yet, or an older run still does.
      this.#startLater();
    }
  }

  stop(): void {
    this.#isStopped = true;
    this.#server?.close();
    for (const { socket } of this.#connections) socket?.close();
    this.#connections.clear();
  }

  #startLater(): void {
    this.#o.after(this.#retryMs, () => this.start());
    this.#retryMs = Math.min(this.#retryMs * 2, peerRetryMsMax);
  }

  #listen(): void {
    this.#server = this.#o.sockets.listen((peer) => this.#accept(peer));
    this.#checkLater();
  }

  /** A socket that was removed with its directory is made again; its connections stay open. */
  #checkLater(): void {
    this.#o.after(peerCheckMs, () => {
      if (this.#isStopped) return;
      if (this.#server?.isReachable() === true) {
        this.#checkLater();
        return;
      }
      this.#server?.close();
      this.#server = null;
      this.start();
    });
  }

  #accept({ uid }: PeerCredentials): PeerHandlers | null {
    if (!this.#o.allowedUids.includes(uid) || this.#connections.size >= peerConnectionsMax) {
      this.#o.onRefused();
      return null;
    }
    const connection = newConnection();
    return {
      ...this.#handlers(connection),
      onOpen: (socket) => this.#open(connection, socket),
    };
  }

  #connect(): void {
    const connection = newConnection();
    this.#open(connection, this.#o.sockets.connect(this.#handlers(connection)));
  }

  #open(connection: Connection, socket: PeerSocket): void {
    connection.socket = socket;
    this.#connections.add(connection);
    try {
      const { member, listeners } = this.#o;
      const hello = encodeHello(member, listeners());
      connection.isSent = socket.send(hello.bytes, hello.fds);
    } catch (error) {
      // A process that has died since it connected has left its hello, which is read before the end is.
      if (!isOver(error)) this.#end(connection);
    }
  }

  #handlers(connection: Connection): PeerHandlers {
    return {
      onMessage: (message) => this.#onMessage(connection, message),
      onEnd: () => this.#end(connection),
    };
  }

  #onMessage(connection: Connection, message: UnixMessage): void {
    if (connection.takeHeavy !== null) {
      const heavy = decodeHeavy(message, connection.member);
      if (heavy !== null) {
        connection.takeHeavy(heavy);
        connection.takeHeavy = null;
        return;
      }
    }
    const hello = connection.member === -1 ? decodeHello(message, this.#o.member) : null;
    if (hello === null) {
      // No hello, or more than one: the sender is not this program.
      for (const fd of message.fds) this.#o.closeFd(fd);
      this.#o.onRefused();
      this.#end(connection);
      return;
    }
    connection.member = hello.member;
    this.#retryMs = peerRetryMsMin;
    if (hello.takesHeavy) this.#sendHeavy(connection);
    connection.takeHeavy = this.#o.onLinked(hello, connection.isSent);
  }

  /** A process that has died since its hello needs none: its end comes. */
  #sendHeavy(connection: Connection): void {
    const { member, listeners } = this.#o;
    const heavy = encodeHeavy(member, listeners());
    if (heavy === null || !connection.isSent) return;
    try {
      connection.isSent = connection.socket?.send(heavy.bytes, heavy.fds) ?? false;
    } catch (error) {
      connection.isSent = false;
      if (!isOver(error)) throw error;
    }
  }

  /** A later connection of the same member may have replaced this one: then its end is no loss. */
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
