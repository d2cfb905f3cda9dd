// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * One run of a member of the socket group, from its first policy to its end: when it joins, sends heartbeats,
 * checks the other member, may leave, and is done. Decides only: sockets, clock and threads are handed in, so that
 * the simulator drives the same code as the worker.
 *
 *   not joined ──first policy──► serving ──drain, with the token or in time──► draining ──idle──► stopped
 */

import type { Revision } from '@tandem/core/ids';
import { TD_HEARTBEAT_STALE_NS } from '@tandem/datapath/abi.gen';
import type { GroupMember } from './group-member.ts';
import type { JournalReplay } from './journal/replay.ts';
import type { QuerySlots } from './journal/slots.ts';
import { heartbeatIntervalMs, joinLinkMsMax } from './limits.ts';
import type { Takeover } from './peer/takeover.ts';
import type { PolicyTables } from './policy/tables.ts';
import type { PolicyLookup } from './query/policy-lookup.ts';
import type { TcpServer } from './tcp/server.ts';
import type { UdpServer } from './udp/server.ts';
import type { UdpPool } from './udp/upstream.ts';

export interface MemberLifeOptions {
  readonly self: GroupMember;
  readonly lookup: PolicyLookup;
  readonly slots: QuerySlots;
  readonly udp: Pick<UdpServer, 'sweep'>;
  readonly tcp: Pick<TcpServer, 'drain' | 'connections' | 'sweep' | 'backendsChanged'>;
  readonly pool: Pick<UdpPool, 'drain' | 'sweep' | 'backendsChanged' | 'readUntil'>;
  readonly replay: JournalReplay;
  readonly takeover: Takeover;
  /** The last heartbeat of this member's former run, CLOCK_MONOTONIC ns. */
  readonly formerBeatNs: number;
  /** [0] CLOCK_MONOTONIC, [1] CLOCK_BOOTTIME, ns: refreshed by `readClock`. */
  readonly clock: Float64Array;
  readonly readClock: () => void;
  /** Before the first policy queries wait in the sockets; from now on they are read. */
  readonly readListeners: () => void;
  /** This member serves these tables. */
  readonly onInstalled: (revision: Revision) => void;
  /** Calls `work` once, `ms` from now. */
  readonly after: (ms: number, work: () => void) => void;
  /** Nothing is in flight any more after `drain`. */
  readonly onDrained: () => void;
}

export class MemberLife {
  readonly #o: MemberLifeOptions;
  #hasJoined = false;
  #isLinked = false;
  /** Takes no queries: its sockets would lose them. */
  #isSuspended = false;
  /** Until then a member that has a policy waits for the link. */
  #joinDeadlineNs = 0;
  #tickedNs = 0;
  /** Everything that came to the sockets before then has been read. CLOCK_MONOTONIC. */
  #readUntilNs = 0;
  /** 'waiting': for the drain token, up to `#drainDeadlineNs`. */
  #draining: 'no' | 'waiting' | 'yes' = 'no';
  #drainDeadlineNs = 0;

  constructor(options: MemberLifeOptions) {
    this.#o = options;
  }

  get hasJoined(): boolean {
    return this.#hasJoined;
  }

  /** These tables decide from now on; the first ones make it a member that serves. */
  install(tables: PolicyTables): void {
    const { lookup, pool, tcp } = this.#o;
    const former = lookup.tables;
    lookup.install(tables);
    if (former !== null) {
      for (const server of tables.serversChangedSince(former)) {
        pool.backendsChanged(server);
        tcp.backendsChanged(server);
      }
    }
    // A change of policy must not wait for a member that takes no queries: it serves no older policy.
    if (this.#hasJoined || this.#isSuspended) {
      this.#o.onInstalled(tables.revision);
      return;
    }
    const now = this.now();
    if (this.#joinDeadlineNs === 0) this.#joinDeadlineNs = now + joinLinkMsMax * 1e6;
    this.#join(now);
  }

  /** The other member holds our listeners. */
  linked(): void {
    this.#isLinked = true;
    if (!this.#hasJoined) this.#join(this.now());
  }

  /**
   * With the first policy. While pods are served without us, the one that serves them is to hold our
   * listeners first: else what waits in them is lost if we die in our first moments.
   */
  #join(nowNs: number): void {
    const { lookup, self, replay, readListeners, onInstalled } = this.#o;
    const { tables } = lookup;
    if (tables === null || this.#isSuspended) return;
    const mayWait = nowNs < this.#joinDeadlineNs && self.isOtherServing(nowNs);
    if (mayWait && !this.#isLinked) return;
    readListeners();
    const monotonicNs = this.now();
    self.join(monotonicNs, this.#o.clock[1]!);
    self.setRevision(tables.revision);
    this.#hasJoined = true;
    replay.resume(this.#o.formerBeatNs, monotonicNs);
    onInstalled(tables.revision);
  }

  /** Leaves the choice of `select_member`, or comes back into it; queries in flight are answered. */
  suspend(isSuspended: boolean): void {
    if (isSuspended === this.#isSuspended) return;
    this.#isSuspended = isSuspended;
    if (this.#draining === 'yes') return;
    if (this.#hasJoined) this.#o.self.setState(isSuspended ? 'drain' : 'live');
    else this.#join(this.now());
  }

  beat(monotonicNs: number): void {
    if (this.#hasJoined) this.#o.self.beat(monotonicNs);
  }

  /** Every `heartbeatIntervalMs`. */
  tick(): void {
    const now = this.now();
    // It comes after the sockets that were ready: at the tick before, all had been read that came until then.
    this.#readUntilNs = this.#tickedNs;
    this.#tickedNs = now;
    this.#o.pool.readUntil(this.#readUntilNs / 1e6);
    this.beat(now);
    this.#noteConnections();
    // Others may have taken queries over meanwhile: these count for no limit any more.
    if (now - this.#readUntilNs >= TD_HEARTBEAT_STALE_NS)
      this.#o.udp.sweep(this.#o.clock, this.#readUntilNs);
    if (this.#hasJoined) this.#lookAtPeers(now);
    else this.#join(now);
    // The steps before may have taken long: the check whether another one serves uses the time of now.
    if (this.#draining === 'waiting') this.#drain(this.now());
  }

  /** Checks a member at the time at which it becomes stale, not a tick later. */
  #lookAtPeers(monotonicNs: number): void {
    const { takeover, after } = this.#o;
    takeover.tick(monotonicNs);
    const leftMs = (takeover.staleAtNs() - monotonicNs) / 1e6;
    if (leftMs >= heartbeatIntervalMs) return;
    after(Math.ceil(leftMs) + 1, () => takeover.tick(this.now()));
  }

  /** Every `sweepIntervalMs`. */
  sweep(): void {
    const { udp, slots, replay, pool, tcp, onDrained } = this.#o;
    const now = this.now();
    udp.sweep(this.#o.clock, this.#readUntilNs);
    tcp.sweep();
    if (this.#hasJoined && slots.hasLeftovers) replay.resume(this.#o.formerBeatNs, now);
    pool.sweep(now / 1e6);
    // A run that drains has lost none.
    this.#noteConnections();
    if (this.#draining === 'yes' && slots.inFlight === 0 && tcp.connections === 0) onDrained();
  }

  /** For the next run: they end with the process, whose counters are gone then. */
  #noteConnections(): void {
    const { slots, tcp } = this.#o;
    slots.region.setTcpConnections(tcp.connections);
  }

  /** Leaves the group as soon as another member serves, or after `tokenTimeoutMs` without one. */
  drain(tokenTimeoutMs: number): void {
    const now = this.now();
    this.#drainDeadlineNs = now + tokenTimeoutMs * 1e6;
    this.#draining = 'waiting';
    this.#drain(now);
  }

  /** The end, whether drained or not. */
  leave(): void {
    if (!this.#hasJoined) return;
    this.#o.self.setState('dead');
    this.#o.self.releaseDrainToken();
  }

  /** CLOCK_MONOTONIC ns. */
  now(): number {
    this.#o.readClock();
    return this.#o.clock[0]!;
  }

  /** Leaves the group when it may; queries in flight are still answered. */
  #drain(monotonicNs: number): void {
    const { self, pool, tcp } = this.#o;
    if (this.#hasJoined) {
      const isFree = self.takeDrainToken(monotonicNs);
      if (!isFree && monotonicNs < this.#drainDeadlineNs) return;
      self.setState('drain');
    }
    this.#draining = 'yes';
    tcp.drain();
    pool.drain();
    this.sweep();
  }
}
