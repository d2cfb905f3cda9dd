// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Limits of queries in flight and of their rate (safety rule 7: one pod cannot stop the node's DNS). Bounds hold for the
 * endpoint first, then for its policy, then for the node, over UDP and TCP together.
 *
 * The bounds of endpoint and policy are shares of what is *free* (dynamic thresholds, Choudhury and Hahne
 * 1998): an endpoint alone may have a fifth of the node's places, 16 busy ones about 350 each. An eighth of
 * the places is kept for endpoints that have next to nothing in flight, whatever the others hold.
 */

import type { EndpointId, PolicyId } from '@tandem/core/ids';
import {
  endpointFreeShare,
  inFlightGuaranteed,
  inFlightMax,
  inFlightReserveShare,
  ownerSlotsMax,
  policyFreeShare,
} from '../limits.ts';
import { type EndpointSlot, OwnerSlots, type PolicySlot } from './owner-slots.ts';

/** Results of {@link QueryLimits.room}. */
export const roomFree = 0;
export const roomEndpoint = 1;
export const roomPolicy = 2;
export const roomNode = 3;
export type Room = typeof roomFree | typeof roomEndpoint | typeof roomPolicy | typeof roomNode;

export class QueryLimits {
  readonly endpoints: OwnerSlots<EndpointSlot>;
  readonly policies: OwnerSlots<PolicySlot>;
  readonly #rate: number;
  readonly #tokens: Float64Array;
  readonly #refilledMs: Float64Array;
  readonly #bucketOwner: Uint32Array;
  readonly #total: number;
  #inFlight = 0;

  /**
   * `rate`: queries per second of one endpoint, and how many may come at once. `owners`: endpoints, and
   * policies, that can have slots. `total`: queries in flight of the node.
   */
  constructor(rate: number, owners: number = ownerSlotsMax, total: number = inFlightMax) {
    this.#rate = rate;
    this.#total = total;
    this.endpoints = new OwnerSlots(owners);
    this.policies = new OwnerSlots(owners);
    this.#tokens = new Float64Array(owners);
    this.#refilledMs = new Float64Array(owners).fill(-Infinity);
    this.#bucketOwner = new Uint32Array(owners);
  }

  /** Changes when slots change owners: remembered slots must be looked up again. */
  get generation(): number {
    return this.endpoints.generation + this.policies.generation;
  }

  /** Queries in flight of the node, over both transports. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** The endpoint's slot, or -1 when all slots belong to busy endpoints. A new owner has a full bucket. */
  endpointSlot(endpointId: EndpointId, nowMs: number): EndpointSlot {
    const slot = this.endpoints.slotOf(endpointId, nowMs);
    if (slot >= 0 && this.#bucketOwner[slot] !== endpointId) {
      this.#bucketOwner[slot] = endpointId;
      this.#refilledMs[slot] = -Infinity;
    }
    return slot;
  }

  /** The policy's slot, or -1 when all slots belong to busy policies. */
  policySlot(policyId: PolicyId, nowMs: number): PolicySlot {
    return this.policies.slotOf(policyId, nowMs);
  }

  /** Takes one token of the endpoint's bucket; false when there is none. */
  takeToken(slot: EndpointSlot, nowMs: number): boolean {
    const tokens = this.#refill(slot, nowMs);
    if (tokens < 1) return false;
    this.#tokens[slot] = tokens - 1;
    return true;
  }

  /** Whether the endpoint's bucket has a token. */
  hasToken(slot: EndpointSlot, nowMs: number): boolean {
    return this.#refill(slot, nowMs) >= 1;
  }

  /** Whether one more query of the endpoint may be in flight, or whose bound refuses it. */
  room(endpointSlot: EndpointSlot, policySlot: PolicySlot): Room {
    const free = this.#total - this.#inFlight;
    if (free <= 0) return roomNode;
    const mine = this.endpoints.inFlight[endpointSlot]!;
    if (mine < inFlightGuaranteed) return roomFree;
    const spare = free - this.#total / inFlightReserveShare;
    if (mine * endpointFreeShare >= spare) return roomEndpoint;
    if (this.policies.inFlight[policySlot]! * policyFreeShare >= spare) return roomPolicy;
    return roomFree;
  }

  /** A query is in flight from now on. */
  begin(endpointSlot: EndpointSlot, policySlot: PolicySlot): void {
    this.#inFlight += 1;
    this.endpoints.inFlight[endpointSlot]!++;
    this.policies.inFlight[policySlot]!++;
  }

  /** It is not any more. */
  end(endpointSlot: EndpointSlot, policySlot: PolicySlot): void {
    this.#inFlight -= 1;
    this.endpoints.inFlight[endpointSlot]!--;
    this.policies.inFlight[policySlot]!--;
  }

  /** Adds what time has brought; the tokens then. */
  #refill(slot: EndpointSlot, nowMs: number): number {
    const elapsed = nowMs - this.#refilledMs[slot]!;
    if (elapsed <= 0) return this.#tokens[slot]!;
    const tokens = Math.min(this.#rate, this.#tokens[slot]! + (elapsed * this.#rate) / 1000);
    this.#tokens[slot] = tokens;
    this.#refilledMs[slot] = nowMs;
    this.endpoints.touch(slot, nowMs);
    return tokens;
  }
}
