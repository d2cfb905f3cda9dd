// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The DNS servers that pods ask over UDP, each with a small handle. The cluster's resolvers have places of
 * their own. Any other server has an entry for each endpoint that asks it, with sockets of that endpoint alone, so that one
 * pod's failures and bounds do not affect another pod that asks the same address. The entry counts for the endpoint, for its
 * policy and for the node. An endpoint has at most half as many as are free, and a share of them is reserved for endpoints that
 * have none. Over a bound an endpoint gives up an idle server of its own, or else its server that has been silent longest. A pod
 * that has no server yet gets such a place of the endpoint that has most.
 */

import type { Branded } from '@tandem/core/brand';
import type { EndpointId, PolicyId } from '@tandem/core/ids';
import {
  upstreamFreeShare,
  upstreamGiveUpMs,
  upstreamReserveShare,
  upstreamResolversMax,
  upstreamServerIdleMs,
  upstreamServersGuaranteed,
  upstreamServersMax,
  upstreamServersPerEndpointMax,
  upstreamServersPerPolicyMax,
  upstreamSocketsPerServerMax,
} from '../limits.ts';

/** Handle of a server, never 0; -1: none. A socket's handle is another number. */
export type ServerHandle = Branded<'ServerHandle'>;
export const noServer = -1 as ServerHandle;

/** The endpoint and policy that ask a server. */
export interface ServerOwner {
  readonly endpointId: EndpointId;
  readonly policyId: PolicyId;
  /** The server is a resolver of the cluster: it belongs to no endpoint. */
  readonly isResolver: boolean;
}

export interface UpstreamServer {
  /** Never 0; that of a forgotten server stays unused for a long time. */
  readonly handle: ServerHandle;
  readonly key: string;
  readonly address: Uint8Array;
  readonly isResolver: boolean;
  readonly endpointId: EndpointId;
  readonly policyId: PolicyId;
  /** Handles of open sockets by place; -1 where none is open. */
  readonly sockets: Int32Array;
  /** Sockets that are open, retired ones included. */
  open: number;
  /** Queries in flight. */
  inFlight: number;
  usedMs: number;
  /** When the last query was sent. */
  sentMs: number;
  /** When the last answer came on any of its sockets. */
  answeredMs: number;
  /** When the first query was sent after the last answer; 0 when no query waits for an answer. */
  silentSinceMs: number;
  /** ICMP errors since then on new sockets, and when the last one came. */
  errorsInRow: number;
  failedMs: number;
  /** When the node's netfilter dropped what a socket sent; 0: never. */
  droppedMs: number;
  /** Until then new sockets go past redirects of the node; 0: none did lately. */
  directUntilMs: number;
  /** The batch for which `batchSocket` was drawn. */
  batch: number;
  batchSocket: number;
}

/** Low bits of a handle: the server's place. */
const placeBits = 10;
const places = 1 << placeBits;
const usesMax = 1 << 20;
const none: ReadonlySet<UpstreamServer> = new Set();

export class UpstreamServers implements Iterable<UpstreamServer> {
  readonly #byKey = new Map<string, UpstreamServer>();
  readonly #places: (UpstreamServer | undefined)[] = new Array<UpstreamServer | undefined>(
    places,
  ).fill(undefined);
  /** Servers of each endpoint that are not resolvers of the cluster; no set is empty. */
  readonly #ofEndpoint = new Map<number, Set<UpstreamServer>>();
  readonly #perPolicy = new Map<number, number>();
  readonly #onForget: (server: UpstreamServer) => void;
  readonly #onResolverEvicted: () => void;
  readonly #resolvers = new Set<UpstreamServer>();
  #uses = 0;
  #nextPlace = 0;

  /**
   * `onForget` closes what the server has open; `onResolverEvicted` is called when a resolver of the cluster is forgotten for another
   * server.
   */
  constructor(
    onForget: (server: UpstreamServer) => void,
    onResolverEvicted: () => void = () => undefined,
  ) {
    this.#onForget = onForget;
    this.#onResolverEvicted = onResolverEvicted;
  }

  get size(): number {
    return this.#byKey.size;
  }

  get resolvers(): number {
    return this.#resolvers.size;
  }

  [Symbol.iterator](): Iterator<UpstreamServer> {
    return this.#byKey.values();
  }

  /** The server of a handle; undefined when it was forgotten. */
  find(handle: ServerHandle): UpstreamServer | undefined {
    const server = this.#places[handle & (places - 1)];
    return server?.handle === handle ? server : undefined;
  }

  /** The servers with this address (16 bytes), one for each endpoint that asks it. */
  *byAddress(address: Uint8Array): Iterable<UpstreamServer> {
    for (const server of this.#byKey.values()) {
      if (server.address.every((octet, i) => octet === address[i])) yield server;
    }
  }

  /** The server with this address (16 bytes), made when it is new; undefined when a bound refuses it. */
  take(address: Uint8Array, owner: ServerOwner, nowMs: number): UpstreamServer | undefined {
    const key = keyOf(address, owner);
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      known.usedMs = nowMs;
      return known;
    }
    const donors = this.#donorsFor(owner);
    if (donors !== null && !this.#evict(donors)) return undefined;
    const server: UpstreamServer = {
      handle: this.#newHandle(),
      key,
      address: Uint8Array.from(address.subarray(0, 16)),
      isResolver: owner.isResolver,
      endpointId: owner.endpointId,
      policyId: owner.policyId,
      sockets: new Int32Array(upstreamSocketsPerServerMax).fill(-1),
      open: 0,
      inFlight: 0,
      usedMs: nowMs,
      sentMs: 0,
      answeredMs: 0,
      silentSinceMs: 0,
      errorsInRow: 0,
      failedMs: 0,
      droppedMs: 0,
      directUntilMs: 0,
      batch: -1,
      batchSocket: -1,
    };
    this.#byKey.set(key, server);
    this.#places[server.handle & (places - 1)] = server;
    this.#add(server);
    return server;
  }

  /**
   * The server that has been silent longest, of those whose place the owner may have; undefined when it has room,
   * or they had answers or were asked just now. Its queries have to be given up before it is forgotten.
   */
  silentFor(owner: ServerOwner, nowMs: number, readUntilMs: number): UpstreamServer | undefined {
    let longest: UpstreamServer | undefined;
    for (const server of this.#donorsFor(owner) ?? none) {
      const { silentSinceMs, usedMs } = server;
      if (silentSinceMs === 0 || readUntilMs - silentSinceMs < upstreamGiveUpMs) continue;
      // Queries of the batch at work may be on their way to it.
      if (usedMs === nowMs) continue;
      if (longest === undefined || silentSinceMs < longest.silentSinceMs) longest = server;
    }
    return longest;
  }

  /** Forgets servers without sockets that no pod asked for a while. */
  sweep(nowMs: number): void {
    for (const server of this.#byKey.values()) {
      if (server.open === 0 && nowMs - server.usedMs >= upstreamServerIdleMs) this.#close(server);
    }
  }

  /** Servers of which one has to go before the owner may have another; null: it has room. */
  #donorsFor({ endpointId, policyId, isResolver }: ServerOwner): Iterable<UpstreamServer> | null {
    if (isResolver) return this.#resolvers.size < upstreamResolversMax ? null : this.#resolvers;
    const mine = this.#ofEndpoint.get(endpointId) ?? none;
    if (mine.size >= upstreamServersPerEndpointMax) return mine;
    const freeOfPolicy = upstreamServersPerPolicyMax - (this.#perPolicy.get(policyId) ?? 0);
    const freeOfNode = upstreamServersMax - (this.#byKey.size - this.#resolvers.size);
    const mayHaveMore =
      hasShare(mine.size, freeOfPolicy, upstreamServersPerPolicyMax, upstreamServersGuaranteed) &&
      hasShare(mine.size, freeOfNode, upstreamServersMax, upstreamServersGuaranteed);
    if (mayHaveMore) return null;
    return mine.size > 0 ? mine : this.#ofLargestHolder(freeOfPolicy <= 0 ? policyId : null);
  }

  /** Servers of the endpoint that has most, among the endpoints of one policy or all endpoints. */
  #ofLargestHolder(policyId: PolicyId | null): Iterable<UpstreamServer> {
    let largest = none;
    for (const servers of this.#ofEndpoint.values()) {
      if (servers.size <= largest.size) continue;
      if (policyId === null || isAnyOf(servers, policyId)) largest = servers;
    }
    return largest;
  }

  /** Forgets the server, among those without queries in flight, that was asked longest ago. */
  #evict(donors: Iterable<UpstreamServer>): boolean {
    let oldest: UpstreamServer | undefined;
    for (const server of donors) {
      if (server.inFlight > 0) continue;
      if (oldest === undefined || server.usedMs < oldest.usedMs) oldest = server;
    }
    if (oldest === undefined) return false;
    this.forget(oldest);
    return true;
  }

  /** Makes room for another server; nothing is in flight at this one. */
  forget(server: UpstreamServer): void {
    if (server.isResolver) this.#onResolverEvicted();
    this.#close(server);
  }

  #close(server: UpstreamServer): void {
    this.#onForget(server);
    this.#remove(server);
    this.#byKey.delete(server.key);
    this.#places[server.handle & (places - 1)] = undefined;
  }

  #add(server: UpstreamServer): void {
    if (server.isResolver) {
      this.#resolvers.add(server);
      return;
    }
    const { endpointId, policyId } = server;
    const mine = this.#ofEndpoint.get(endpointId);
    if (mine === undefined) this.#ofEndpoint.set(endpointId, new Set([server]));
    else mine.add(server);
    this.#perPolicy.set(policyId, (this.#perPolicy.get(policyId) ?? 0) + 1);
  }

  #remove(server: UpstreamServer): void {
    if (this.#resolvers.delete(server)) return;
    const { endpointId, policyId } = server;
    const mine = this.#ofEndpoint.get(endpointId) as Set<UpstreamServer>;
    mine.delete(server);
    if (mine.size === 0) this.#ofEndpoint.delete(endpointId);
    const left = this.#perPolicy.get(policyId)! - 1;
    if (left === 0) this.#perPolicy.delete(policyId);
    else this.#perPolicy.set(policyId, left);
  }

  #newHandle(): ServerHandle {
    do this.#nextPlace = (this.#nextPlace + 1) & (places - 1);
    while (this.#places[this.#nextPlace] !== undefined);
    this.#uses = (this.#uses % usesMax) + 1;
    return ((this.#uses << placeBits) | this.#nextPlace) as ServerHandle;
  }
}

/** Whether an endpoint that has `mine` of `total` places, of which `free` are free, may have one more. */
export function hasShare(mine: number, free: number, total: number, guaranteed: number): boolean {
  if (mine < guaranteed) return free > 0;
  return mine * upstreamFreeShare < free - total / upstreamReserveShare;
}

function keyOf(address: Uint8Array, { isResolver, endpointId }: ServerOwner): string {
  const octets = Buffer.from(address.buffer, address.byteOffset, 16).toString('latin1');
  return isResolver ? octets : `${octets}${endpointId}`;
}

function isAnyOf(servers: Iterable<UpstreamServer>, policyId: PolicyId): boolean {
  for (const server of servers) if (server.policyId === policyId) return true;
  return false;
}
