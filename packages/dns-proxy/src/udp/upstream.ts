// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * UDP sockets to the servers that pods ask: up to 64 per server, connected, each with a random port.
 * One socket is drawn per server and batch, so that replies come back in batches too. Sockets are
 * replaced after a minute, after timeouts in a row (a service's conntrack entry may point to a dead
 * backend), and closed only when nothing is in flight on them.
 */

import { closeFd } from '@tandem/dns-sockets/fd';
import { socketsMax } from '@tandem/dns-sockets/limits';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import { createUpstreamUdp } from '@tandem/dns-sockets/upstream';
import {
  upstreamServersMax,
  upstreamSocketLifetimeMs,
  upstreamSocketsMax,
  upstreamSocketsPerServerMax,
  upstreamSocketTimeoutsMax,
} from '../limits.ts';
import type { RandomSource } from '../query/random.ts';

interface UpstreamSocket {
  readonly handle: number;
  readonly server: UpstreamServer;
  readonly salt: number;
  readonly expiresMs: number;
  inFlight: number;
  timeoutsInRow: number;
  retired: boolean;
}

interface UpstreamServer {
  readonly key: string;
  readonly address: Uint8Array;
  /** Handles by place; -1 where no socket is open. */
  readonly handles: Int32Array;
  batch: number;
  batchHandle: number;
  usedMs: number;
  open: number;
}

/** What the pool needs of a loop. */
export type UpstreamLoop = Pick<UdpLoop, 'add' | 'remove'>;

export interface UpstreamAddress {
  /** 16 bytes. */
  readonly address: Uint8Array;
  readonly port: number;
}

/** Low bits of a handle: its place among the loop's sockets. */
const handleIndexMask = socketsMax - 1;

export class UdpPool {
  readonly #loop: UpstreamLoop;
  readonly #random: RandomSource;
  readonly #createSocket: (server: UpstreamAddress) => number;
  readonly #closeSocket: (fd: number) => void;
  readonly #servers: (UpstreamServer | undefined)[] = [];
  readonly #indexOf = new Map<string, number>();
  readonly #sockets: (UpstreamSocket | undefined)[] = [];
  #open = 0;
  /** Incremented when a server's index may come to mean another: whoever remembers indexes must forget. */
  generation = 0;

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

  /** Index of the server with this address (16 bytes), made when it is new; -1 when there are too many. */
  serverIndex(address: Uint8Array, nowMs: number): number {
    const key = Buffer.from(address.buffer, address.byteOffset, 16).toString('latin1');
    const known = this.#indexOf.get(key);
    if (known !== undefined) return known;
    if (this.#indexOf.size >= upstreamServersMax && !this.#evictServer()) return -1;
    let index = this.#servers.indexOf(undefined);
    if (index === -1) index = this.#servers.length;
    this.#servers[index] = {
      key,
      address: Uint8Array.from(address.subarray(0, 16)),
      handles: new Int32Array(upstreamSocketsPerServerMax).fill(-1),
      batch: -1,
      batchHandle: -1,
      usedMs: nowMs,
      open: 0,
    };
    this.#indexOf.set(key, index);
    return index;
  }

  /** The socket of this batch to the server: drawn at random, opened when it is not yet; -1 if it can't be. */
  draw(serverIndex: number, batch: number, nowMs: number): number {
    const server = this.#servers[serverIndex];
    if (server === undefined) return -1;
    if (server.batch === batch) return server.batchHandle;
    server.usedMs = nowMs;
    const place = this.#random.u16() & (upstreamSocketsPerServerMax - 1);
    let handle = server.handles[place] as number;
    if (handle === -1) handle = this.#openSocket(server, place, nowMs);
    if (handle === -1) handle = server.handles.find((open) => open !== -1) ?? -1;
    server.batch = batch;
    server.batchHandle = handle;
    return handle;
  }

  saltOf(handle: number): number {
    return this.#socketOf(handle)?.salt ?? 0;
  }

  sent(handle: number): void {
    const socket = this.#socketOf(handle);
    if (socket !== undefined) socket.inFlight += 1;
  }

  answered(handle: number): void {
    const socket = this.#socketOf(handle);
    if (socket === undefined) return;
    socket.inFlight -= 1;
    socket.timeoutsInRow = 0;
  }

  timedOut(handle: number): void {
    const socket = this.#socketOf(handle);
    if (socket === undefined) return;
    socket.inFlight -= 1;
    socket.timeoutsInRow += 1;
    if (socket.timeoutsInRow >= upstreamSocketTimeoutsMax) this.#retire(socket);
  }

  /** Retires sockets past their life and closes retired ones with nothing in flight. */
  sweep(nowMs: number): void {
    for (const socket of this.#sockets) {
      if (socket === undefined) continue;
      if (!socket.retired && nowMs >= socket.expiresMs) this.#retire(socket);
      if (socket.retired && socket.inFlight <= 0) this.#close(socket);
    }
  }

  get openSockets(): number {
    return this.#open;
  }

  close(): void {
    for (const socket of this.#sockets) {
      if (socket !== undefined) this.#close(socket);
    }
  }

  /** Forgets the server that was asked longest ago and has nothing in flight; false if all are busy. */
  #evictServer(): boolean {
    let oldest: UpstreamServer | undefined;
    for (const server of this.#servers) {
      if (server === undefined || this.#isBusy(server)) continue;
      if (oldest === undefined || server.usedMs < oldest.usedMs) oldest = server;
    }
    if (oldest === undefined) return false;
    for (const handle of oldest.handles) {
      const socket = this.#socketOf(handle);
      if (socket !== undefined) this.#close(socket);
    }
    this.#servers[this.#indexOf.get(oldest.key) as number] = undefined;
    this.#indexOf.delete(oldest.key);
    this.generation += 1;
    return true;
  }

  #isBusy(server: UpstreamServer): boolean {
    for (const handle of server.handles) {
      if ((this.#socketOf(handle)?.inFlight ?? 0) > 0) return true;
    }
    return false;
  }

  /** The socket of a handle; undefined when the handle's place belongs to a later socket by now. */
  #socketOf(handle: number): UpstreamSocket | undefined {
    const socket = this.#sockets[handle & handleIndexMask];
    return socket?.handle === handle ? socket : undefined;
  }

  #openSocket(server: UpstreamServer, place: number, nowMs: number): number {
    if (this.#open >= upstreamSocketsMax && server.open > 0) return -1;
    if (this.#open >= upstreamSocketsMax && !this.#evictServer()) return -1;
    let handle: number;
    try {
      const fd = this.#createSocket({ address: server.address, port: 53 });
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
      expiresMs: nowMs + life,
      inFlight: 0,
      timeoutsInRow: 0,
      retired: false,
    };
    server.handles[place] = handle;
    server.open += 1;
    this.#open += 1;
    return handle;
  }

  #retire(socket: UpstreamSocket): void {
    socket.retired = true;
    const { server, handle } = socket;
    const place = server.handles.indexOf(handle);
    if (place !== -1) server.handles[place] = -1;
    if (server.batchHandle === handle) server.batch = -1;
  }

  #close(socket: UpstreamSocket): void {
    this.#retire(socket);
    this.#loop.remove(socket.handle);
    this.#sockets[socket.handle & handleIndexMask] = undefined;
    socket.server.open -= 1;
    this.#open -= 1;
  }
}
