// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * UDP sockets to the servers that pods ask: up to 64 per server, connected, each with a random port. A batch uses one random socket
 * per server, so that replies arrive in batches too.
 *
 * A retired socket sends nothing new, and is closed when its last query in flight ends. A socket is retired after a minute, after
 * an ICMP error, when its server gets other backends, and when it is silent, because a Service's conntrack entry may lead to a
 * backend that is gone. A local redirect may lead to such a pod too, until the agent removes it; so after an error or silence,
 * new sockets bypass redirects for a while.
 */

import { closeFd } from '@tandem/dns-sockets/fd';
import { socketsMax } from '@tandem/dns-sockets/limits';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { createUpstreamUdp } from '@tandem/dns-sockets/upstream';
import {
  upstreamDirectMs,
  upstreamDirectPriority,
  upstreamErrorsInRowMin,
  upstreamProbeMs,
  upstreamSilenceMs,
  upstreamSocketLifetimeMs,
  upstreamSocketsPerServerMax,
  upstreamUnreachableMs,
} from '../limits.ts';
import type { RandomSource } from '../query/random.ts';
import { type ServerOwner, type UpstreamServer, UpstreamServers } from './servers.ts';
import { countedForResolvers, SocketBounds } from './socket-bounds.ts';

interface UpstreamSocket {
  readonly handle: number;
  readonly server: UpstreamServer;
  readonly salt: number;
  readonly expiresMs: number;
  /** The endpoint it is counted for, or `countedForResolvers`. */
  readonly countedFor: number;
  /** What is sent from it is redirected to no pod of the node. */
  readonly isDirect: boolean;
  inFlight: number;
  /** When the last answer came; 0 if none ever did. */
  answeredMs: number;
  /** When the first query was sent after the last answer; 0 when no query waits for an answer. */
  silentSinceMs: number;
  isRetired: boolean;
  /** An error came. */
  hasFailed: boolean;
}

/** What the pool needs of a loop. */
export type UpstreamLoop = Pick<UdpLoop, 'add' | 'remove'>;

export interface UpstreamAddress {
  /** 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
  /** SO_PRIORITY; absent: as of any socket. */
  readonly priority?: number;
}

/** Low bits of a handle: its place among the loop's sockets. */
const handleIndexMask = socketsMax - 1;

export class UdpPool {
  readonly #loop: UpstreamLoop;
  readonly #random: RandomSource;
  readonly #createSocket: (server: UpstreamAddress) => number;
  readonly #closeSocket: (fd: number) => void;
  #heardMs = Infinity;
  readonly #servers: UpstreamServers = new UpstreamServers((server) => this.#closeAll(server));
  readonly #sockets: (UpstreamSocket | undefined)[] = [];
  readonly #bounds = new SocketBounds();

  /** `createSocket` returns a connected socket that the pool closes. */
  constructor(
    loop: UpstreamLoop,
    random: RandomSource,
    createSocket: (server: UpstreamAddress) => number = createUpstreamUdp,
    closeSocket: (fd: number) => void = closeFd,
  ) {
    this.#loop = loop;
    this.#random = random;
    this.#createSocket = createSocket;
    this.#closeSocket = closeSocket;
  }

  /** Whether the handle still names a server. */
  isServer(server: number): boolean {
    return this.#servers.find(server) !== undefined;
  }

  /** Handle of the server with this address (16 bytes), never 0; -1 when a bound refuses it. */
  serverOf(address: Uint8Array, owner: ServerOwner, nowMs: number): number {
    return this.#servers.take(address, owner, nowMs)?.handle ?? -1;
  }

  /** Handle of the server that `serverOf` needs to be forgotten, once its queries are given up; -1: none. */
  silentServerFor(owner: ServerOwner, nowMs: number): number {
    return this.#servers.silentFor(owner, nowMs, this.#heard(nowMs))?.handle ?? -1;
  }

  /** Queries in flight at the server. */
  inFlightAt(serverHandle: number): number {
    return this.#servers.find(serverHandle)?.inFlight ?? 0;
  }

  /** Whether the socket is one of the server's. */
  isSocketOf(handle: number, serverHandle: number): boolean {
    return this.#socketOf(handle)?.server.handle === serverHandle;
  }

  /** Forgets the server; nothing is in flight on its sockets any more. */
  forget(serverHandle: number): void {
    const server = this.#servers.find(serverHandle);
    if (server !== undefined) this.#servers.forget(server);
  }

  /** The socket of this batch to the server: drawn at random, opened when it is not yet; -1 if it can't be. */
  draw(serverHandle: number, batch: number, nowMs: number): number {
    const server = this.#servers.find(serverHandle);
    if (server === undefined) return -1;
    if (server.batch === batch) return server.batchSocket;
    server.usedMs = nowMs;
    const place = this.#random.u16() & (upstreamSocketsPerServerMax - 1);
    let handle = server.sockets[place] as number;
    if (handle === -1) handle = this.#openSocket(server, place, nowMs);
    if (handle === -1) handle = server.sockets.find((open) => open !== -1) ?? -1;
    server.batch = batch;
    server.batchSocket = handle;
    return handle;
  }

  /**
   * The socket for a query that is asked again, which waits on `stale`. A redirect that leads to a pod that is gone takes all
   * sockets but those past it, also one that was answered just before: so it is one of these. -1 if there can be none.
   */
  drawAgain(serverHandle: number, stale: number, batch: number, nowMs: number): number {
    const server = this.#servers.find(serverHandle);
    if (server === undefined) return -1;
    if (this.#socketOf(stale)?.isDirect !== false || server.answeredMs === 0) {
      return this.draw(serverHandle, batch, nowMs);
    }
    server.directUntilMs = nowMs + upstreamDirectMs;
    for (const handle of server.sockets) {
      if (handle !== -1 && this.#socketOf(handle)?.isDirect === true) return handle;
    }
    const place = this.#random.u16() & (upstreamSocketsPerServerMax - 1);
    const taken = this.#socketOf(server.sockets[place] as number);
    if (taken !== undefined) this.#retire(taken);
    const direct = this.#openSocket(server, place, nowMs);
    return direct === -1 ? this.draw(serverHandle, batch, nowMs) : direct;
  }

  saltOf(handle: number): number {
    return this.#socketOf(handle)?.salt ?? 0;
  }

  sent(handle: number, nowMs: number): void {
    const socket = this.#socketOf(handle);
    if (socket === undefined) return;
    const { server } = socket;
    socket.inFlight += 1;
    server.inFlight += 1;
    server.sentMs = nowMs;
    if (socket.silentSinceMs === 0) socket.silentSinceMs = nowMs;
    if (server.silentSinceMs === 0) server.silentSinceMs = nowMs;
  }

  answered(handle: number, nowMs: number): void {
    const socket = this.#socketOf(handle);
    if (socket === undefined) return;
    this.#landed(socket);
    socket.answeredMs = nowMs;
    const { server } = socket;
    server.answeredMs = nowMs;
    server.errorsInRow = 0;
    socket.silentSinceMs = socket.inFlight > 0 ? nowMs : 0;
    server.silentSinceMs = server.inFlight > 0 ? nowMs : 0;
  }

  /** A query on the socket was given up, or is asked again on another. */
  unanswered(handle: number): void {
    const socket = this.#socketOf(handle);
    if (socket !== undefined) this.#landed(socket);
  }

  /**
   * An ICMP error came: nothing more is sent from the socket. If it had answers before, conntrack leads it to a
   * backend that is gone, and perhaps all others that are as old: what is asked now goes by new ones.
   */
  failed(handle: number, nowMs: number): void {
    const socket = this.#socketOf(handle);
    if (socket === undefined || socket.hasFailed) return;
    socket.hasFailed = true;
    const { server } = socket;
    this.#retire(socket);
    if (!socket.isDirect && server.answeredMs !== 0) this.#goDirect(server, nowMs);
    if (socket.answeredMs === 0) {
      server.errorsInRow += 1;
      server.failedMs = nowMs;
      return;
    }
    for (const other of this.#openSockets(server)) {
      if (other.answeredMs !== 0) this.#retire(other);
    }
  }

  /**
   * Whether the server is known to be unreachable: errors in a row without an answer, the last one not long
   * ago, and a query was sent just now to learn when it is back. The kernel of the server, or of a router, sends few
   * ICMP errors a second to one address, and all pods ask with the node's: most queries would meet silence.
   */
  isUnreachable(serverHandle: number, nowMs: number): boolean {
    const server = this.#servers.find(serverHandle);
    if (server === undefined || server.errorsInRow < upstreamErrorsInRowMin) return false;
    if (nowMs - server.failedMs >= upstreamUnreachableMs) return false;
    return nowMs - server.sentMs < upstreamProbeMs;
  }

  /**
   * Whether queries in flight on the socket should be asked again on another: it had answers before and has
   * failed, or is silent while other sockets of its server have answers.
   */
  isStale(handle: number, nowMs: number): boolean {
    const socket = this.#socketOf(handle);
    if (socket === undefined) return false;
    if (socket.hasFailed) {
      // Past redirects it may be answered, by a server that was answered before.
      return socket.answeredMs !== 0 || (!socket.isDirect && socket.server.answeredMs !== 0);
    }
    return isSilent(socket, this.#heard(nowMs)) && socket.server.answeredMs > socket.silentSinceMs;
  }

  /** Queries in flight on the socket. */
  inFlightOf(handle: number): number {
    return this.#socketOf(handle)?.inFlight ?? 0;
  }

  /** The server has other backends than before: nothing more is sent from its sockets. */
  backendsChanged(address: Uint8Array): void {
    for (const server of this.#servers.byAddress(address)) {
      server.directUntilMs = 0;
      for (const socket of this.#openSockets(server)) this.#retire(socket);
    }
  }

  /** Retires sockets past their life and silent ones, closes retired ones with nothing in flight. */
  sweep(nowMs: number): void {
    for (const socket of this.#sockets) {
      if (socket === undefined) continue;
      if (!socket.isRetired) {
        if (nowMs >= socket.expiresMs) this.#retire(socket);
        else if (isSilent(socket, this.#heard(nowMs))) this.#suspect(socket, nowMs);
      }
      if (socket.isRetired && socket.inFlight <= 0) this.#close(socket);
    }
    this.#servers.sweep(nowMs);
  }

  /** All that came to the sockets before then has been read. */
  heardUntil(ms: number): void {
    this.#heardMs = ms;
  }

  /** Silence is told by it: answers that came while the process was stopped lie unread in sockets that look silent. */
  #heard(nowMs: number): number {
    return Math.min(nowMs, this.#heardMs);
  }

  get openSockets(): number {
    return this.#bounds.open;
  }

  get servers(): number {
    return this.#servers.size;
  }

  close(): void {
    for (const socket of this.#sockets) {
      if (socket !== undefined) this.#close(socket);
    }
  }

  /**
   * The socket is silent: it is retired, and those of its server on which nothing was answered meanwhile.
   * While the endpoint has many sockets open, a silent one is used on: its server may just be silent.
   */
  #suspect(silent: UpstreamSocket, nowMs: number): void {
    const { server } = silent;
    if (!silent.isDirect && server.answeredMs !== 0)
      server.directUntilMs = nowMs + upstreamDirectMs;
    for (const socket of this.#openSockets(server)) {
      if (socket.answeredMs >= silent.silentSinceMs) continue;
      if (this.#bounds.isBusy(socket.countedFor)) return;
      this.#retire(socket);
    }
  }

  /** Nothing more is sent from sockets that a redirect may lead to a pod that is gone. */
  #goDirect(server: UpstreamServer, nowMs: number): void {
    server.directUntilMs = nowMs + upstreamDirectMs;
    for (const socket of this.#openSockets(server)) {
      if (!socket.isDirect) this.#retire(socket);
    }
  }

  #openSockets(server: UpstreamServer): UpstreamSocket[] {
    const sockets: UpstreamSocket[] = [];
    for (const handle of server.sockets) {
      const socket = handle === -1 ? undefined : this.#socketOf(handle);
      if (socket !== undefined) sockets.push(socket);
    }
    return sockets;
  }

  /** The socket of a handle; undefined when the handle's place belongs to a later socket by now. */
  #socketOf(handle: number): UpstreamSocket | undefined {
    const socket = this.#sockets[handle & handleIndexMask];
    return socket?.handle === handle ? socket : undefined;
  }

  #landed(socket: UpstreamSocket): void {
    socket.inFlight -= 1;
    socket.server.inFlight -= 1;
    if (socket.inFlight === 0) socket.silentSinceMs = 0;
    if (socket.server.inFlight === 0) socket.server.silentSinceMs = 0;
  }

  #openSocket(server: UpstreamServer, place: number, nowMs: number): number {
    const countedFor = server.isResolver ? countedForResolvers : server.endpointId;
    if (!this.#bounds.hasRoom(countedFor) && !this.#hasRoomForFirst(server, countedFor)) return -1;
    let handle: number;
    const isDirect = nowMs < server.directUntilMs;
    try {
      const fd = this.#createSocket({
        ...{ address: server.address, port: 53 },
        ...(isDirect ? { priority: upstreamDirectPriority } : {}),
      });
      try {
        handle = this.#loop.add(fd, 'connected');
      } finally {
        this.#closeSocket(fd); // the loop has its own
      }
    } catch {
      // No route, no free port, no descriptors: the caller counts it and answers SERVFAIL.
      return -1;
    }
    // Lives differ, so that sockets opened in one burst do not end in one.
    const life =
      upstreamSocketLifetimeMs / 2 + (this.#random.u16() / 65_536) * upstreamSocketLifetimeMs;
    this.#sockets[handle & handleIndexMask] = {
      handle,
      server,
      salt: this.#random.u16(),
      expiresMs: isDirect ? server.directUntilMs : nowMs + life,
      ...{ countedFor, isDirect },
      inFlight: 0,
      answeredMs: 0,
      silentSinceMs: 0,
      isRetired: false,
      hasFailed: false,
    };
    server.sockets[place] = handle;
    server.open += 1;
    this.#bounds.opened(countedFor);
    return handle;
  }

  /**
   * A server without a socket that may be used has the place of an idle one of the same owner, or one beyond the
   * bound: all the others may be busy with servers that do not answer.
   */
  #hasRoomForFirst(server: UpstreamServer, countedFor: number): boolean {
    if (server.sockets.some((open) => open !== -1)) return false;
    return this.#closeIdle(countedFor) || this.#bounds.hasSpare(countedFor);
  }

  /** Closes a socket of the same owner with nothing in flight; false if there is none. */
  #closeIdle(countedFor: number): boolean {
    for (const socket of this.#sockets) {
      if (socket === undefined || socket.countedFor !== countedFor || socket.inFlight > 0) continue;
      this.#close(socket);
      return true;
    }
    return false;
  }

  #retire(socket: UpstreamSocket): void {
    socket.isRetired = true;
    const { server, handle } = socket;
    const place = server.sockets.indexOf(handle);
    if (place !== -1) server.sockets[place] = -1;
    if (server.batchSocket === handle) server.batch = -1;
  }

  #close(socket: UpstreamSocket): void {
    this.#retire(socket);
    this.#loop.remove(socket.handle);
    this.#sockets[socket.handle & handleIndexMask] = undefined;
    const { server, countedFor } = socket;
    server.open -= 1;
    this.#bounds.closed(countedFor);
  }

  /** The server is forgotten; nothing is in flight on its sockets. */
  #closeAll(server: UpstreamServer): void {
    for (const socket of this.#sockets) {
      if (socket?.server === server) this.#close(socket);
    }
  }
}

function isSilent({ silentSinceMs }: UpstreamSocket, heardMs: number): boolean {
  return silentSinceMs !== 0 && heardMs - silentSinceMs >= upstreamSilenceMs;
}
