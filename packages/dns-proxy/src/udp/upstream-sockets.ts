// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The table of sockets to servers: which are open, the owner that each counts for, and which are retired. `UdpPool`
 * (upstream.ts) decides which one is used and when one is retired.
 */

import type { Flavored } from '@tandem/core/brand';
import { socketsMax } from '@tandem/dns-sockets/limits';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { upstreamDirectPriority, upstreamSocketLifetimeMs } from '../limits.ts';
import type { RandomSource } from '../query/random.ts';
import type { UpstreamServer } from './servers.ts';
import { countedForOf, SocketBounds } from './socket-bounds.ts';

/** Handle of an upstream socket in its loop, never 0; -1: none. A server's handle is another number. */
export type SocketHandle = Flavored<'SocketHandle'>;

export interface UpstreamSocket {
  readonly handle: SocketHandle;
  readonly server: UpstreamServer;
  readonly salt: number;
  readonly expiresMs: number;
  /** The endpoint it is counted for, or `countedForResolvers`; its policy is the server's. */
  readonly countedFor: number;
  /** Its datagrams are not redirected to a pod of the node. */
  readonly isDirect: boolean;
  inFlight: number;
  /** When the last answer came; 0 if none ever did. */
  answeredMs: number;
  /** When the first query was sent after the last answer; 0 when no query waits for an answer. */
  silentSinceMs: number;
  isRetired: boolean;
  /** An error came. */
  hasFailed: boolean;
  /** The node's netfilter dropped what it sent. */
  isDropped: boolean;
}

/** The part of a loop that the pool uses. */
export type UpstreamLoop = Pick<UdpLoop<SocketHandle>, 'add' | 'remove'>;

export interface UpstreamAddress {
  /** 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
  /** SO_PRIORITY; absent: as of any socket. */
  readonly priority?: number;
}

/** Low bits of a handle: its place among the loop's sockets. */
const handleIndexMask = socketsMax - 1;

export interface SocketMaker {
  readonly loop: UpstreamLoop;
  readonly random: RandomSource;
  /** Gives a connected socket, which is closed here. */
  readonly createSocket: (server: UpstreamAddress) => number;
  readonly closeSocket: (fd: number) => void;
}

export class UpstreamSockets {
  readonly #o: SocketMaker;
  readonly #sockets: (UpstreamSocket | undefined)[] = [];
  readonly #bounds = new SocketBounds();

  constructor(options: SocketMaker) {
    this.#o = options;
  }

  get open(): number {
    return this.#bounds.open;
  }

  /** In the order of their places; some may be undefined. */
  get all(): readonly (UpstreamSocket | undefined)[] {
    return this.#sockets;
  }

  /** The owner has so many sockets open that silent ones are used on. */
  isBusy(countedFor: number): boolean {
    return this.#bounds.isBusy(countedFor);
  }

  /** Sockets of the server that are not retired. */
  ofServer(server: UpstreamServer): UpstreamSocket[] {
    const sockets: UpstreamSocket[] = [];
    for (const handle of server.sockets) {
      const socket = handle === -1 ? undefined : this.of(handle);
      if (socket !== undefined) sockets.push(socket);
    }
    return sockets;
  }

  /**
   * The server's socket, not retired, with the newest answer; with `isDirect` only among sockets that bypass redirects.
   * Undefined if no socket had an answer.
   */
  lastAnswered(server: UpstreamServer, isDirect: boolean): UpstreamSocket | undefined {
    let last: UpstreamSocket | undefined;
    for (const handle of server.sockets) {
      const socket = handle === -1 ? undefined : this.of(handle);
      if (socket === undefined || (isDirect && !socket.isDirect)) continue;
      if (socket.answeredMs > (last?.answeredMs ?? 0)) last = socket;
    }
    return last;
  }

  /** The socket of a handle; undefined when the handle's place belongs to a later socket by now. */
  of(handle: SocketHandle): UpstreamSocket | undefined {
    const socket = this.#sockets[handle & handleIndexMask];
    return socket?.handle === handle ? socket : undefined;
  }

  /** Handle of a new socket at this place of the server; -1: there can be none. */
  openAt(server: UpstreamServer, place: number, nowMs: number): number {
    if (!this.#bounds.hasRoom(server) && !this.#hasRoomForFirst(server)) return -1;
    let handle: SocketHandle;
    const isDirect = nowMs < server.directUntilMs;
    try {
      const fd = this.#o.createSocket({
        ...{ address: server.address, port: 53 },
        ...(isDirect ? { priority: upstreamDirectPriority } : {}),
      });
      try {
        // A server that a pod chose may send without end: all others come first.
        handle = this.#o.loop.add(fd, server.isResolver ? 'connected' : 'late');
      } finally {
        this.#o.closeSocket(fd); // the loop has its own
      }
    } catch {
      // No route, no free port, no descriptors: the caller counts it and answers SERVFAIL.
      return -1;
    }
    // Lifetimes differ, so that sockets opened in one burst are not retired in one.
    const life =
      upstreamSocketLifetimeMs / 2 + (this.#o.random.u16() / 65_536) * upstreamSocketLifetimeMs;
    this.#sockets[handle & handleIndexMask] = {
      handle,
      server,
      salt: this.#o.random.u16(),
      expiresMs: isDirect ? server.directUntilMs : nowMs + life,
      ...{ countedFor: countedForOf(server), isDirect },
      inFlight: 0,
      answeredMs: 0,
      silentSinceMs: 0,
      isRetired: false,
      hasFailed: false,
      isDropped: false,
    };
    server.sockets[place] = handle;
    server.open += 1;
    this.#bounds.opened(server);
    return handle;
  }

  /**
   * A server without a socket that may be used has the place of an idle one of the same owner, or one beyond the
   * bounds: all the others may be busy with servers that do not answer.
   */
  #hasRoomForFirst(server: UpstreamServer): boolean {
    if (server.sockets.some((open) => open !== -1)) return false;
    return this.#closeIdle(countedForOf(server)) || this.#bounds.hasSpare(server);
  }

  /** Closes a socket of the same owner with nothing in flight; false if there is none. */
  #closeIdle(countedFor: number): boolean {
    for (const socket of this.#sockets) {
      if (socket === undefined || socket.countedFor !== countedFor || socket.inFlight > 0) continue;
      this.close(socket);
      return true;
    }
    return false;
  }

  /** Nothing more is sent from it. */
  retire(socket: UpstreamSocket): void {
    socket.isRetired = true;
    const { server, handle } = socket;
    const place = server.sockets.indexOf(handle);
    if (place !== -1) server.sockets[place] = -1;
    if (server.batchSocket === handle) server.batch = -1;
  }

  close(socket: UpstreamSocket): void {
    this.retire(socket);
    this.#o.loop.remove(socket.handle);
    this.#sockets[socket.handle & handleIndexMask] = undefined;
    const { server } = socket;
    server.open -= 1;
    this.#bounds.closed(server);
  }

  /** The server is forgotten; nothing is in flight on its sockets. */
  closeAll(server: UpstreamServer): void {
    for (const socket of this.#sockets) {
      if (socket?.server === server) this.close(socket);
    }
  }
}
