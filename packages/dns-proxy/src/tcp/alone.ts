// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Queries of one pod's connection that connections to the server passed over too often (`tcpPassedOverMax`). One query may be what ends
 * each connection, and the others are slow and had it beside them. Each is asked once more on a connection of its own, where no
 * other query ends it: the one that does then is the one to blame.
 */

import type { EndpointSlot } from '../policy/owner-slots.ts';
import type { TcpContext } from './context.ts';
import type { TcpQuery } from './query.ts';
import type { TcpUpstream, TcpUpstreamEvents } from './upstream.ts';

export class AloneQueries {
  readonly #c: TcpContext;
  readonly #server: Uint8Array;
  readonly #endpointSlot: EndpointSlot;
  readonly #events: TcpUpstreamEvents;
  readonly #asked = new Set<TcpUpstream>();

  /** `events` come after the query is not in flight here any more. */
  constructor(
    context: TcpContext,
    server: Uint8Array,
    endpointSlot: EndpointSlot,
    events: TcpUpstreamEvents,
  ) {
    this.#c = context;
    this.#server = server;
    this.#endpointSlot = endpointSlot;
    this.#events = events;
  }

  get inFlight(): number {
    return this.#asked.size;
  }

  /** False: the pod, or the node, asks as many as it may. */
  ask(query: TcpQuery): boolean {
    const { upstreams } = this.#c;
    if (!upstreams.beginAlone(this.#endpointSlot)) return false;
    query.wasAlone = true;
    const events: TcpUpstreamEvents = {
      ...this.#events,
      onReply: (each, bytes, start, end, mayLearn) => {
        this.#end(upstream);
        this.#events.onReply(each, bytes, start, end, mayLearn);
        // Last: its octets are the reply's until here.
        upstream.close();
      },
      onTimeout: (each) => {
        this.#end(upstream);
        upstream.close();
        this.#events.onTimeout(each);
      },
      onClosed: (unanswered, end) => {
        this.#end(upstream);
        this.#events.onClosed(unanswered, end);
      },
    };
    const upstream: TcpUpstream = upstreams.take(
      this.#c,
      this.#server,
      this.#endpointSlot,
      events,
      { isNew: true },
    );
    this.#asked.add(upstream);
    upstream.send(query);
    return true;
  }

  /** The server (16 bytes) has other backends than before. */
  backendsChanged(server: Uint8Array): void {
    for (const upstream of [...this.#asked]) if (upstream.isTo(server)) upstream.retire();
  }

  /** Replies have room again. */
  wake(): void {
    for (const upstream of this.#asked) upstream.wake();
  }

  sweep(nowNs: number): void {
    for (const upstream of [...this.#asked]) upstream.sweep(nowNs);
  }

  /** Ends all, and returns their queries. */
  close(): readonly TcpQuery[] {
    const upstreams = [...this.#asked];
    const queries = upstreams.flatMap((upstream) => [...upstream.unanswered()]);
    for (const upstream of upstreams) {
      this.#end(upstream);
      upstream.close();
    }
    return queries;
  }

  #end(upstream: TcpUpstream): void {
    if (this.#asked.delete(upstream)) this.#c.upstreams.endAlone(this.#endpointSlot);
  }
}
