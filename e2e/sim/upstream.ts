// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The servers that pods ask: answer after a while, or not at all. A socket that closed hears nothing. */

import type { SimQuery } from './sim-query.ts';
import type { Datagram } from './udp-loop.ts';
import { clusterWord, names, serverWords } from './universe.ts';

/** Answer of a server to a query. */
export interface UpstreamReply extends Datagram {
  readonly query: SimQuery;
}

/** A query that no server listened for, sent so many times by then. */
interface Refused {
  readonly query: SimQuery;
  readonly forwards: number;
}

/** A member's connected socket. */
export interface UpstreamSocket {
  readonly server: number;
  readonly queue: UpstreamReply[];
  isOpen: boolean;
  /** Errno that the kernel has to report of it. */
  error: number;
  /** An error was reported. */
  hasFailed: boolean;
  /** Queries that were refused. */
  readonly refused: Refused[];
  /** The backends of its server when it was opened. */
  readonly backend: string;
}

interface Pending {
  readonly dueNs: number;
  readonly socket: UpstreamSocket;
  /** Null: an ICMP error comes back. */
  readonly reply: UpstreamReply | null;
  readonly refused: Refused | null;
  readonly onTold: () => void;
}

const connectionRefused = 111;

export const serverOf = (address: Uint8Array): number => {
  const last = new DataView(address.buffer, address.byteOffset).getUint32(12, true);
  return serverWords.findIndex((words) => words[3] === last);
};

export class Upstream {
  readonly #pending: Pending[] = [];

  get isIdle(): boolean {
    return this.#pending.length === 0;
  }

  /** `hosts`: which of the name's addresses, a bit each. */
  answer(o: {
    readonly socket: UpstreamSocket;
    readonly id: number;
    readonly query: SimQuery;
    readonly hosts: number;
    readonly ttl: number;
    readonly dueNs: number;
    readonly onTold: () => void;
  }): void {
    const payload = replyOf(o.query.name, o.hosts, o.ttl);
    this.#pending.push({
      dueNs: o.dueNs,
      socket: o.socket,
      reply: { payload, id: o.id, query: o.query },
      refused: null,
      onTold: o.onTold,
    });
  }

  /** Nobody listens there: the socket gets an ICMP error. */
  refuse(socket: UpstreamSocket, query: SimQuery, dueNs: number): void {
    const refused = { query, forwards: query.forwards };
    this.#pending.push({ dueNs, socket, reply: null, refused, onTold: () => undefined });
  }

  /** Delivers due replies to their sockets. */
  deliver(nowNs: number): void {
    for (let i = 0; i < this.#pending.length; i++) {
      const { dueNs, socket, reply, refused, onTold } = this.#pending[i] as Pending;
      if (dueNs > nowNs) continue;
      this.#pending.splice(i, 1);
      i -= 1;
      if (!socket.isOpen) continue;
      if (reply === null) {
        socket.error = connectionRefused;
        if (refused !== null) socket.refused.push(refused);
        continue;
      }
      onTold();
      socket.queue.push(reply);
    }
  }
}

const templates = new Map<number, Uint8Array>();

export function replyOf(name: number, hosts: number, ttl: number): Uint8Array {
  const key = (name * 16 + hosts) * 1024 + ttl;
  let reply = templates.get(key);
  if (reply === undefined) {
    reply = buildReply(name, hosts, ttl);
    templates.set(key, reply);
  }
  return reply;
}

function buildReply(name: number, hosts: number, ttl: number): Uint8Array {
  const { query, hosts: all } = names[name] as (typeof names)[number];
  const chosen = all.filter((host, i) => (hosts & (1 << i)) !== 0 || host === clusterWord);
  const reply = new Uint8Array(query.length + chosen.length * 16);
  reply.set(query);
  const view = new DataView(reply.buffer);
  view.setUint16(2, 0x8180);
  view.setUint16(6, chosen.length);
  chosen.forEach((host, i) => {
    const at = query.length + i * 16;
    view.setUint16(at, 0xc00c);
    view.setUint16(at + 2, 1);
    view.setUint16(at + 4, 1);
    view.setUint32(at + 6, ttl);
    view.setUint16(at + 10, 4);
    view.setUint32(at + 12, host, true);
  });
  return reply;
}
