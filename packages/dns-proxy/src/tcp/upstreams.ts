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

import {
  tcpPastRedirectsMax,
  tcpUpstreamKeepMs,
  tcpUpstreamsKeptMax,
  upstreamDirectMs,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import type { TcpShared } from './shared.ts';
import { TcpUpstream, type TcpUpstreamEvents } from './upstream.ts';

interface Kept {
  readonly upstream: TcpUpstream;
  readonly sinceNs: number;
}

export class TcpUpstreams {
  /** By slot of the endpoint, the last one kept at the end; no list is empty. */
  readonly #kept = new Map<EndpointSlot, Kept[]>();
  /** When a connection past redirects answered after one that could not be made, by endpoint and server; the oldest first. */
  readonly #pastNs = new Map<string, number>();
  readonly #hold: (endpointSlot: EndpointSlot, isHeld: boolean) => void;

  /** `hold`: the endpoint has connections that are kept, or none any more. */
  constructor(hold: (endpointSlot: EndpointSlot, isHeld: boolean) => void) {
    this.#hold = hold;
  }

  /** Connections that are kept. */
  get size(): number {
    let size = 0;
    for (const kept of this.#kept.values()) size += kept.length;
    return size;
  }

  /**
   * A connection to the server (16 bytes) for a pod's connection: one that was kept, or a new one. `isPastRedirects`: a new one
   * goes past the redirects of the node. One that was kept and goes past them is taken only while a new one would.
   */
  take(
    context: TcpShared,
    server: Uint8Array,
    endpointSlot: EndpointSlot,
    events: TcpUpstreamEvents,
    isPastRedirects = false,
  ): TcpUpstream {
    const kept = this.#kept.get(endpointSlot) ?? [];
    const isPast = isPastRedirects || this.#goesPast(server, endpointSlot, context.moment);
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

  /** The server answered on a connection past redirects, after one that could not be made. */
  answeredPast(server: Uint8Array, endpointSlot: EndpointSlot, nowNs: number): void {
    const key = keyOf(server, endpointSlot);
    this.#pastNs.delete(key);
    this.#pastNs.set(key, nowNs);
    if (this.#pastNs.size <= tcpPastRedirectsMax) return;
    for (const oldest of this.#pastNs.keys()) {
      this.#pastNs.delete(oldest);
      return;
    }
  }

  /** A connection past redirects could not be made: the next one is made as any other. */
  failedPast(server: Uint8Array, endpointSlot: EndpointSlot): void {
    this.#pastNs.delete(keyOf(server, endpointSlot));
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
      this.#hold(endpointSlot, true);
    }
    kept.push(entry);
  }

  /** The server (16 bytes) has other backends than before: its kept connections are closed, and none goes past redirects. */
  backendsChanged(server: Uint8Array): void {
    const address = addressOf(server);
    for (const key of this.#pastNs.keys()) if (key.endsWith(address)) this.#pastNs.delete(key);
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
    this.#pastNs.clear();
  }

  #goesPast(server: Uint8Array, endpointSlot: EndpointSlot, moment: TcpShared['moment']): boolean {
    if (this.#pastNs.size === 0) return false;
    const atNs = this.#pastNs.get(keyOf(server, endpointSlot));
    return atNs !== undefined && moment.monotonicNs - atNs < upstreamDirectMs * 1e6;
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
    this.#hold(endpointSlot, false);
  }
}

function keyOf(server: Uint8Array, endpointSlot: EndpointSlot): string {
  return `${endpointSlot} ${addressOf(server)}`;
}

/** 16 characters. */
function addressOf(server: Uint8Array): string {
  return Buffer.from(server).toString('latin1');
}

/** A connection that is kept has no queries: any octet closes it. */
const nobody: Omit<TcpUpstreamEvents, 'onClosed'> = {
  onReply: () => undefined,
  onTimeout: () => undefined,
  mayAskAgain: () => false,
  mayReply: () => true,
};
