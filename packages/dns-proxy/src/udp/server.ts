// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS over UDP: queries (queries.ts) and replies (replies.ts) and what the two share: the slots
 * of queries in flight, the batch that goes to the pods, its time.
 */

import type { QueryView } from '@tandem/core/dns/query';
import type { ReplyView } from '@tandem/core/dns/reply';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import type { Learner } from '../answer/learner.ts';
import type { DnsEventWriter } from '../dns-event.ts';
import type { Denial } from '../query/denial.ts';
import type { PolicyLookup } from '../query/policy-lookup.ts';
import type { UdpPool } from '../udp/upstream.ts';
import { Batch } from './batch.ts';
import type { UpstreamIds } from './ids.ts';
import { InFlight } from './in-flight.ts';
import { Outgoing } from './outgoing.ts';
import { UdpQueries } from './queries.ts';
import { QueryEvents } from './query-events.ts';
import { UdpReplies } from './replies.ts';
import type { QuerySlots } from './slots.ts';

export interface UdpServerOptions {
  /** The journal: holds the slots, and in its scratch cells room for a batch of replies. */
  readonly memory: Uint8Array;
  readonly slots: QuerySlots;
  readonly listeners: UdpLoop;
  readonly upstreams: UdpLoop;
  readonly lookup: PolicyLookup;
  readonly pool: UdpPool;
  readonly ids: UpstreamIds;
  readonly learner: Learner;
  readonly events: DnsEventWriter;
  readonly counters: Float64Array;
  readonly query: QueryView;
  readonly reply: ReplyView;
  readonly denial: Denial;
  /** Called at the start of each batch, with CLOCK_MONOTONIC in nanoseconds. */
  readonly beat: (monotonicNs: number) => void;
}

export class UdpServer {
  readonly #o: UdpServerOptions;
  readonly #batch = new Batch();
  readonly #queries: UdpQueries;
  readonly #replies: UdpReplies;

  constructor(options: UdpServerOptions) {
    this.#o = options;
    const shared = {
      ...options,
      batch: this.#batch,
      inFlight: new InFlight(options),
      outgoing: new Outgoing(options),
      queryEvents: new QueryEvents({ ...options, batch: this.#batch }),
    };
    this.#queries = new UdpQueries(shared);
    this.#replies = new UdpReplies(shared);
  }

  /** Own listeners, by which replayed queries are answered. */
  setListeners(ipv4: number, ipv6: number): void {
    this.#queries.setListeners(ipv4, ipv6);
  }

  /** Queries received on one listener; they are answered by `listener`, an own one. */
  onQueries(listener: number, count: number): void {
    this.#begin(this.#o.listeners);
    this.#queries.onQueries(listener, count);
  }

  /** Replies received on one upstream socket. */
  onReplies(socket: number, count: number): void {
    this.#begin(this.#o.upstreams);
    this.#replies.onReplies(socket, count);
  }

  /** Before `replay`. CLOCK_MONOTONIC in nanoseconds. */
  beginReplay(monotonicNs: number): void {
    this.#queries.beginReplay(monotonicNs);
  }

  /** Does a query of another life anew; its story is in a free slot taken for it. */
  replay(slot: number): void {
    this.#queries.replay(slot);
  }

  /** After the last `replay`: sends what they made. */
  endReplay(): void {
    this.#queries.endReplay();
  }

  /** Forgets queries that nobody will answer any more. */
  sweep(monotonicNs: number): void {
    this.#replies.sweep(monotonicNs);
  }

  #begin(loop: UdpLoop): void {
    this.#batch.begin(loop);
    this.#o.beat(this.#batch.monotonicNs);
  }
}
