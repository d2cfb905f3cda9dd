// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Watches the other member and helps it: detects that it died (its link ended) or hangs (its heartbeat is old), reads its queues
 * until it is back, and has its queries in flight replayed.
 *
 *   serving ── link ended, or no heartbeat for 100 ms ──► away: its listeners are read here, its journal is replayed
 *      ▲                                                    │
 *      ├── heartbeat ◄──────────────────────────────────────┤
 *      └── a new run links ◄────────────────────────────────┘  the old listeners are read a moment more, then closed
 *
 * If a living member is taken for a dead one, no query is lost: both read one queue, and each query is read once. But its queries
 * are sent to their servers again. On a busy machine, where both wait for a CPU, two members that do so in turn answer almost
 * nothing. So only time counts in which this member had a CPU to check.
 */

import type { GroupIndex } from '@tandem/core/ids';
import {
  TD_HEARTBEAT_STALE_NS,
  TD_MEMBERS_MAX,
  tdListenerKind,
  tdMemberState,
} from '@tandem/datapath/abi.gen';
import { DnsSocketError } from '@tandem/dns-sockets/errors';
import { socketsMax } from '@tandem/dns-sockets/limits';
import type { UdpLoop } from '@tandem/dns-sockets/udp-loop';
import type { GroupMember } from '../group-member.ts';
import {
  heartbeatIntervalMs,
  journalAgeMsMax,
  peerLookGapMaxMs,
  retiredListenersMs,
} from '../limits.ts';
import { firstLane, isHeavy, type ListenerHandle } from '../listener-kinds.ts';
import type { TcpServer } from '../tcp/server.ts';
import { type Hello, noListener } from './hello.ts';
import type { TakeHeavy } from './link.ts';

const handleIndexMask = socketsMax - 1;

/** `unread`: a listener of it cannot be read, and is tried again. */
export type TakeoverEvent = 'linked' | 'lost' | 'hung' | 'back' | 'unread';

export interface TakeoverOptions {
  readonly self: GroupMember;
  readonly loop: Pick<UdpLoop<ListenerHandle>, 'add' | 'remove'>;
  readonly tcp: Pick<TcpServer, 'listen'>;
  readonly closeFd: (fd: number) => void;
  /** Called in each tick while `member` is away, with its last beat. CLOCK_MONOTONIC ns. */
  readonly replay: (member: GroupIndex, lastBeatNs: number, monotonicNs: number) => void;
  readonly onEvent: (event: TakeoverEvent, member: GroupIndex) => void;
}

/** The listeners of one run of a member. */
interface Listeners {
  /** By td_listener_kind. */
  fds: readonly number[];
  /** By kind, while they are read here: the function that ends it. */
  readonly reading: Map<number, () => void>;
  isRead: boolean;
  /** One could not be read, which was reported. */
  isReported: boolean;
  isClosed: boolean;
  /** When they are closed, because a later run has linked. Infinity for the current ones. */
  closesAtNs: number;
  /** Turns of our loop before they may be closed: queued datagrams must be read, even if this member runs late. */
  turnsLeft: number;
}

interface Peer {
  readonly member: GroupIndex;
  listeners: Listeners[];
  /** When its link ended, CLOCK_MONOTONIC ns; -1 while it is linked or never was. */
  lostAtNs: number;
  isAway: boolean;
  /** The last look: its time, the heartbeat that it saw, and for how long this heartbeat has been the newest. */
  lookedNs: number;
  beatNs: number;
  silentNs: number;
}

export class Takeover {
  readonly #o: TakeoverOptions;
  readonly #peers: Peer[] = [];
  /** Own UDP listeners by kind; empty while this member does not serve, and so takes over nothing. */
  #own: readonly ListenerHandle[] = [];
  /** By place of a handle in the loop: the own listener of the same family. */
  readonly #ownByHandle = new Int32Array(socketsMax).fill(-1);

  constructor(options: TakeoverOptions) {
    this.#o = options;
    for (let member = 0; member < TD_MEMBERS_MAX; member++) {
      if (member === options.self.index) continue;
      this.#peers.push({
        member,
        listeners: [],
        lostAtNs: -1,
        isAway: false,
        lookedNs: 0,
        beatNs: 0,
        silentNs: 0,
      });
    }
  }

  /** This member serves from now on: handles of its own UDP listeners by kind. */
  setOwn(handles: readonly ListenerHandle[]): void {
    this.#own = handles;
    for (const handle of handles) {
      if (handle !== undefined) this.#ownByHandle[handle & handleIndexMask] = handle;
    }
  }

  /** The own listener by which to answer a datagram that was received on `handle`. */
  ownListener(handle: ListenerHandle): ListenerHandle {
    return this.#ownByHandle[handle & handleIndexMask]! as ListenerHandle;
  }

  /** @returns the function that takes further listeners of this run */
  onLinked({ member, listeners }: Hello, monotonicNs: number): TakeHeavy {
    const peer = this.#peerOf(member);
    // Datagrams that are queued in the former run's sockets are read before they are closed.
    for (const former of peer.listeners) {
      this.#read(member, former);
      former.closesAtNs = Math.min(former.closesAtNs, monotonicNs + retiredListenersMs * 1e6);
    }
    const life: Listeners = {
      fds: listeners,
      reading: new Map(),
      isRead: false,
      isReported: false,
      isClosed: false,
      closesAtNs: Infinity,
      turnsLeft: retiredListenersMs / heartbeatIntervalMs,
    };
    peer.listeners.push(life);
    peer.lostAtNs = -1;
    this.#o.onEvent('linked', member);
    this.#update(peer, monotonicNs);
    return (heavy) => this.#add(member, life, heavy);
  }

  onLost(member: GroupIndex, monotonicNs: number): void {
    const peer = this.#peerOf(member);
    peer.lostAtNs = monotonicNs;
    this.#o.onEvent('lost', member);
    this.#update(peer, monotonicNs);
  }

  /** Checks the heartbeats of the others; called at each own heartbeat. */
  tick(monotonicNs: number): void {
    for (const peer of this.#peers) {
      for (const listeners of peer.listeners) {
        if (listeners.closesAtNs !== Infinity) listeners.turnsLeft -= 1;
      }
      this.#update(peer, monotonicNs);
    }
  }

  /**
   * When the next of the members that beat now would be taken for hung, if it did not beat again: CLOCK_MONOTONIC
   * ns, Infinity if none would.
   */
  staleAtNs(): number {
    const { group } = this.#o.self;
    let earliest = Infinity;
    for (const { member, isAway, lookedNs, silentNs } of this.#peers) {
      if (isAway || group.beatNsOf(member) === 0) continue;
      const silentAtNs = lookedNs + TD_HEARTBEAT_STALE_NS - silentNs;
      earliest = Math.min(earliest, Math.max(group.staleAtNs(member), silentAtNs));
    }
    return earliest;
  }

  close(): void {
    for (const peer of this.#peers) {
      for (const listeners of peer.listeners) this.#close(listeners);
      peer.listeners = [];
    }
  }

  #peerOf(member: GroupIndex): Peer {
    return this.#peers.find((peer) => peer.member === member) as Peer;
  }

  #update(peer: Peer, monotonicNs: number): void {
    if (this.#own.length === 0) {
      this.#closeUnread(peer, monotonicNs);
      return;
    }
    const { self, replay, onEvent } = this.#o;
    const { group } = self;
    const state = group.stateOf(peer.member);
    const beatNs = group.beatNsOf(peer.member);
    listen(peer, beatNs, monotonicNs);
    const isSilent =
      monotonicNs >= group.staleAtNs(peer.member) && peer.silentNs >= TD_HEARTBEAT_STALE_NS;
    // A member whose link ended, and which sent a heartbeat after that, is running.
    const isAway = beatNs !== 0 && (isSilent || (peer.lostAtNs !== -1 && beatNs <= peer.lostAtNs));
    if (isAway !== peer.isAway) {
      peer.isAway = isAway;
      if (!isAway) onEvent('back', peer.member);
      else if (peer.lostAtNs === -1 && state === tdMemberState.LIVE) onEvent('hung', peer.member);
    }
    const isHelped = isAway || state === tdMemberState.DRAIN || state === tdMemberState.DEAD;
    for (const listeners of peer.listeners) {
      if (isOver(listeners, monotonicNs)) this.#close(listeners);
      else if (isHelped || listeners.closesAtNs !== Infinity) this.#read(peer.member, listeners);
      else this.#giveUp(listeners);
    }
    if (peer.listeners.some((listeners) => isOver(listeners, monotonicNs))) {
      peer.listeners = peer.listeners.filter((listeners) => !isOver(listeners, monotonicNs));
    }
    if (isAway) replay(peer.member, beatNs, monotonicNs);
  }

  /**
   * While this member does not serve, it reads no former listeners, and keeps them for when it does. No client waits any more for what
   * is queued in an old one; without this a peer that restarts again and again would leave its descriptors here.
   */
  #closeUnread(peer: Peer, monotonicNs: number): void {
    for (const listeners of peer.listeners) {
      if (monotonicNs - listeners.closesAtNs >= journalAgeMsMax * 1e6) this.#close(listeners);
    }
    peer.listeners = peer.listeners.filter(({ isClosed }) => !isClosed);
  }

  #add(member: GroupIndex, listeners: Listeners, fds: readonly number[]): void {
    const { isRead, isClosed } = listeners;
    listeners.fds = [...listeners.fds, ...fds];
    if (isClosed) for (const fd of fds) this.#closeFd(fd);
    else if (isRead) this.#read(member, listeners);
  }

  /**
   * Reads those that are not read yet. One that cannot be read, for want of descriptors or because it is no listener, is left out until the
   * next check: it must not end the member that the node has left.
   */
  #read(member: GroupIndex, listeners: Listeners): void {
    if (this.#own.length === 0) return;
    listeners.isRead = true;
    for (const [kind, fd] of listeners.fds.entries()) {
      if (fd === noListener || listeners.reading.has(kind)) continue;
      try {
        listeners.reading.set(kind, this.#readOne(kind, fd));
      } catch (error) {
        if (!(error instanceof DnsSocketError)) throw error;
        if (!listeners.isReported) this.#o.onEvent('unread', member);
        listeners.isReported = true;
      }
    }
  }

  /** @throws DnsSocketError */
  #readOne(kind: number, fd: number): () => void {
    const { loop, tcp } = this.#o;
    if (kind === tdListenerKind.TCP4 || kind === tdListenerKind.TCP6) return tcp.listen(fd);
    const own = this.#own[kind] ?? this.#own[firstLane(kind)];
    if (own === undefined) return () => undefined;
    const handle = loop.add(fd, isHeavy(kind) ? 'heavy' : 'listener');
    this.#ownByHandle[handle & handleIndexMask] = own;
    return () => void loop.remove(handle);
  }

  #giveUp(listeners: Listeners): void {
    listeners.isRead = false;
    for (const stop of listeners.reading.values()) stop();
    listeners.reading.clear();
  }

  #close(listeners: Listeners): void {
    if (listeners.isClosed) return;
    this.#giveUp(listeners);
    listeners.isClosed = true;
    for (const fd of listeners.fds) this.#closeFd(fd);
  }

  #closeFd(fd: number): void {
    if (fd !== noListener) this.#o.closeFd(fd);
  }
}

/** Checks the peer's heartbeat. Of the time since the last check only as much counts as this process can have been running. */
function listen(peer: Peer, beatNs: number, monotonicNs: number): void {
  const gapNs = Math.min(monotonicNs - peer.lookedNs, peerLookGapMaxMs * 1e6);
  peer.lookedNs = monotonicNs;
  if (peer.beatNs === beatNs) peer.silentNs += gapNs;
  else peer.silentNs = Math.min(gapNs, monotonicNs - beatNs);
  peer.beatNs = beatNs;
}

function isOver({ closesAtNs, turnsLeft }: Listeners, monotonicNs: number): boolean {
  return monotonicNs >= closesAtNs && turnsLeft <= 0;
}
