// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS over UDP: queries (queries.ts), replies (replies.ts), and the parts that both share: slots of queries in
 * flight, batches to servers (forwards.ts) and to pods (outgoing.ts), and the clock of the batch.
 */

import type { QuerySlot } from '../journal/region.ts';
import type { ListenerHandle } from '../listener-kinds.ts';
import type { QueryPath } from '../query/query-path.ts';
import { Batch } from './batch.ts';
import { Forwards } from './forwards.ts';
import { InFlight } from './in-flight.ts';
import { Outgoing } from './outgoing.ts';
import { UdpQueries } from './queries.ts';
import { UdpReplies } from './replies.ts';
import type { UdpShared } from './shared.ts';
import { Timeouts } from './timeouts.ts';
import type { SocketHandle } from './upstream-sockets.ts';

export interface UdpServerOptions
  extends QueryPath,
    Pick<UdpShared, 'memory' | 'slots' | 'listeners' | 'upstreams' | 'pool' | 'ids'> {
  /** Called at the start of each batch, with CLOCK_MONOTONIC in nanoseconds. */
  readonly beat: (monotonicNs: number) => void;
}

export class UdpServer {
  readonly #o: UdpServerOptions;
  readonly #batch = new Batch();
  readonly #forwards: Forwards;
  readonly #queries: UdpQueries;
  readonly #replies: UdpReplies;

  constructor(options: UdpServerOptions) {
    this.#o = options;
    const batch = this.#batch;
    const outgoing = new Outgoing(options);
    const inFlight = new InFlight({ ...options, batch });
    const timeouts = new Timeouts({ ...options, batch, inFlight });
    this.#forwards = new Forwards({ ...options, batch, inFlight, outgoing, timeouts });
    const shared = { ...options, batch, inFlight, outgoing, timeouts, forwards: this.#forwards };
    this.#queries = new UdpQueries(shared);
    this.#replies = new UdpReplies(shared);
  }

  /** Own listeners, by which replayed queries are answered. */
  setListeners(ipv4: ListenerHandle, ipv6: ListenerHandle): void {
    this.#queries.setListeners(ipv4, ipv6);
  }

  /** Queries received on one listener; they are answered by `listener`, an own one. */
  onQueries(listener: ListenerHandle, count: number): void {
    this.#begin(this.#o.listeners.clock);
    this.#queries.onQueries(listener, count);
  }

  /** Replies received on one upstream socket. */
  onReplies(socket: SocketHandle, count: number): void {
    this.#begin(this.#o.upstreams.clock);
    this.#replies.onReplies(socket, count);
  }

  /** The kernel reports an error of an upstream socket. `clock`: as for `sweep`. */
  onUpstreamError(socket: SocketHandle, errno: number, clock: Float64Array): void {
    this.#batch.begin(clock);
    this.#forwards.onSocketError(socket, errno);
  }

  /** Before `replay`. `clock`: as for `sweep`. */
  beginReplay(clock: Float64Array): void {
    this.#batch.begin(clock);
    this.#queries.beginReplay();
  }

  /** Handles a query of another process again; its record is in a free slot taken for it. */
  replay(slot: QuerySlot): void {
    this.#queries.replay(slot);
  }

  /** After the last `replay`: sends the forwards and replies of the batch. */
  endReplay(): void {
    this.#queries.endReplay();
  }

  /**
   * Gives up queries that will get no answer any more. `clock`: CLOCK_MONOTONIC and CLOCK_BOOTTIME, ns. `readUntilNs`: replies
   * that came before then have been read.
   */
  sweep(clock: Float64Array, readUntilNs: number): void {
    this.#batch.begin(clock);
    this.#replies.sweep(readUntilNs);
  }

  #begin(clock: Float64Array): void {
    this.#batch.begin(clock);
    this.#o.beat(this.#batch.monotonicNs);
  }
}
