// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The DNS servers that pods ask over UDP, each with a small handle. The cluster's resolvers have places of
 * their own. Any other server is one for each endpoint that asks it, with sockets of the endpoint's own: what one
 * pod does to a server, or with its bounds, is nothing to another pod that asks the same address. It is counted
 * for the endpoint, for its policy and for the node; an endpoint has at most half as many as are free, and
 * a share of them is kept for endpoints that have none. Over a bound an endpoint gives up an idle server of its
 * own. A pod that has no server yet gets the place of an idle one of the endpoint that has most.
 */

import {
  upstreamFreeShare,
  upstreamReserveShare,
  upstreamResolversMax,
  upstreamServerIdleMs,
  upstreamServersGuaranteed,
  upstreamServersMax,
  upstreamServersPerEndpointMax,
  upstreamServersPerPolicyMax,
  upstreamSocketsPerServerMax,
} from '../limits.ts';

/** Who asks a server. */
export interface ServerOwner {
  readonly endpointId: number;
  readonly policyId: number;
  /** The server is a resolver of the cluster: it belongs to no endpoint. */
  readonly isResolver: boolean;
}

export interface UpstreamServer {
  /** Never 0; that of a forgotten server stays unused for a long time. */
  readonly handle: number;
  readonly key: string;
  readonly address: Uint8Array;
  readonly isResolver: boolean;
  readonly endpointId: number;
  readonly policyId: number;
  /** Handles of open sockets by place; -1 where none is open. */
  readonly sockets: Int32Array;
  /** Sockets that are open, retired ones included. */
  open: number;
  /** Queries in flight. */
  inFlight: number;
  usedMs: number;
  /** When the last answer came on any of its sockets. */
  answeredMs: number;
  /** ICMP errors since then on new sockets, and when the last one came. */
  errorsInRow: number;
  failedMs: number;
  /** The batch for which `batchSocket` was drawn. */
  batch: number;
  batchSocket: number;
}

/** Low bits of a handle: the server's place. */
const placeBits = 10;
const places = 1 << placeBits;
const usesMax = 1 << 20;

export class UpstreamServers implements Iterable<UpstreamServer> {
  readonly #byKey = new Map<string, UpstreamServer>();
  readonly #places: (UpstreamServer | undefined)[] = Array.from({ length: places });
  readonly #perEndpoint = new Map<number, number>();
  readonly #perPolicy = new Map<number, number>();
  readonly #onForget: (server: UpstreamServer) => void;
  #resolvers = 0;
  #uses = 0;
  #nextPlace = 0;

  /** `onForget` closes what the server has open. */
  constructor(onForget: (server: UpstreamServer) => void) {
    this.#onForget = onForget;
  }

  get size(): number {
    return this.#byKey.size;
  }

  get resolvers(): number {
    return this.#resolvers;
  }

  [Symbol.iterator](): Iterator<UpstreamServer> {
    return this.#byKey.values();
  }

  /** The server of a handle; undefined when it was forgotten. */
  find(handle: number): UpstreamServer | undefined {
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
    if (!this.#makeRoom(owner)) return undefined;
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
      answeredMs: 0,
      errorsInRow: 0,
      failedMs: 0,
      batch: -1,
      batchSocket: -1,
    };
    this.#byKey.set(key, server);
    this.#places[server.handle & (places - 1)] = server;
    this.#count(server, 1);
    return server;
  }

  /** Forgets servers without sockets that no pod asked for a while. */
  sweep(nowMs: number): void {
    for (const server of this.#byKey.values()) {
      if (server.open === 0 && nowMs - server.usedMs >= upstreamServerIdleMs) this.#forget(server);
    }
  }

  #makeRoom(owner: ServerOwner): boolean {
    if (owner.isResolver) {
      if (this.#resolvers < upstreamResolversMax) return true;
      return this.#evict((server) => server.isResolver);
    }
    const { endpointId, policyId } = owner;
    const isOwn = (server: UpstreamServer): boolean =>
      !server.isResolver && server.endpointId === endpointId;
    const mine = this.#perEndpoint.get(endpointId) ?? 0;
    if (mine >= upstreamServersPerEndpointMax) return this.#evict(isOwn);
    const freeOfPolicy = upstreamServersPerPolicyMax - (this.#perPolicy.get(policyId) ?? 0);
    const freeOfNode = upstreamServersMax - (this.#byKey.size - this.#resolvers);
    const mayHaveMore =
      hasShare(mine, freeOfPolicy, upstreamServersPerPolicyMax, upstreamServersGuaranteed) &&
      hasShare(mine, freeOfNode, upstreamServersMax, upstreamServersGuaranteed);
    if (mayHaveMore) return true;
    if (mine > 0) return this.#evict(isOwn);
    const largest = this.#largestHolder(freeOfPolicy <= 0 ? policyId : null);
    return this.#evict((server) => !server.isResolver && server.endpointId === largest);
  }

  /** The endpoint with most servers, of one policy or of all. */
  #largestHolder(policyId: number | null): number {
    let largest = -1;
    let most = 0;
    for (const { isResolver, endpointId, policyId: itsPolicy } of this.#byKey.values()) {
      if (isResolver || (policyId !== null && itsPolicy !== policyId)) continue;
      const count = this.#perEndpoint.get(endpointId) ?? 0;
      if (count <= most) continue;
      most = count;
      largest = endpointId;
    }
    return largest;
  }

  /** Forgets the server asked longest ago of those that qualify and have nothing in flight. */
  #evict(qualifies: (server: UpstreamServer) => boolean): boolean {
    let oldest: UpstreamServer | undefined;
    for (const server of this.#byKey.values()) {
      if (server.inFlight > 0 || !qualifies(server)) continue;
      if (oldest === undefined || server.usedMs < oldest.usedMs) oldest = server;
    }
    if (oldest === undefined) return false;
    this.#forget(oldest);
    return true;
  }

  #forget(server: UpstreamServer): void {
    this.#onForget(server);
    this.#count(server, -1);
    this.#byKey.delete(server.key);
    this.#places[server.handle & (places - 1)] = undefined;
  }

  #count({ isResolver, endpointId, policyId }: UpstreamServer, change: 1 | -1): void {
    if (isResolver) {
      this.#resolvers += change;
      return;
    }
    add(this.#perEndpoint, endpointId, change);
    add(this.#perPolicy, policyId, change);
  }

  #newHandle(): number {
    do this.#nextPlace = (this.#nextPlace + 1) & (places - 1);
    while (this.#places[this.#nextPlace] !== undefined);
    this.#uses = (this.#uses % usesMax) + 1;
    return (this.#uses << placeBits) | this.#nextPlace;
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

function add(counts: Map<number, number>, id: number, change: number): void {
  const count = (counts.get(id) ?? 0) + change;
  if (count === 0) counts.delete(id);
  else counts.set(id, count);
}
