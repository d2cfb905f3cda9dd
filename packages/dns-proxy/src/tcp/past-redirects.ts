// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which servers a pod asks past the redirects of the node at once: those that answered so after a connection that could not be made,
 * for `upstreamDirectMs`. An endpoint over a bound forgets its own oldest server. When the node remembers too many, an endpoint that
 * has none takes the oldest of the endpoint that has most. What is forgotten costs one more refused connection.
 */

import type { EndpointId } from '@tandem/core/ids';
import { counter } from '../counters.ts';
import {
  tcpPastRedirectsMax,
  tcpPastRedirectsPerEndpointMax,
  upstreamDirectMs,
} from '../limits.ts';

/** When the server answered, CLOCK_MONOTONIC, by its address (16 characters); the oldest first. */
type Servers = Map<string, number>;

export class PastRedirects {
  readonly #counters: Float64Array;
  /** By endpoint and not by its slot, which may be another endpoint's soon; no map is empty. */
  readonly #servers = new Map<EndpointId, Servers>();
  #size = 0;

  constructor(counters: Float64Array) {
    this.#counters = counters;
  }

  /** Servers of all endpoints. */
  get size(): number {
    return this.#size;
  }

  /** Whether connections of the endpoint to the server (16 bytes) go past redirects. */
  has(endpointId: EndpointId, server: Uint8Array, nowNs: number): boolean {
    if (this.#size === 0) return false;
    const atNs = this.#servers.get(endpointId)?.get(keyOf(server));
    return atNs !== undefined && !isOver(atNs, nowNs);
  }

  /** From now on they do, for a while. */
  add(endpointId: EndpointId, server: Uint8Array, nowNs: number): void {
    const key = keyOf(server);
    this.#delete(endpointId, key);
    if (!this.#makeRoom(endpointId, nowNs)) {
      this.#counters[counter.tcpPastRedirectsForgotten]!++;
      return;
    }
    const mine = this.#servers.get(endpointId);
    if (mine === undefined) this.#servers.set(endpointId, new Map([[key, nowNs]]));
    else mine.set(key, nowNs);
    this.#size += 1;
  }

  delete(endpointId: EndpointId, server: Uint8Array): void {
    this.#delete(endpointId, keyOf(server));
  }

  /** Connections of no endpoint go past redirects to the server. */
  deleteServer(server: Uint8Array): void {
    const key = keyOf(server);
    for (const endpointId of this.#servers.keys()) this.#delete(endpointId, key);
  }

  /** Forgets what is over. */
  sweep(nowNs: number): void {
    for (const [endpointId, servers] of this.#servers) {
      for (const [key, atNs] of servers) {
        if (!isOver(atNs, nowNs)) break;
        this.#delete(endpointId, key);
      }
    }
  }

  clear(): void {
    this.#servers.clear();
    this.#size = 0;
  }

  /** Room for one more server of the endpoint; false if there can be none. */
  #makeRoom(endpointId: EndpointId, nowNs: number): boolean {
    const mine = this.#servers.get(endpointId);
    if (mine !== undefined && mine.size >= tcpPastRedirectsPerEndpointMax) {
      this.#deleteOldest(endpointId, mine, nowNs);
    }
    if (this.#size < tcpPastRedirectsMax) return true;
    this.sweep(nowNs);
    if (this.#size < tcpPastRedirectsMax) return true;
    const donor = mine === undefined ? this.#largest() : ([endpointId, mine] as const);
    if (donor === undefined) return false;
    this.#deleteOldest(...donor, nowNs);
    return true;
  }

  /** The endpoint that has most, if it has more than one. */
  #largest(): readonly [EndpointId, Servers] | undefined {
    let largest: readonly [EndpointId, Servers] | undefined;
    for (const each of this.#servers) {
      if (each[1].size > (largest?.[1].size ?? 1)) largest = each;
    }
    return largest;
  }

  #deleteOldest(endpointId: EndpointId, servers: Servers, nowNs: number): void {
    for (const [key, atNs] of servers) {
      if (!isOver(atNs, nowNs)) this.#counters[counter.tcpPastRedirectsForgotten]!++;
      this.#delete(endpointId, key);
      return;
    }
  }

  #delete(endpointId: EndpointId, key: string): void {
    const servers = this.#servers.get(endpointId);
    if (servers?.delete(key) !== true) return;
    this.#size -= 1;
    if (servers.size === 0) this.#servers.delete(endpointId);
  }
}

function isOver(atNs: number, nowNs: number): boolean {
  return nowNs - atNs >= upstreamDirectMs * 1e6;
}

function keyOf(server: Uint8Array): string {
  return Buffer.from(server.buffer, server.byteOffset, 16).toString('latin1');
}
