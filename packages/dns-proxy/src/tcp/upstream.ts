// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** One TCP connection to the server that a pod's connection asks, with its queries in flight. */

import { connect, type Socket } from 'node:net';
import { formatAddress } from '@tandem/core/net/ip';
import { tcpConnectTimeoutMs, upstreamTimeoutMs } from '../limits.ts';
import { frame, MessageReader } from './framing.ts';

export interface PendingQuery {
  /** As sent: with our id. */
  readonly message: Uint8Array;
  readonly clientId: number;
  readonly questionEnd: number;
  readonly flow: {
    readonly policyId: number;
    readonly namespaceId: number;
    readonly trusted: boolean;
  };
  readonly startedNs: number;
}

export interface TcpUpstreamEvents {
  /** A message that may answer `pending`; true when it does, and the query is no longer in flight. */
  readonly onReply: (pending: PendingQuery, reply: Uint8Array) => boolean;
  /** The connection failed or timed out with these unanswered. */
  readonly onFailed: (pending: readonly PendingQuery[]) => void;
}

export class TcpUpstream {
  readonly #socket: Socket;
  readonly #reader = new MessageReader();
  readonly #events: TcpUpstreamEvents;
  readonly #pending = new Map<number, PendingQuery>();
  #isClosed = false;

  constructor(server: Uint8Array, events: TcpUpstreamEvents) {
    this.#events = events;
    this.#socket = connect({ host: formatAddress(server), port: 53, noDelay: true });
    this.#socket.setTimeout(tcpConnectTimeoutMs, () => this.#fail());
    this.#socket.on('connect', () => this.#socket.setTimeout(upstreamTimeoutMs));
    this.#socket.on('data', (chunk) => this.#onData(chunk));
    this.#socket.on('error', () => this.#fail());
    this.#socket.on('close', () => this.#fail());
  }

  get isOpen(): boolean {
    return !this.#isClosed;
  }

  get inFlight(): number {
    return this.#pending.size;
  }

  /** Whether an id is taken by a query in flight. */
  has(id: number): boolean {
    return this.#pending.has(id);
  }

  send(id: number, pending: PendingQuery): void {
    this.#pending.set(id, pending);
    this.#socket.write(frame(pending.message));
  }

  close(): void {
    this.#isClosed = true;
    this.#pending.clear();
    this.#socket.destroy();
  }

  #onData(chunk: Uint8Array): void {
    this.#reader.push(chunk);
    for (let reply = this.#reader.next(); reply !== null; reply = this.#reader.next()) {
      if (reply.length < 12) continue;
      const id = ((reply[0] as number) << 8) | (reply[1] as number);
      const pending = this.#pending.get(id);
      if (pending !== undefined && this.#events.onReply(pending, reply)) this.#pending.delete(id);
    }
  }

  #fail(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.destroy();
    const pending = [...this.#pending.values()];
    this.#pending.clear();
    this.#events.onFailed(pending);
  }
}
