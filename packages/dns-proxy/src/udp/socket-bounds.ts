// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** Limits of open upstream sockets: of the cluster's resolvers, of each endpoint, of all of them. */

import {
  upstreamReserveShare,
  upstreamResolverSocketsMax,
  upstreamResolversMax,
  upstreamServersPerEndpointMax,
  upstreamSocketsGuaranteed,
  upstreamSocketsMax,
  upstreamSocketsPerEndpointMax,
} from '../limits.ts';
import { hasShare } from './servers.ts';

/** In the place of an endpoint's id, which is never negative. */
export const countedForResolvers = -1;

export class SocketBounds {
  readonly #openOf = new Map<number, number>();
  #open = 0;

  /** Open sockets. */
  get open(): number {
    return this.#open;
  }

  opened(owner: number): void {
    this.#open += 1;
    this.#openOf.set(owner, this.#of(owner) + 1);
  }

  closed(owner: number): void {
    this.#open -= 1;
    const left = this.#of(owner) - 1;
    if (left === 0) this.#openOf.delete(owner);
    else this.#openOf.set(owner, left);
  }

  /** Whether the owner has more than half of its bound. */
  isBusy(owner: number): boolean {
    return this.#of(owner) * 2 > boundOf(owner);
  }

  /** An endpoint may open as many as its bound, and its share of what is free of the node's. */
  hasRoom(owner: number): boolean {
    const open = this.#of(owner);
    if (open >= boundOf(owner)) return false;
    if (owner === countedForResolvers) return true;
    return hasShare(open, this.#freeOfNode(), upstreamSocketsMax, upstreamSocketsGuaranteed);
  }

  /** Whether the owner may open one beyond its bound: one for each server that it may have. */
  hasSpare(owner: number): boolean {
    const spare = this.#of(owner) - boundOf(owner);
    if (owner === countedForResolvers) return spare < upstreamResolversMax;
    if (spare >= upstreamServersPerEndpointMax) return false;
    return this.#freeOfNode() > upstreamSocketsMax / upstreamReserveShare;
  }

  #of(owner: number): number {
    return this.#openOf.get(owner) ?? 0;
  }

  /** How many more endpoints may open. */
  #freeOfNode(): number {
    return upstreamSocketsMax - (this.#open - this.#of(countedForResolvers));
  }
}

function boundOf(owner: number): number {
  return owner === countedForResolvers ? upstreamResolverSocketsMax : upstreamSocketsPerEndpointMax;
}
