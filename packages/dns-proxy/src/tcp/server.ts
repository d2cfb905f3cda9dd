// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * DNS over TCP on the shared listeners (threat T13): the connection's local address is the server that
 * the pod asked. Connections (admission.ts), time (turns.ts), octets (octets.ts) and queries in flight have a
 * bound per pod.
 */

import { counter } from '../counters.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import { protocolTcp } from '../query/facts.ts';
import type { Moment } from '../query/moment.ts';
import { unknownSource } from '../query/policy-lookup.ts';
import type { QueryPath } from '../query/query-path.ts';
import type { RandomSource } from '../query/random.ts';
import { TcpAdmission } from './admission.ts';
import { TcpBlocks } from './blocks.ts';
import { TcpConnection } from './connection.ts';
import type { TcpContext } from './context.ts';
import { TcpOctets } from './octets.ts';
import type { AcceptedConnection, TcpSystem } from './stream.ts';
import { TcpTurns } from './turns.ts';
import { TcpUpstreams } from './upstreams.ts';

export interface TcpServerOptions extends QueryPath {
  readonly random: RandomSource;
  readonly system: TcpSystem;
  /** Connections of one pod that are read at one time. */
  readonly connectionsPerPod: number;
  /** The smallest block (blocks.ts); default `tcpBlockBytesMin`. */
  readonly blockBytesMin?: number;
  /** Reads the clocks. */
  readonly moment: () => Moment;
}

export class TcpServer {
  readonly #o: TcpServerOptions;
  readonly #admission: TcpAdmission;
  readonly #context: TcpContext;
  /** A function for each listener that is read, which stops the reading. */
  readonly #stops = new Set<() => void>();
  readonly #moment = { monotonicNs: 0, boottimeNs: 0 };
  #isDraining = false;
  /** Generation of the endpoints with which connections were last compared. */
  #generation = -1;

  constructor(options: TcpServerOptions) {
    this.#o = options;
    const { lookup, answers, counters, system } = options;
    const turns = new TcpTurns(
      system,
      () => {
        this.#readClock();
        lookup.begin();
        answers.begin();
      },
      () => answers.flush(),
    );
    const { endpoints } = lookup.limits;
    const hold = (slot: EndpointSlot, isHeld: boolean): void => {
      if (isHeld) endpoints.hold(slot);
      else endpoints.unhold(slot);
    };
    const blocks = new TcpBlocks(options.blockBytesMin);
    this.#context = {
      ...options,
      turns,
      octets: new TcpOctets(),
      blocks,
      giveBackBlock: (bytes) => blocks.giveBack(bytes),
      upstreams: new TcpUpstreams(endpoints, counters),
      moment: this.#moment,
    };
    this.#admission = new TcpAdmission({
      perPod: options.connectionsPerPod,
      counters,
      nowNs: () => this.#moment.monotonicNs,
      open: (accepted, slot) => this.#open(accepted, slot),
      hold,
      soon: (work) => system.soon(work),
    });
    this.#readClock();
  }

  /**
   * Accepts on a listening socket until the function returned is called or this drains. The socket may be
   * another member's.
   */
  listen(fd: number): () => void {
    if (this.#isDraining) return () => undefined;
    const { system, counters } = this.#o;
    const stopListening = system.listen(
      fd,
      (accepted) => this.#onAccepted(accepted),
      () => {
        counters[counter.tcpRefused]!++;
      },
    );
    const stop = (): void => {
      if (this.#stops.delete(stop)) stopListening();
    };
    this.#stops.add(stop);
    return stop;
  }

  /** Connections that are read, and that wait to be. */
  get connections(): number {
    return this.#admission.size;
  }

  /** Octets of queries and replies that connections hold. */
  get octets(): number {
    return this.#context.octets.total;
  }

  /**
   * The server (16 bytes) has other backends than before: its connections that have nothing in flight are asked
   * nothing more, the others nothing after what is in flight.
   */
  backendsChanged(server: Uint8Array): void {
    for (const connection of this.#admission.connections()) connection.backendsChanged(server);
    this.#context.upstreams.backendsChanged(server);
  }

  /** Stops accepting; connections with queries in flight go on until they are answered. */
  drain(): void {
    this.#isDraining = true;
    for (const stop of [...this.#stops]) stop();
    for (const connection of [...this.#admission.connections()]) connection.drain();
  }

  /**
   * Ends timeouts until now, after octets that came in by now have been read: of a process that was
   * stopped for a while, much waits in the kernel.
   */
  sweep(): void {
    if (this.#admission.size === 0 && this.#context.upstreams.isEmpty) return;
    this.#readClock();
    const { monotonicNs } = this.#moment;
    this.#o.system.soon(() => this.#sweep(monotonicNs));
  }

  close(): void {
    for (const stop of [...this.#stops]) stop();
    this.#admission.close();
    this.#context.upstreams.close();
  }

  #sweep(nowNs: number): void {
    this.#readClock();
    this.#followEndpoints();
    for (const connection of [...this.#admission.connections()]) connection.sweep(nowNs);
    this.#admission.sweep();
    this.#context.upstreams.sweep(nowNs);
  }

  #followEndpoints(): void {
    const { newestGeneration } = this.#o.lookup;
    if (newestGeneration === this.#generation) return;
    this.#generation = newestGeneration;
    for (const connection of [...this.#admission.connections()]) connection.endpointsChanged();
  }

  #readClock(): void {
    const { monotonicNs, boottimeNs } = this.#o.moment();
    this.#moment.monotonicNs = monotonicNs;
    this.#moment.boottimeNs = boottimeNs;
  }

  #onAccepted(accepted: AcceptedConnection): void {
    const { lookup, counters } = this.#o;
    this.#readClock();
    lookup.begin();
    const nowMs = this.#moment.monotonicNs / 1e6;
    const flow = lookup.flowOf(accepted.addresses, 0, 4, protocolTcp, nowMs);
    if (flow < 0) {
      counters[flow === unknownSource ? counter.unknownSource : counter.tcpRefused]!++;
      accepted.refuse();
      return;
    }
    this.#admission.add(accepted, lookup.flows.endpointSlot[flow]! as EndpointSlot);
  }

  #open(accepted: AcceptedConnection, endpointSlot: EndpointSlot): TcpConnection {
    const connection: TcpConnection = new TcpConnection(accepted, endpointSlot, this.#context, {
      onClosed: () => this.#admission.remove(connection),
      onIdle: () => this.#admission.onIdle(connection),
    });
    if (this.#isDraining) connection.drain();
    return connection;
  }
}
