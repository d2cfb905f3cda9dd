// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * UDP sockets to the servers that pods ask: up to 64 per server, connected, each with a random port. A batch uses one random socket
 * per server, so that replies arrive in batches too.
 *
 * A retired socket sends nothing new, and is closed when its last query in flight ends. A socket is retired after a minute, after
 * an ICMP error, when its server gets other backends, and when it is silent, because a Service's conntrack entry may lead to a
 * backend that is gone. A local redirect may lead to such a pod too, until the agent removes it; so after an error or silence,
 * new sockets bypass redirects for a while, or until an error comes there too. What the node's netfilter drops (a full conntrack table) retires its own socket alone.
 */

import { closeFd } from '@tandem/dns-sockets/fd';
import { createUpstreamUdp } from '@tandem/dns-sockets/upstream';
import {
  upstreamDirectMs,
  upstreamErrorsInRowMin,
  upstreamProbeMs,
  upstreamSilenceMs,
  upstreamSocketsPerServerMax,
  upstreamTimeoutMs,
  upstreamUnreachableMs,
} from '../limits.ts';
import type { RandomSource } from '../query/random.ts';
import {
  noServer,
  type ServerHandle,
  type ServerOwner,
  type UpstreamServer,
  UpstreamServers,
} from './servers.ts';
import type { SocketHandle } from './upstream-sockets.ts';
import {
  type UpstreamAddress,
  type UpstreamLoop,
  type UpstreamSocket,
  UpstreamSockets,
} from './upstream-sockets.ts';
import { wayAgain } from './way-again.ts';

export class UdpPool {
  readonly #random: RandomSource;
  #isDraining = false;
  #readUntilMs = Infinity;
  readonly #servers: UpstreamServers;
  readonly #sockets: UpstreamSockets;

  /**
   * `createSocket` returns a connected socket that the pool closes. `onResolverEvicted` is called when a resolver of the cluster had to
   * make room for another server.
   */
  constructor(
    loop: UpstreamLoop,
    random: RandomSource,
    createSocket: (server: UpstreamAddress) => number = createUpstreamUdp,
    closeSocket: (fd: number) => void = closeFd,
    onResolverEvicted: () => void = () => undefined,
  ) {
    this.#random = random;
    this.#servers = new UpstreamServers(
      (server) => this.#sockets.closeAll(server),
      onResolverEvicted,
    );
    this.#sockets = new UpstreamSockets({ loop, random, createSocket, closeSocket });
  }

  /** Whether the handle still names a server. */
  isServer(server: ServerHandle): boolean {
    return this.#servers.find(server) !== undefined;
  }

  /** Handle of the server with this address (16 bytes), never 0; -1 when a bound refuses it. */
  serverOf(address: Uint8Array, owner: ServerOwner, nowMs: number): ServerHandle {
    return this.#servers.take(address, owner, nowMs)?.handle ?? noServer;
  }

  /** Handle of the server that `serverOf` needs to be forgotten, once its queries are given up; -1: none. */
  silentServerFor(owner: ServerOwner, nowMs: number): ServerHandle {
    return this.#servers.silentFor(owner, nowMs, this.#readUntil(nowMs))?.handle ?? noServer;
  }

  /** Queries in flight at the server. */
  inFlightAt(serverHandle: ServerHandle): number {
    return this.#servers.find(serverHandle)?.inFlight ?? 0;
  }

  /** Whether the socket is one of the server's. */
  isSocketOf(handle: SocketHandle, serverHandle: ServerHandle): boolean {
    return this.#sockets.of(handle)?.server.handle === serverHandle;
  }

  /** Forgets the server; nothing is in flight on its sockets any more. */
  forget(serverHandle: ServerHandle): void {
    const server = this.#servers.find(serverHandle);
    if (server !== undefined) this.#servers.forget(server);
  }

  /** The socket of this batch to the server: drawn at random, opened when it is not yet; -1 if it can't be. */
  draw(serverHandle: ServerHandle, batch: number, nowMs: number): number {
    const server = this.#servers.find(serverHandle);
    if (server === undefined) return -1;
    if (server.batch === batch) return server.batchSocket;
    server.usedMs = nowMs;
    const place = this.#random.u16() & (upstreamSocketsPerServerMax - 1);
    let handle = server.sockets[place]!;
    if (handle === -1 && !wasDropped(server, nowMs, upstreamProbeMs)) {
      handle = this.#sockets.openAt(server, place, nowMs);
    }
    if (handle === -1) handle = server.sockets.find((open) => open !== -1) ?? -1;
    if (handle === -1) handle = this.#sockets.openAt(server, place, nowMs);
    server.batch = batch;
    server.batchSocket = handle;
    return handle;
  }

  /** The socket for a query that is asked again, which waits on `stale`; -1 if there can be none. See way-again.ts. */
  drawAgain(serverHandle: ServerHandle, stale: number, batch: number, nowMs: number): number {
    const server = this.#servers.find(serverHandle);
    if (server === undefined) return -1;
    const proven = this.#sockets.lastAnswered(server, false);
    const way = wayAgain(server.answeredMs, this.#sockets.of(stale), proven);
    if (way === 'answered') return proven?.handle ?? -1;
    if (way === 'any') return this.draw(serverHandle, batch, nowMs);
    server.directUntilMs = nowMs + upstreamDirectMs;
    const direct = this.#sockets.lastAnswered(server, true);
    return direct?.handle ?? this.#anyDirect(server, batch, nowMs);
  }

  saltOf(handle: SocketHandle): number {
    return this.#sockets.of(handle)?.salt ?? 0;
  }

  sent(handle: SocketHandle, nowMs: number): void {
    const socket = this.#sockets.of(handle);
    if (socket === undefined) return;
    const { server } = socket;
    socket.inFlight += 1;
    server.inFlight += 1;
    server.sentMs = nowMs;
    if (socket.silentSinceMs === 0) socket.silentSinceMs = nowMs;
    if (server.silentSinceMs === 0) server.silentSinceMs = nowMs;
  }

  answered(handle: SocketHandle, nowMs: number): void {
    const socket = this.#sockets.of(handle);
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
  unanswered(handle: SocketHandle): void {
    const socket = this.#sockets.of(handle);
    if (socket !== undefined) this.#landed(socket);
  }

  /**
   * An ICMP error came: nothing more is sent from the socket. If it had answers before, conntrack leads it to a
   * backend that is gone, and perhaps all others that are as old: later queries take new ones.
   */
  failed(handle: SocketHandle, nowMs: number): void {
    const socket = this.#sockets.of(handle);
    if (socket === undefined || socket.hasFailed) return;
    socket.hasFailed = true;
    const { server } = socket;
    this.#sockets.retire(socket);
    if (!socket.isDirect && server.answeredMs !== 0) this.#goDirect(server, nowMs);
    if (socket.isDirect && socket.answeredMs === 0) {
      // No server is there. The usual way may only have been slow, and its own errors say whether the server is down.
      server.directUntilMs = 0;
      return;
    }
    if (socket.answeredMs === 0) {
      server.errorsInRow += 1;
      server.failedMs = nowMs;
      return;
    }
    for (const other of this.#sockets.ofServer(server)) {
      if (other.answeredMs !== 0) this.#sockets.retire(other);
    }
  }

  /**
   * The node's netfilter dropped what the socket sent. Most likely it is new, and conntrack has no room for another connection:
   * the other sockets of the server have theirs, so they stay, also past their lifetime. Or a redirect leads it to an address that
   * another pod has by now, and `judge` dropped it: so do the other sockets that go there, one after the other. Without
   * another socket that was answered the server is as good as unreachable.
   */
  dropped(handle: SocketHandle, nowMs: number): void {
    const socket = this.#sockets.of(handle);
    if (socket === undefined) return;
    socket.hasFailed = true;
    socket.isDropped = true;
    const { server } = socket;
    server.droppedMs = nowMs;
    this.#sockets.retire(socket);
    if (this.#sockets.lastAnswered(server, false) !== undefined) return;
    server.errorsInRow += 1;
    server.failedMs = nowMs;
  }

  /** Whether `dropped` was called for the socket. */
  isDropped(handle: SocketHandle): boolean {
    return this.#sockets.of(handle)?.isDropped === true;
  }

  /**
   * Whether the server is known to be unreachable: errors in a row without an answer, the last one not long
   * ago, and a query was sent just now to learn when it is back. The kernel of the server, or of a router, sends few
   * ICMP errors a second to one address, and all pods ask with the node's: most queries would meet silence.
   */
  isUnreachable(serverHandle: ServerHandle, nowMs: number): boolean {
    const server = this.#servers.find(serverHandle);
    if (server === undefined || server.errorsInRow < upstreamErrorsInRowMin) return false;
    if (nowMs - server.failedMs >= upstreamUnreachableMs) return false;
    return nowMs - server.sentMs < upstreamProbeMs;
  }

  /**
   * Whether a query that was sent on the socket at `startedMs` waits in vain: since then its server gave no answer, and its last
   * sign was an ICMP error. A kernel sends few of these to one address (Linux: six, then one a second), so the silence of the
   * others says the same. A probe of a server that is known to be unreachable has until the next one, any other query a second.
   */
  isRefused(handle: SocketHandle, startedMs: number, nowMs: number): boolean {
    const socket = this.#sockets.of(handle);
    if (socket === undefined || socket.silentSinceMs === 0) return false;
    const { server } = socket;
    // One that was asked again has its time from then on.
    const sinceMs = Math.max(startedMs, socket.silentSinceMs);
    if (server.errorsInRow === 0 || server.answeredMs >= sinceMs) return false;
    const readUntilMs = this.#readUntil(nowMs);
    const sinceErrorMs = readUntilMs - server.failedMs;
    const isKnown =
      server.errorsInRow >= upstreamErrorsInRowMin && sinceErrorMs < upstreamUnreachableMs;
    // A query sent before the last error may still be answered on another socket: the server's backends may just change.
    if (isKnown && startedMs > server.failedMs) return readUntilMs - sinceMs >= upstreamProbeMs;
    return readUntilMs - sinceMs >= upstreamSilenceMs && sinceErrorMs < upstreamTimeoutMs;
  }

  /** Something came to the socket: its server's port is open. */
  received(handle: SocketHandle): void {
    const server = this.#sockets.of(handle)?.server;
    if (server !== undefined) server.errorsInRow = 0;
  }

  /**
   * Whether queries in flight on the socket should be asked again on another: it has failed and its server had answers
   * before, or it is silent while other sockets of its server have answers. While the member drains, no other socket is asked: then a
   * silent socket of a server that had answers before is enough.
   */
  isStale(handle: SocketHandle, nowMs: number): boolean {
    const socket = this.#sockets.of(handle);
    if (socket === undefined) return false;
    if (socket.hasFailed) return socket.server.answeredMs !== 0;
    const answeredMs = this.#isDraining ? 0 : socket.silentSinceMs;
    return isSilent(socket, this.#readUntil(nowMs)) && socket.server.answeredMs > answeredMs;
  }

  /** Whether an answer may come to the socket: no error has. */
  isOpen(handle: SocketHandle): boolean {
    return this.#sockets.of(handle)?.hasFailed === false;
  }

  /** Queries in flight on the socket. */
  inFlightOf(handle: SocketHandle): number {
    return this.#sockets.of(handle)?.inFlight ?? 0;
  }

  /** The server has other backends than before: nothing more is sent from its sockets. */
  backendsChanged(address: Uint8Array): void {
    for (const server of this.#servers.byAddress(address)) {
      server.directUntilMs = 0;
      for (const socket of this.#sockets.ofServer(server)) this.#sockets.retire(socket);
    }
  }

  /** Retires sockets past their lifetime and silent ones, closes retired ones with nothing in flight. */
  sweep(nowMs: number): void {
    for (const socket of this.#sockets.all) {
      if (socket === undefined) continue;
      if (!socket.isRetired) {
        const isKept = wasDropped(socket.server, nowMs, upstreamUnreachableMs);
        if (nowMs >= socket.expiresMs && !isKept) this.#sockets.retire(socket);
        else if (isSilent(socket, this.#readUntil(nowMs))) this.#suspect(socket, nowMs);
      }
      if (socket.isRetired && socket.inFlight <= 0) this.#sockets.close(socket);
    }
    this.#servers.sweep(nowMs);
  }

  /** No further queries come. */
  drain(): void {
    this.#isDraining = true;
  }

  /** All that came to the sockets before then has been read. */
  readUntil(ms: number): void {
    this.#readUntilMs = ms;
  }

  /** Silence is measured up to it: answers that came while the process was stopped lie unread in sockets that look silent. */
  #readUntil(nowMs: number): number {
    return Math.min(nowMs, this.#readUntilMs);
  }

  get openSockets(): number {
    return this.#sockets.open;
  }

  get servers(): number {
    return this.#servers.size;
  }

  close(): void {
    for (const socket of this.#sockets.all) {
      if (socket !== undefined) this.#sockets.close(socket);
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
    for (const socket of this.#sockets.ofServer(server)) {
      if (socket.answeredMs >= silent.silentSinceMs) continue;
      if (this.#sockets.isBusy(socket.countedFor)) return;
      this.#sockets.retire(socket);
    }
  }

  /** Nothing more is sent from sockets that a redirect may lead to a pod that is gone. */
  #goDirect(server: UpstreamServer, nowMs: number): void {
    server.directUntilMs = nowMs + upstreamDirectMs;
    for (const socket of this.#sockets.ofServer(server)) {
      if (!socket.isDirect) this.#sockets.retire(socket);
    }
  }

  /** A socket past redirects, opened if there is none; any other if there can be none. */
  #anyDirect(server: UpstreamServer, batch: number, nowMs: number): number {
    for (const socket of this.#sockets.ofServer(server)) if (socket.isDirect) return socket.handle;
    const place = this.#random.u16() & (upstreamSocketsPerServerMax - 1);
    const taken = this.#sockets.of(server.sockets[place]!);
    if (taken !== undefined) this.#sockets.retire(taken);
    const direct = this.#sockets.openAt(server, place, nowMs);
    return direct === -1 ? this.draw(server.handle, batch, nowMs) : direct;
  }

  #landed(socket: UpstreamSocket): void {
    socket.inFlight -= 1;
    socket.server.inFlight -= 1;
    if (socket.inFlight === 0) socket.silentSinceMs = 0;
    if (socket.server.inFlight === 0) socket.server.silentSinceMs = 0;
  }
}

/** Whether what a socket of the server sent was dropped in the last `ms`: a new one would fare as it did. */
function wasDropped({ droppedMs }: UpstreamServer, nowMs: number, ms: number): boolean {
  return droppedMs !== 0 && nowMs - droppedMs < ms;
}

function isSilent({ silentSinceMs }: UpstreamSocket, readUntilMs: number): boolean {
  return silentSinceMs !== 0 && readUntilMs - silentSinceMs >= upstreamSilenceMs;
}
