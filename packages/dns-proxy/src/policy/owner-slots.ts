// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * A small index for each owner (an endpoint, or a policy) of queries in flight, so that counts per owner are
 * arrays. A slot belongs to an owner while it has queries in flight, is held, or was looked up lately.
 */

import type { Branded } from '@tandem/core/brand';

/** An owner without queries in flight keeps its slot for so long after it was looked up. */
const idleMsMin = 1000;

/** A slot of an endpoint, or -1. */
export type EndpointSlot = Branded<'EndpointSlot'>;
/** A slot of a policy, or -1. */
export type PolicySlot = Branded<'PolicySlot'>;

export class OwnerSlots<Slot extends number> {
  readonly #slots = new Map<number, Slot>();
  readonly #free: Slot[] = [];
  readonly #usedMs: Float64Array;
  readonly #holds: Int32Array;
  /** Id of the slot's owner. */
  readonly ownerId: Uint32Array;
  /** Queries in flight of the slot's owner. */
  readonly inFlight: Int32Array;
  /** Incremented when slots change owners: remembered slots must be looked up again. */
  generation = 0;

  constructor(slots: number) {
    this.#usedMs = new Float64Array(slots);
    this.#holds = new Int32Array(slots);
    this.ownerId = new Uint32Array(slots);
    this.inFlight = new Int32Array(slots);
    for (let slot = slots - 1; slot >= 0; slot--) this.#free.push(slot as Slot);
  }

  /** The owner's slot, or -1 when all slots belong to busy owners. */
  slotOf(id: number, nowMs: number): Slot {
    const known = this.#slots.get(id);
    if (known !== undefined) {
      this.#usedMs[known] = nowMs;
      return known;
    }
    if (this.#free.length === 0) this.#reclaim(nowMs);
    const slot = this.#free.pop();
    if (slot === undefined) return -1 as Slot;
    this.#slots.set(id, slot);
    this.ownerId[slot] = id;
    this.#usedMs[slot] = nowMs;
    return slot;
  }

  /** The slot stays its owner's until `unhold`, whatever is in flight. */
  hold(slot: Slot): void {
    this.#holds[slot]!++;
  }

  unhold(slot: Slot): void {
    this.#holds[slot]!--;
  }

  /** The slot's owner was active. */
  touch(slot: Slot, nowMs: number): void {
    this.#usedMs[slot] = nowMs;
  }

  /** Frees the slots of idle owners. */
  #reclaim(nowMs: number): void {
    this.generation += 1;
    for (const [id, slot] of this.#slots) {
      if (this.inFlight[slot] !== 0 || this.#holds[slot] !== 0) continue;
      if (nowMs - this.#usedMs[slot]! < idleMsMin) continue;
      this.#slots.delete(id);
      this.#free.push(slot);
    }
  }
}
