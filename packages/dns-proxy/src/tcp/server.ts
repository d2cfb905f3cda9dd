// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS over TCP on the shared listeners (threat T13): the connection's local address is the server that
 * the pod asked. Connections, messages in flight, idle time and the time of one message are bounded.
 */

import { createServer, type Server, type Socket } from 'node:net';
import { parseAddress } from '@tandem/core/net/ip';
import { duplicateFd, releaseFd } from '@tandem/dns-sockets/fd';
import { counter } from '../counters.ts';
import { tcpConnectionsMax, tcpConnectionsPerEndpointMax } from '../limits.ts';
import { unknownSource } from '../query/policy-lookup.ts';
import { TcpConnection, type TcpContext } from './connection.ts';

const tcp = 6;

export class TcpServer {
  readonly #context: TcpContext;
  readonly #servers = new Set<Server>();
  readonly #connections = new Set<TcpConnection>();
  #isDraining = false;

  constructor(context: TcpContext) {
    this.#context = context;
  }

  /**
   * Accepts on a listening socket, by a duplicate of its descriptor, until the function returned is called
   * or this drains. The socket may be another member's.
   */
  listen(fd: number): () => void {
    if (this.#isDraining) return () => undefined;
    const options = { noDelay: true, allowHalfOpen: true };
    const server = createServer(options, (socket) => this.#accept(socket));
    this.#servers.add(server);
    // A connection that could not be accepted, for want of descriptors: there will be others.
    server.on('error', () => this.#context.count(counter.tcpRefused));
    server.listen({ fd: releaseFd(duplicateFd(fd)) });
    return () => {
      this.#servers.delete(server);
      server.close();
    };
  }

  get connections(): number {
    return this.#connections.size;
  }

  /** Stops accepting; connections with queries in flight go on until they are answered. */
  drain(): void {
    this.#isDraining = true;
    for (const server of this.#servers) server.close();
    for (const connection of this.#connections) connection.closeWhenIdle();
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const connection of this.#connections) connection.close();
  }

  #accept(socket: Socket): void {
    const context = this.#context;
    const addresses = addressWords(socket);
    if (addresses === null) {
      socket.destroy();
      return;
    }
    context.lookup.begin();
    const nowMs = context.monotonicNs() / 1e6;
    const flow = context.lookup.flowOf(addresses, 0, 4, tcp, nowMs);
    const { limits, flows } = context.lookup;
    const slot = flow < 0 ? -1 : (flows.endpointSlot[flow] as number);
    if (
      slot < 0 ||
      this.#connections.size >= tcpConnectionsMax ||
      (limits.connections[slot] as number) >= tcpConnectionsPerEndpointMax
    ) {
      context.count(flow === unknownSource ? counter.unknownSource : counter.tcpRefused);
      socket.resetAndDestroy();
      return;
    }
    limits.connections[slot] = (limits.connections[slot] as number) + 1;
    context.count(counter.tcpConnections);
    const connection = new TcpConnection(socket, addresses, slot, context, () => {
      limits.connections[slot] = (limits.connections[slot] as number) - 1;
      this.#connections.delete(connection);
    });
    this.#connections.add(connection);
  }
}

/** Client and server as 4 words each, or null when the socket is gone already. */
function addressWords(socket: Socket): Uint32Array | null {
  const client = parseAddress(socket.remoteAddress ?? '');
  const server = parseAddress(socket.localAddress ?? '');
  if (client === null || server === null) return null;
  const bytes = new Uint8Array(32);
  bytes.set(client);
  bytes.set(server, 16);
  return new Uint32Array(bytes.buffer);
}
