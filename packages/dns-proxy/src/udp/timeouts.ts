// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Gives queries up: their server did not answer in time, or it has been silent for long and another
 * server of the same pod needs its place. The pod gets no reply, as without a proxy.
 */

import { counter } from '../counters.ts';
import type { QuerySlot } from '../journal/region.ts';
import { slotFormerUpstream, slotUpstream } from '../journal/slots.ts';
import { protocolUdp, QueryFacts } from '../query/facts.ts';
import { countOutcome, outcome } from '../query/outcome.ts';
import type { InFlight } from './in-flight.ts';
import type { ServerHandle } from './servers.ts';
import type { UdpShared } from './shared.ts';

type TimeoutsOptions = Pick<
  UdpShared,
  'slots' | 'pool' | 'lookup' | 'query' | 'report' | 'batch' | 'counters'
> & { readonly inFlight: InFlight };

export class Timeouts {
  readonly #o: TimeoutsOptions;
  readonly #facts = new QueryFacts(protocolUdp);

  constructor(options: TimeoutsOptions) {
    this.#o = options;
  }

  /** The query in the slot gets no answer; `query` holds it afterwards. */
  giveUp(slot: QuerySlot): void {
    const { query, report, batch, inFlight, counters } = this.#o;
    if (inFlight.read(slot, this.#facts, query)) report.timedOut(this.#facts, query, batch);
    inFlight.forget(slot);
    countOutcome(counters, outcome.timedOut);
  }

  /**
   * Gives up the server that has been silent longest, of those whose place the endpoint of `facts` may have; false
   * if there is none. `query` holds another query afterwards.
   */
  giveUpServerFor(facts: QueryFacts): boolean {
    const { pool, lookup, batch, counters } = this.#o;
    const owner = {
      endpointId: lookup.limits.endpoints.ownerId[facts.endpointSlot]!,
      policyId: facts.policyId,
      isResolver: facts.isTrusted,
    };
    const server = pool.silentServerFor(owner, batch.monotonicNs / 1e6);
    if (server === -1) return false;
    this.#giveUpAll(server);
    pool.forget(server);
    counters[counter.upstreamServersGivenUp]!++;
    return true;
  }

  #giveUpAll(server: ServerHandle): void {
    const { slots, pool, inFlight } = this.#o;
    const { startedUs, words } = slots;
    for (
      let slot = 0 as QuerySlot;
      slot < startedUs.length && pool.inFlightAt(server) > 0;
      slot++
    ) {
      if (startedUs[slot] === Infinity) continue;
      const at = slots.wordOf(slot);
      const isThere =
        pool.isSocketOf(words[at + slotUpstream]!, server) ||
        pool.isSocketOf(words[at + slotFormerUpstream]!, server);
      if (!isThere) continue;
      if (slots.isLost(slot)) inFlight.end(slot, 0);
      else this.giveUp(slot);
    }
  }
}
