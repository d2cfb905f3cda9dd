// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Rate and in-flight limits per endpoint (safety rule 7: one pod cannot stop the node's DNS). A slot
 * belongs to an endpoint id while it has queries in flight or was used lately.
 */

import { endpointSlotsMax, inFlightPerEndpointMax } from '../limits.ts';

export class EndpointLimits {
  readonly #rate: number;
  readonly #slots = new Map<number, number>();
  readonly #tokens: Float64Array;
  readonly #refilledMs: Float64Array;
  readonly #free: number[] = [];
  /** Queries in flight of the slot's endpoint. */
  readonly inFlight: Int32Array;
  readonly connections: Int32Array;
  /** Incremented when slots change owners: whoever remembers slots must forget them. */
  generation = 0;
  readonly endpointId: Uint32Array;

  /** `rate`: queries per second of one endpoint, and how many may come at once. */
  constructor(rate: number, slots: number = endpointSlotsMax) {
    this.#rate = rate;
    this.#tokens = new Float64Array(slots);
    this.#refilledMs = new Float64Array(slots);
    this.inFlight = new Int32Array(slots);
    this.connections = new Int32Array(slots);
    this.endpointId = new Uint32Array(slots);
    for (let slot = slots - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  /** The endpoint's slot, or -1 when all slots belong to busy endpoints. */
  slotOf(endpointId: number, nowMs: number): number {
    const known = this.#slots.get(endpointId);
    if (known !== undefined) return known;
    if (this.#free.length === 0) this.#reclaim(nowMs);
    const slot = this.#free.pop();
    if (slot === undefined) return -1;
    this.#slots.set(endpointId, slot);
    this.endpointId[slot] = endpointId;
    this.#tokens[slot] = this.#rate;
    this.#refilledMs[slot] = nowMs;
    return slot;
  }

  /** Takes one token of the endpoint's bucket; false when there is none. */
  takeToken(slot: number, nowMs: number): boolean {
    let tokens = this.#tokens[slot] as number;
    const elapsed = nowMs - (this.#refilledMs[slot] as number);
    if (elapsed > 0) {
      tokens = Math.min(this.#rate, tokens + (elapsed * this.#rate) / 1000);
      this.#refilledMs[slot] = nowMs;
    }
    if (tokens < 1) {
      this.#tokens[slot] = tokens;
      return false;
    }
    this.#tokens[slot] = tokens - 1;
    return true;
  }

  hasRoom(slot: number): boolean {
    return (this.inFlight[slot] as number) < inFlightPerEndpointMax;
  }

  /** Frees the slots of endpoints that have nothing in flight and a full bucket. */
  #reclaim(nowMs: number): void {
    this.generation += 1;
    for (const [endpointId, slot] of this.#slots) {
      const idleMs = nowMs - (this.#refilledMs[slot] as number);
      if (this.inFlight[slot] !== 0 || this.connections[slot] !== 0) continue;
      if (idleMs < 1000) continue; // its bucket is not full yet
      this.#slots.delete(endpointId);
      this.#free.push(slot);
    }
  }
}
