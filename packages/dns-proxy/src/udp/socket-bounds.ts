// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Limits of open upstream sockets: of the cluster's resolvers; of each endpoint, then of its policy, then of the node, for all
 * other servers.
 */

import {
  upstreamReserveShare,
  upstreamResolverSocketsMax,
  upstreamResolversMax,
  upstreamServersPerEndpointMax,
  upstreamServersPerPolicyMax,
  upstreamSocketsGuaranteed,
  upstreamSocketsMax,
  upstreamSocketsPerEndpointMax,
  upstreamSocketsPerPolicyMax,
} from '../limits.ts';
import { hasShare, type ServerOwner } from './servers.ts';

/** In the place of an endpoint's id, which is never negative. */
export const countedForResolvers = -1;

/** The owner for which sockets to a server count: its endpoint's id, or `countedForResolvers`. */
export function countedForOf({ isResolver, endpointId }: ServerOwner): number {
  return isResolver ? countedForResolvers : endpointId;
}

export class SocketBounds {
  readonly #openOf = new Map<number, number>();
  /** Without those of the cluster's resolvers. */
  readonly #openOfPolicy = new Map<number, number>();
  #open = 0;

  /** Open sockets. */
  get open(): number {
    return this.#open;
  }

  opened(owner: ServerOwner): void {
    this.#count(owner, 1);
  }

  closed(owner: ServerOwner): void {
    this.#count(owner, -1);
  }

  /** Whether the endpoint, or the resolvers, have more than half of the bound. */
  isBusy(countedFor: number): boolean {
    return this.#of(countedFor) * 2 > boundOf(countedFor);
  }

  /** An endpoint may open as many as its bound, and its share of what is free of its policy's and of the node's. */
  hasRoom(owner: ServerOwner): boolean {
    const countedFor = countedForOf(owner);
    const open = this.#of(countedFor);
    if (open >= boundOf(countedFor)) return false;
    if (owner.isResolver) return true;
    const freeOfPolicy = upstreamSocketsPerPolicyMax - this.#ofPolicy(owner);
    return (
      hasShare(open, freeOfPolicy, upstreamSocketsPerPolicyMax, upstreamSocketsGuaranteed) &&
      hasShare(open, this.#freeOfNode(), upstreamSocketsMax, upstreamSocketsGuaranteed)
    );
  }

  /**
   * Whether the owner may open one beyond its bound and its policy's: one for each server that endpoint and policy may have. An
   * endpoint without sockets does not depend on its policy's.
   */
  hasSpare(owner: ServerOwner): boolean {
    const countedFor = countedForOf(owner);
    const open = this.#of(countedFor);
    const spare = open - boundOf(countedFor);
    if (owner.isResolver) return spare < upstreamResolversMax;
    if (spare >= upstreamServersPerEndpointMax) return false;
    const spareOfPolicy = this.#ofPolicy(owner) - upstreamSocketsPerPolicyMax;
    if (open > 0 && spareOfPolicy >= upstreamServersPerPolicyMax) return false;
    return this.#freeOfNode() > upstreamSocketsMax / upstreamReserveShare;
  }

  #count(owner: ServerOwner, change: number): void {
    this.#open += change;
    add(this.#openOf, countedForOf(owner), change);
    if (!owner.isResolver) add(this.#openOfPolicy, owner.policyId, change);
  }

  #of(countedFor: number): number {
    return this.#openOf.get(countedFor) ?? 0;
  }

  #ofPolicy({ policyId }: ServerOwner): number {
    return this.#openOfPolicy.get(policyId) ?? 0;
  }

  /** How many more endpoints may open. */
  #freeOfNode(): number {
    return upstreamSocketsMax - (this.#open - this.#of(countedForResolvers));
  }
}

/** Adds to a count; a count of 0 is no entry. */
function add(counts: Map<number, number>, key: number, change: number): void {
  const count = (counts.get(key) ?? 0) + change;
  if (count === 0) counts.delete(key);
  else counts.set(key, count);
}

function boundOf(countedFor: number): number {
  return countedFor === countedForResolvers
    ? upstreamResolverSocketsMax
    : upstreamSocketsPerEndpointMax;
}
