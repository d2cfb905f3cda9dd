// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The product's limits in one life, with accounts of their own beside them. */

import { counter } from '@tandem/dns-proxy/counters';
import { OwnerSlots } from '@tandem/dns-proxy/policy/owner-slots';
import { QueryLimits } from '@tandem/dns-proxy/policy/query-limits';
import { pods } from './universe.ts';
import type { World } from './world.ts';

/** Endpoints, and policies, that have slots: fewer than there are policies. */
const owners = 8;

export class WorkerLimits {
  readonly limits: QueryLimits;
  readonly #world: World;
  readonly #counters: Float64Array;
  /** Endpoint slots that TCP holds. */
  #held = 0;
  /** Tokens that queries took. */
  #paid = 0;
  /** Queries of each pod that came to this life. */
  readonly #taken = pods.map(() => 0);

  constructor(world: World, counters: Float64Array) {
    this.#world = world;
    this.#counters = counters;
    const { queryRate, inFlight } = world.limits;
    this.limits = new QueryLimits(queryRate, owners, inFlight);
    const { limits } = this;
    limits.takeToken = (slot, nowMs) => {
      const isTaken = QueryLimits.prototype.takeToken.call(limits, slot, nowMs);
      if (isTaken) this.#paid += 1;
      return isTaken;
    };
    const { endpoints } = limits;
    endpoints.hold = (slot) => {
      this.#held += 1;
      OwnerSlots.prototype.hold.call(endpoints, slot);
    };
    endpoints.unhold = (slot) => {
      this.#held -= 1;
      OwnerSlots.prototype.unhold.call(endpoints, slot);
    };
  }

  /** Queries of the pod came. */
  take(pod: number, queries: number): void {
    this.#taken[pod] = this.#taken[pod]! + queries;
  }

  /** Some query was refused because no slot of an owner was free. */
  get hasRefusedOwners(): boolean {
    return this.#counters[counter.refusedOwners]! > 0;
  }

  check(): void {
    const { oracle, limits } = this.#world;
    const { inFlight } = this.limits;
    if (inFlight > limits.inFlight || inFlight < 0)
      oracle.fail(6, `${inFlight} queries are in flight`);
    const taken = this.#taken.reduce((total, queries) => total + queries, 0);
    if (this.#paid > taken) oracle.fail(6, `${taken} queries paid for ${this.#paid}`);
    const isOverRate = this.#taken.some((queries) => queries > limits.queryRate);
    if (this.#counters[counter.refusedEndpointRate]! > 0 && !isOverRate)
      oracle.fail(6, 'a query is refused for its rate, of a pod that has not asked so many');
  }

  /**
   * Names what is held although no connection of a pod is left and so many queries are in flight over UDP; null: nothing.
   * `hasNoneKept`: no connection to a server is left either.
   */
  leak(overUdp: number, hasNoneKept: boolean): string | null {
    const { inFlight, endpoints, policies } = this.limits;
    if (hasNoneKept && this.#held !== 0) return `${this.#held} held endpoints`;
    const sum = (counts: Int32Array): number => counts.reduce((total, count) => total + count, 0);
    if ([inFlight, sum(endpoints.inFlight), sum(policies.inFlight)].every((n) => n === overUdp))
      return null;
    return `${inFlight} queries in flight, ${overUdp} over UDP`;
  }
}
