// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** The end of a query in flight: what it held of its upstream socket and of its endpoint's limits. */

import { counter } from '../counters.ts';
import type { PolicyLookup } from '../query/policy-lookup.ts';
import type { UdpPool } from '../udp/upstream.ts';
import type { UpstreamIds } from './ids.ts';
import { type QuerySlots, slotEndpoint, slotUpstream, slotUpstreamId } from './slots.ts';

export interface InFlightOptions {
  readonly slots: QuerySlots;
  readonly lookup: PolicyLookup;
  readonly pool: UdpPool;
  readonly ids: UpstreamIds;
  readonly counters: Float64Array;
}

export class InFlight {
  readonly #o: InFlightOptions;

  constructor(options: InFlightOptions) {
    this.#o = options;
  }

  /** The query's id and socket have done their work. */
  endUpstream(slot: number, isAnswered: boolean): void {
    const { slots, ids, pool } = this.#o;
    const at = slots.wordOf(slot);
    const handle = slots.words[at + slotUpstream] as number;
    ids.release(slots.words[at + slotUpstreamId] as number, pool.saltOf(handle));
    if (isAnswered) pool.answered(handle);
    else pool.timedOut(handle);
  }

  /** The query is about to be answered; false if another member has it by now. */
  endReply(slot: number): boolean {
    const { slots, counters } = this.#o;
    this.endEndpoint(slot);
    if (slots.reply(slot)) return true;
    counters[counter.queriesClaimed] = (counters[counter.queriesClaimed] as number) + 1;
    return false;
  }

  endEndpoint(slot: number): void {
    const { slots, lookup } = this.#o;
    const { inFlight } = lookup.limits;
    const endpointSlot = slots.words[slots.wordOf(slot) + slotEndpoint] as number;
    inFlight[endpointSlot] = (inFlight[endpointSlot] as number) - 1;
  }
}
