// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Connections to servers, one for each connection of a pod that has asked. When a pod's connection ends, its connection to the
 * server is kept for a while, and the pod's next connection to the same server uses it (RFC 7766 section 6.2.1). Otherwise a
 * pod that opens a connection per query would take a port of the node for each, and all pods share the node's ports.
 *
 * A redirect of the node may lead to a pod that is gone. Where a connection could not be made and one past redirects answered,
 * the pod's next connections to that server go past redirects at once, for `upstreamDirectMs`.
 */

import type { EndpointId } from '@tandem/core/ids';
import {
  tcpAloneMax,
  tcpAlonePerEndpointMax,
  tcpUpstreamKeepMs,
  tcpUpstreamsKeptMax,
} from '../limits.ts';
import type { EndpointSlot, OwnerSlots } from '../policy/owner-slots.ts';
import { PastRedirects } from './past-redirects.ts';
import type { TcpShared } from './shared.ts';
import { TcpUpstream, type TcpUpstreamEvents } from './upstream.ts';

type Endpoints = Pick<OwnerSlots<EndpointSlot>, 'hold' | 'unhold' | 'ownerId'>;

interface TakeOptions {
  readonly isPastRedirects?: boolean;
  readonly isNew?: boolean;
}

interface Kept {
  readonly upstream: TcpUpstream;
  readonly sinceNs: number;
}

export class TcpUpstreams {
  /** By slot of the endpoint, which is held meanwhile, the last one kept at the end; no list is empty. */
  readonly #kept = new Map<EndpointSlot, Kept[]>();
  /** Connections with a query that is asked alone: by slot of the endpoint, and of all. */
  readonly #alone = new Map<EndpointSlot, number>();
  #aloneOfAll = 0;
  readonly #past: PastRedirects;
  readonly #endpoints: Endpoints;

  /** `endpoints`: a slot is held while it has connections that are kept. */
  constructor(endpoints: Endpoints, counters: Float64Array) {
    this.#endpoints = endpoints;
    this.#past = new PastRedirects(counters);
  }

  /** Connections that are kept. */
  get size(): number {
    let size = 0;
    for (const kept of this.#kept.values()) size += kept.length;
    return size;
  }

  /**
   * A connection to the server (16 bytes) for a pod's connection: one that was kept, or a new one. `isPastRedirects`: a new one
   * goes past the redirects of the node. One that was kept and goes past them is taken only while a new one would. `isNew`: none that
   * was kept, which the server may close for what it was asked before.
   */
  take(
    context: TcpShared,
    server: Uint8Array,
    endpointSlot: EndpointSlot,
    events: TcpUpstreamEvents,
    { isPastRedirects = false, isNew = false }: TakeOptions = {},
  ): TcpUpstream {
    const kept = isNew ? [] : (this.#kept.get(endpointSlot) ?? []);
    const { monotonicNs } = context.moment;
    const isPast = isPastRedirects || this.#past.has(this.#idOf(endpointSlot), server, monotonicNs);
    const index = kept.findLastIndex(
      ({ upstream }) => upstream.isTo(server) && (isPast || !upstream.isPastRedirects),
    );
    if (index === -1) {
      return new TcpUpstream(context, server, endpointSlot, events, isPast);
    }
    const [{ upstream }] = kept.splice(index, 1) as [Kept];
    if (kept.length === 0) this.#drop(endpointSlot);
    upstream.serve(events);
    return upstream;
  }

  /** A query of the endpoint is asked alone, until `endAlone`; false if there are too many. */
  beginAlone(endpointSlot: EndpointSlot): boolean {
    const own = this.#alone.get(endpointSlot) ?? 0;
    if (own >= tcpAlonePerEndpointMax || this.#aloneOfAll >= tcpAloneMax) return false;
    this.#alone.set(endpointSlot, own + 1);
    this.#aloneOfAll += 1;
    return true;
  }

  endAlone(endpointSlot: EndpointSlot): void {
    const own = (this.#alone.get(endpointSlot) ?? 0) - 1;
    if (own > 0) this.#alone.set(endpointSlot, own);
    else this.#alone.delete(endpointSlot);
    this.#aloneOfAll -= 1;
  }

  /** The server answered on a connection past redirects, after one that could not be made. */
  answeredPast(server: Uint8Array, endpointSlot: EndpointSlot, nowNs: number): void {
    this.#past.add(this.#idOf(endpointSlot), server, nowNs);
  }

  /** A connection past redirects could not be made: the next one is made as any other. */
  failedPast(server: Uint8Array, endpointSlot: EndpointSlot): void {
    this.#past.delete(this.#idOf(endpointSlot), server);
  }

  /** The pod's connection has ended: its connection to the server is kept if nothing is in flight, else closed. */
  giveBack(upstream: TcpUpstream, nowNs: number): void {
    const { endpointSlot } = upstream;
    const kept = this.#kept.get(endpointSlot) ?? [];
    if (!upstream.isFree || kept.length >= tcpUpstreamsKeptMax) {
      upstream.close();
      return;
    }
    const entry: Kept = { upstream, sinceNs: nowNs };
    upstream.serve({
      ...nobody,
      onClosed: () => this.#remove(endpointSlot, entry),
    });
    if (kept.length === 0) {
      this.#kept.set(endpointSlot, kept);
      this.#endpoints.hold(endpointSlot);
    }
    kept.push(entry);
  }

  /** The server (16 bytes) has other backends than before: its kept connections are closed, and none goes past redirects. */
  backendsChanged(server: Uint8Array): void {
    this.#past.deleteServer(server);
    for (const [endpointSlot, kept] of this.#kept) {
      for (const entry of kept.filter(({ upstream }) => upstream.isTo(server))) {
        entry.upstream.close();
        this.#remove(endpointSlot, entry);
      }
    }
  }

  /** Nothing is kept. */
  get isEmpty(): boolean {
    return this.#kept.size === 0;
  }

  /** Closes connections that were kept long enough. */
  sweep(nowNs: number): void {
    for (const [endpointSlot, kept] of this.#kept) {
      for (const entry of [...kept]) {
        if (nowNs - entry.sinceNs < tcpUpstreamKeepMs * 1e6) continue;
        entry.upstream.close();
        this.#remove(endpointSlot, entry);
      }
    }
  }

  close(): void {
    this.sweep(Infinity);
    this.#past.clear();
  }

  #idOf(endpointSlot: EndpointSlot): EndpointId {
    return this.#endpoints.ownerId[endpointSlot]!;
  }

  #remove(endpointSlot: EndpointSlot, entry: Kept): void {
    const kept = this.#kept.get(endpointSlot);
    const index = kept?.indexOf(entry) ?? -1;
    if (kept === undefined || index === -1) return;
    kept.splice(index, 1);
    if (kept.length === 0) this.#drop(endpointSlot);
  }

  #drop(endpointSlot: EndpointSlot): void {
    this.#kept.delete(endpointSlot);
    this.#endpoints.unhold(endpointSlot);
  }
}

/** A connection that is kept has no queries: any octet closes it. */
const nobody: Omit<TcpUpstreamEvents, 'onClosed'> = {
  onReply: () => undefined,
  onTimeout: () => undefined,
  mayAskAgain: () => false,
  mayReply: () => true,
};
