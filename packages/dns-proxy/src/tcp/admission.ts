// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Decides which connections are read. A pod may have a bounded number. Further ones wait unread, each as a file descriptor; an
 * idle connection of the same pod is closed for the one that waits longest. If the node has no room, an idle connection of the pod
 * with most of them is closed. An eighth of the node's places is reserved for pods that have next to none, so that a pod whose
 * connections are all busy blocks only itself. If there is no room to wait either, a waiting connection of the pod with most of
 * them is reset. Reading a new connection costs far more than accepting it, so only a few begin in one turn of the event loop.
 */

import { counter } from '../counters.ts';
import {
  tcpConnectionsGuaranteed,
  tcpConnectionsMax,
  tcpConnectionsReserveShare,
  tcpIdleEvictMs,
  tcpOpensPerTurn,
  tcpWaitingMax,
  tcpWaitingPerEndpointMax,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';
import type { TcpConnection } from './connection.ts';
import type { AcceptedConnection } from './stream.ts';

interface Pod {
  readonly endpointSlot: EndpointSlot;
  /** Connections that are read. */
  readonly open: Set<TcpConnection>;
  readonly waiting: AcceptedConnection[];
  /** When none of its connections was idle, CLOCK_MONOTONIC. */
  noneIdleNs: number;
}

export interface AdmissionOptions {
  /** Connections of one pod that are read. */
  readonly perPod: number;
  readonly counters: Float64Array;
  readonly nowNs: () => number;
  /** Begins to read a connection. */
  readonly open: (accepted: AcceptedConnection, endpointSlot: EndpointSlot) => TcpConnection;
  /** The pod has connections, or none any more. */
  readonly hold: (endpointSlot: EndpointSlot, isHeld: boolean) => void;
  /** Calls `work` once, in the next turn of the event loop. */
  readonly soon: (work: () => void) => void;
}

/** A pod that had no idle connection is not searched for one again so soon: whichever becomes idle says so. */
const searchIntervalNs = 5e6;

export class TcpAdmission {
  readonly #o: AdmissionOptions;
  readonly #pods = new Map<EndpointSlot, Pod>();
  #open = 0;
  #waiting = 0;
  /** Connections that this turn may still begin to read. */
  #opensLeft = tcpOpensPerTurn;

  constructor(options: AdmissionOptions) {
    this.#o = options;
  }

  /** Connections that are read, and that wait. */
  get size(): number {
    return this.#open + this.#waiting;
  }

  *connections(): Iterable<TcpConnection> {
    for (const { open } of this.#pods.values()) yield* open;
  }

  /** A connection of the endpoint was accepted. */
  add(accepted: AcceptedConnection, endpointSlot: EndpointSlot): void {
    const pod = this.#podOf(endpointSlot);
    pod.waiting.push(accepted);
    this.#waiting += 1;
    const isSearched = this.#o.nowNs() - pod.noneIdleNs < searchIntervalNs;
    if (pod.open.size >= this.#o.perPod && !isSearched) this.#closeIdle(pod);
    this.#admitWaiting();
    if (pod.waiting.length > 0) this.#o.counters[counter.tcpWaited]!++;
    if (pod.waiting.length > tcpWaitingPerEndpointMax) this.#refuseLast(pod);
    else if (this.#waiting > tcpWaitingMax) this.#refuseLast(this.#longestWaiting(pod));
  }

  /** The connection is over. */
  remove(connection: TcpConnection): void {
    const pod = this.#pods.get(connection.endpointSlot);
    if (pod === undefined || !pod.open.delete(connection)) return;
    this.#open -= 1;
    this.#admitWaiting();
    if (pod.waiting.length > 0) this.#closeIdle(pod);
    this.#dropIfEmpty(pod);
  }

  /** The connection is idle: it makes way if one of its pod waits. */
  onIdle(connection: TcpConnection): void {
    const pod = this.#pods.get(connection.endpointSlot);
    if (pod === undefined || pod.waiting.length === 0) return;
    if (connection.isIdle(this.#o.nowNs(), tcpIdleEvictMs)) connection.makeWay();
  }

  /** Looks for room for those that wait: connections become idle by the passing of time, too. */
  sweep(): void {
    if (this.#waiting === 0) return;
    for (const pod of this.#pods.values()) {
      if (pod.waiting.length > 0 && pod.open.size >= this.#o.perPod) this.#closeIdle(pod);
    }
    this.#admitWaiting();
  }

  close(): void {
    for (const { waiting } of this.#pods.values()) {
      for (const accepted of waiting.splice(0)) accepted.refuse();
    }
    this.#waiting = 0;
    for (const connection of [...this.connections()]) connection.close();
  }

  /** The pod with fewest connections first: one that has many does not keep the places that become free. */
  #admitWaiting(): void {
    while (this.#waiting > 0) {
      let next: Pod | undefined;
      for (const pod of this.#pods.values()) {
        if (pod.waiting.length === 0 || pod.open.size >= this.#o.perPod) continue;
        if (next === undefined || pod.open.size < next.open.size) next = pod;
      }
      if (next === undefined) return;
      if (!this.#hasRoom(next)) {
        // Nor is there for the others, which have more. Its end makes us come back.
        this.#closeIdle(this.#largest());
        return;
      }
      if (!this.#takeOpen()) return;
      const accepted = next.waiting.shift() as AcceptedConnection;
      this.#waiting -= 1;
      this.#open += 1;
      this.#o.counters[counter.tcpConnections]!++;
      next.open.add(this.#o.open(accepted, next.endpointSlot));
    }
  }

  /** False: this turn has opened as many as it may, and the next one goes on. */
  #takeOpen(): boolean {
    if (this.#opensLeft === 0) return false;
    if (this.#opensLeft === tcpOpensPerTurn) {
      this.#o.soon(() => {
        this.#opensLeft = tcpOpensPerTurn;
        this.#admitWaiting();
      });
    }
    this.#opensLeft -= 1;
    return true;
  }

  #hasRoom(pod: Pod): boolean {
    const kept =
      pod.open.size < tcpConnectionsGuaranteed ? 0 : tcpConnectionsMax / tcpConnectionsReserveShare;
    return this.#open < tcpConnectionsMax - kept;
  }

  /** The one that came last gives up its place. */
  #refuseLast(pod: Pod): void {
    pod.waiting.pop()?.refuse();
    this.#waiting -= 1;
    this.#o.counters[counter.tcpRefused]!++;
    this.#dropIfEmpty(pod);
  }

  /** The pod with most connections that wait: `pod`, unless another has more. */
  #longestWaiting(pod: Pod): Pod {
    let longest = pod;
    for (const other of this.#pods.values()) {
      if (other.waiting.length > longest.waiting.length) longest = other;
    }
    return longest;
  }

  #closeIdle(pod: Pod): void {
    const nowNs = this.#o.nowNs();
    let oldest: TcpConnection | undefined;
    for (const connection of pod.open) {
      if (!connection.isIdle(nowNs, tcpIdleEvictMs)) continue;
      if (oldest === undefined || connection.activeNs < oldest.activeNs) oldest = connection;
    }
    if (oldest === undefined) pod.noneIdleNs = nowNs;
    else oldest.makeWay();
  }

  #largest(): Pod {
    let largest: Pod | undefined;
    for (const pod of this.#pods.values()) {
      if (largest === undefined || pod.open.size > largest.open.size) largest = pod;
    }
    return largest as Pod;
  }

  #podOf(endpointSlot: EndpointSlot): Pod {
    let pod = this.#pods.get(endpointSlot);
    if (pod === undefined) {
      pod = { endpointSlot, open: new Set(), waiting: [], noneIdleNs: -Infinity };
      this.#pods.set(endpointSlot, pod);
      this.#o.hold(endpointSlot, true);
    }
    return pod;
  }

  #dropIfEmpty(pod: Pod): void {
    if (pod.open.size > 0 || pod.waiting.length > 0) return;
    this.#pods.delete(pod.endpointSlot);
    this.#o.hold(pod.endpointSlot, false);
  }
}
