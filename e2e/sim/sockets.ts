// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The sockets of the group as the kernel has them: one object per socket, kept alive by descriptors of
 * any process; the array that `select_member` chooses from holds none. With the last descriptor a socket
 * goes, and what is queued in it.
 */

import { TD_MEMBERS_MAX, tdListenerKind, tdMemberState } from '@tandem/datapath/abi.gen';
import type { NodeGroup } from '@tandem/datapath/group';
import { firstLane } from '@tandem/dns-proxy/listener-kinds';

export class SimSocket {
  readonly kind: number;
  readonly member: number;
  /** Numbers of queries, or of connections, oldest first. */
  readonly queue: number[] = [];
  descriptors = 0;
  isClosed = false;

  constructor(kind: number, member: number) {
    this.kind = kind;
    this.member = member;
  }
}

export class SocketGroup {
  readonly #group: NodeGroup;
  readonly #nowNs: () => number;
  /** By kind and member, as `listeners` and `heavy_listeners`. */
  readonly #listeners: (SimSocket | undefined)[] = [];
  readonly #onLost: (socket: SimSocket) => void;

  constructor(group: NodeGroup, nowNs: () => number, onLost: (socket: SimSocket) => void) {
    this.#group = group;
    this.#nowNs = nowNs;
    this.#onLost = onLost;
  }

  listen(socket: SimSocket): void {
    this.#listeners[socket.kind * TD_MEMBERS_MAX + socket.member] = socket;
  }

  open(socket: SimSocket): void {
    socket.descriptors += 1;
  }

  close(socket: SimSocket): void {
    socket.descriptors -= 1;
    if (socket.descriptors > 0) return;
    socket.isClosed = true;
    const place = socket.kind * TD_MEMBERS_MAX + socket.member;
    if (this.#listeners[place] === socket) this.#listeners[place] = undefined;
    this.#onLost(socket);
  }

  /** bpf/src/select_member.bpf.c. `kind`: of a datagram of a pod that sends much the second one of its family. */
  select(kind: number, hash: number): SimSocket | null {
    const now = this.#nowNs();
    const group = this.#group;
    const required = group.requiredRevision;
    let current = 0;
    let fresh = 0;
    let live = 0;
    for (let i = 0; i < TD_MEMBERS_MAX; i++) {
      if (group.stateOf(i) !== tdMemberState.LIVE) continue;
      live |= 1 << i;
      if (!group.isServing(i, now)) continue;
      fresh |= 1 << i;
      if (((group.revisionOf(i) - required) | 0) >= 0) current |= 1 << i;
    }
    for (let attempt = 0; attempt < TD_MEMBERS_MAX; attempt++) {
      const set = current !== 0 ? current : fresh;
      const member = set !== 0 ? nthMember(set, hash) : this.#freshest(live);
      if (member < 0) return null;
      const socket =
        this.#listeners[kind * TD_MEMBERS_MAX + member] ??
        this.#listeners[firstLane(kind) * TD_MEMBERS_MAX + member];
      if (socket !== undefined) return socket;
      current &= ~(1 << member);
      fresh &= ~(1 << member);
      live &= ~(1 << member);
    }
    return null;
  }

  #freshest(set: number): number {
    let best = -1;
    for (let i = 0; i < TD_MEMBERS_MAX; i++) {
      if ((set & (1 << i)) === 0) continue;
      if (best === -1 || this.#group.beatNsOf(i) > this.#group.beatNsOf(best)) best = i;
    }
    return best;
  }
}

function nthMember(set: number, hash: number): number {
  const members: number[] = [];
  for (let i = 0; i < TD_MEMBERS_MAX; i++) if ((set & (1 << i)) !== 0) members.push(i);
  return members[hash % members.length]!;
}

export const listenerKinds: readonly number[] = [
  tdListenerKind.UDP4,
  tdListenerKind.TCP4,
  tdListenerKind.UDP6,
  tdListenerKind.TCP6,
  tdListenerKind.UDP4_HEAVY,
  tdListenerKind.UDP6_HEAVY,
];
