// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The node's network as it is now (`state`), without polling: changes are reported by kind, a few
 * milliseconds after they happened. Where notices were lost everything is read again.
 */

import { NetlinkSocket, netlinkProtocol } from '@tandem/dns-sockets/netlink-socket';
import * as rt from './constants.ts';
import { readPauseFactor, readPauseMaxMs, resyncIntervalMs, retryMs, settleMs } from './limits.ts';
import { visitMessages } from './message.ts';
import { type NetworkKind, NetworkState, networkKinds } from './network-state.ts';
import { Rtnetlink } from './rtnetlink.ts';

const groups = [
  rt.RTNLGRP_LINK,
  rt.RTNLGRP_NEIGH,
  rt.RTNLGRP_IPV4_IFADDR,
  rt.RTNLGRP_IPV6_IFADDR,
  rt.RTNLGRP_IPV4_ROUTE,
  rt.RTNLGRP_IPV6_ROUTE,
  rt.RTNLGRP_IPV4_RULE,
  rt.RTNLGRP_IPV6_RULE,
  rt.RTNLGRP_NSID,
];

export interface NetworkViewOptions {
  /** Routing tables that are kept whole, beside the routes of the main one that callers name. */
  readonly tables?: readonly number[];
  /** Room for notices. */
  readonly receiveBufferBytes?: number;
}

export type NetworkListener = (kinds: ReadonlySet<NetworkKind>) => void;

export class NetworkView implements Disposable {
  /** `overruns`: reports of lost notices; a loss has one when it begins, and one when it is over. */
  readonly counters = { notices: 0, overruns: 0, reads: 0, failures: 0 };
  /** For changes, and for what the view does not have. */
  readonly rtnetlink: Rtnetlink = new Rtnetlink();
  readonly state: NetworkState;
  readonly #socket: NetlinkSocket;
  readonly #listeners = new Set<NetworkListener>();
  /** To be read. */
  readonly #stale = new Set<NetworkKind>();
  /** Being read, or to be tried again. */
  readonly #unread = new Set<NetworkKind>();
  /** No kind is read before this time, unless `refresh` asks for it; as `performance.now`. */
  #pausedUntilMs = 0;
  /** Kinds to report. */
  readonly #changed = new Set<NetworkKind>();
  readonly #problems = new Map<NetworkKind, string>();
  readonly #resync: NodeJS.Timeout;
  #timer: NodeJS.Timeout | null = null;
  #settling: Promise<void> | null = null;
  #isClosed = false;

  private constructor({ tables = [], receiveBufferBytes }: NetworkViewOptions) {
    this.state = new NetworkState(this.rtnetlink, tables, {
      changed: (kind) => {
        this.#changed.add(kind);
        this.#schedule(settleMs);
      },
      stale: (kind) => this.#markStale(kind),
    });
    this.#socket = new NetlinkSocket({
      protocol: netlinkProtocol.ROUTE,
      groups,
      ...(receiveBufferBytes === undefined ? {} : { receiveBufferBytes }),
      onMessages: (bytes) => this.#onMessages(bytes),
      onOverrun: () => this.#onLoss(),
      onError: () => this.#onLoss(),
    });
    this.#resync = setInterval(() => this.#markAllStale(), resyncIntervalMs);
  }

  /** With everything read that can be, see `problems`. @throws DnsSocketError: no socket can be made */
  static async open(options: NetworkViewOptions = {}): Promise<NetworkView> {
    const view = new NetworkView(options);
    await view.refresh();
    return view;
  }

  /** By kind, why it could not be read; `state` has what it had before. It is tried again. */
  get problems(): ReadonlyMap<NetworkKind, string> {
    return this.#problems;
  }

  /** Calls `listener` after changes; gives the function that ends it. */
  onChange(listener: NetworkListener): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Reads these kinds from the kernel, or all: `state` then has the kernel's state of before the call. */
  async refresh(...kinds: readonly NetworkKind[]): Promise<void> {
    for (const kind of kinds.length === 0 ? networkKinds : kinds) this.#stale.add(kind);
    await this.#settling;
    this.#pausedUntilMs = 0;
    await this.#settle();
  }

  /**
   * Brings this kind of `state` up to the kernel's state of before the call. Unlike `refresh` it asks the kernel only where notices do not say
   * enough: what changed is queued as notices. A request would wait for the lock of RTNL, which CNI plugins hold while many pods start.
   */
  async catchUp(kind: Exclude<NetworkKind, 'routes' | 'rules'>): Promise<void> {
    const isAll = this.#socket.receive();
    if (!isAll || this.#stale.has(kind) || this.#unread.has(kind)) await this.refresh(kind);
  }

  /** Nothing is reported any more. */
  close(): void {
    this.#isClosed = true;
    clearInterval(this.#resync);
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#socket.close();
    this.rtnetlink.close();
    this.#listeners.clear();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #onMessages(bytes: Uint8Array): void {
    const read = visitMessages(bytes, (message) => {
      this.counters.notices += 1;
      this.state.onNotice(message);
    });
    if (!read.ok) this.#onLoss();
  }

  #onLoss(): void {
    this.counters.overruns += 1;
    this.#markAllStale();
  }

  #markAllStale(): void {
    for (const kind of networkKinds) this.#markStale(kind);
  }

  #markStale(kind: NetworkKind): void {
    this.#stale.add(kind);
    this.#schedule(settleMs);
  }

  #schedule(afterMs: number): void {
    if (this.#isClosed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      void this.#settle();
    }, afterMs);
  }

  /** Reads the stale kinds again and reports changes; notices that come meanwhile are left to the next time. */
  #settle(): Promise<void> {
    this.#settling ??= this.#readAndTell().finally(() => {
      this.#settling = null;
      if (this.#changed.size > 0) this.#schedule(settleMs);
      else if (this.#stale.size > 0) this.#schedule(Math.max(settleMs, this.#pauseMs));
    });
    return this.#settling;
  }

  /** Rest of the pause. Timers count whole milliseconds: one that came early would wait for `settleMs` again. */
  get #pauseMs(): number {
    return Math.ceil(this.#pausedUntilMs - performance.now()) + 1;
  }

  async #readAndTell(): Promise<void> {
    const begunMs = performance.now();
    const kinds = begunMs < this.#pausedUntilMs ? [] : [...this.#stale];
    for (const kind of kinds) {
      this.#stale.delete(kind);
      this.#unread.add(kind);
    }
    const failed: NetworkKind[] = [];
    for (const kind of kinds) if (!(await this.#read(kind))) failed.push(kind);
    if (this.#isClosed) return;
    const endMs = performance.now();
    if (kinds.length > 0) {
      const pauseMs = Math.min(readPauseMaxMs, readPauseFactor * (endMs - begunMs));
      this.#pausedUntilMs = endMs + pauseMs;
    }
    if (failed.length > 0) this.#retry(failed);
    const changed = new Set(this.#changed);
    this.#changed.clear();
    if (changed.size > 0) for (const listener of this.#listeners) listener(changed);
  }

  #retry(kinds: readonly NetworkKind[]): void {
    setTimeout(() => {
      if (!this.#isClosed) for (const kind of kinds) this.#markStale(kind);
    }, retryMs).unref();
  }

  async #read(kind: NetworkKind): Promise<boolean> {
    this.counters.reads += 1;
    try {
      if (await this.state.read(kind)) this.#changed.add(kind);
      this.#unread.delete(kind);
      this.#problems.delete(kind);
      return true;
    } catch (error) {
      this.counters.failures += 1;
      this.#problems.set(kind, error instanceof Error ? error.message : String(error));
      return false;
    }
  }
}
