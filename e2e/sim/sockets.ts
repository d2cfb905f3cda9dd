// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The sockets of the group as the kernel has them: one object per socket, kept alive by descriptors of
 * any process; the array that `select_member` chooses from holds none. With the last descriptor a socket
 * goes, and what is queued in it.
 */

import {
  TD_HEARTBEAT_STALE_NS,
  TD_MEMBERS_MAX,
  tdGroup,
  tdListenerKind,
  tdMember,
  tdMemberState,
} from '@tandem/datapath/abi.gen';

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

const memberWord = (member: number, field: number): number =>
  (tdGroup.member + member * tdMember.size + field) / 4;

export class SocketGroup {
  readonly #words: Uint32Array;
  readonly #nowNs: () => number;
  /** By kind and member, as `listeners`. */
  readonly #listeners: (SimSocket | undefined)[] = [];
  readonly #onLost: (socket: SimSocket) => void;

  constructor(words: Uint32Array, nowNs: () => number, onLost: (socket: SimSocket) => void) {
    this.#words = words;
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

  stateOf(member: number): number {
    return this.#words[memberWord(member, tdMember.state)] as number;
  }

  beatNsOf(member: number): number {
    const at = memberWord(member, tdMember.beat_ns);
    return (this.#words[at + 1] as number) * 4_294_967_296 + (this.#words[at] as number);
  }

  /** bpf/src/select_member.h. */
  select(kind: number, hash: number): SimSocket | null {
    const now = this.#nowNs();
    const required = this.#words[tdGroup.required_revision / 4] as number;
    let current = 0;
    let fresh = 0;
    let live = 0;
    for (let i = 0; i < TD_MEMBERS_MAX; i++) {
      if (this.stateOf(i) !== tdMemberState.LIVE) continue;
      live |= 1 << i;
      if (now - this.beatNsOf(i) >= TD_HEARTBEAT_STALE_NS) continue;
      fresh |= 1 << i;
      if ((((this.#words[memberWord(i, tdMember.revision)] as number) - required) | 0) >= 0)
        current |= 1 << i;
    }
    for (let attempt = 0; attempt < TD_MEMBERS_MAX; attempt++) {
      const set = current !== 0 ? current : fresh;
      const member = set !== 0 ? nthMember(set, hash) : this.#freshest(live);
      if (member < 0) return null;
      const socket = this.#listeners[kind * TD_MEMBERS_MAX + member];
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
      if (best === -1 || this.beatNsOf(i) > this.beatNsOf(best)) best = i;
    }
    return best;
  }
}

function nthMember(set: number, hash: number): number {
  const members: number[] = [];
  for (let i = 0; i < TD_MEMBERS_MAX; i++) if ((set & (1 << i)) !== 0) members.push(i);
  return members[hash % members.length] as number;
}

export const listenerKinds: readonly number[] = [
  tdListenerKind.UDP4,
  tdListenerKind.TCP4,
  tdListenerKind.UDP6,
  tdListenerKind.TCP6,
];
