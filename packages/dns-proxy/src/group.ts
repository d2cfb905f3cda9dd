// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * This process's place in the socket group: its state, heartbeat and revision in the mmap-ed `group`
 * map, which `select_member` reads for every packet. The beat is a store, not a system call, and comes
 * from the event loop that serves DNS: a blocked loop must look blocked.
 */

import {
  TD_ABI_VERSION,
  TD_HEARTBEAT_STALE_NS,
  TD_MEMBERS_MAX,
  tdGroup,
  tdMember,
  tdMemberState,
} from '@tandem/datapath/abi.gen';

export interface MemberStatus {
  readonly index: number;
  readonly role: 'agent' | 'dns-proxy';
  readonly state: 'none' | 'live' | 'drain' | 'dead';
  readonly pid: number;
  /** CLOCK_BOOTTIME of its start, ns. */
  readonly epochNs: number;
  readonly beatAgeMs: number;
  readonly revision: number;
}

const stateNames = ['none', 'live', 'drain', 'dead'] as const;
const memberOffset = (index: number): number => tdGroup.member + index * tdMember.size;

export class GroupMember {
  readonly index: number;
  readonly #words: Uint32Array;
  readonly #doubles: Float64Array;
  readonly #beat: number;
  readonly #base: number;
  readonly #scratch = new Uint32Array(2);
  readonly #scratchBits = new Float64Array(this.#scratch.buffer);

  /** `memory` is the mmap-ed value of the `group` map. */
  constructor(memory: ArrayBufferLike, index: number) {
    this.index = index;
    this.#words = new Uint32Array(memory);
    this.#doubles = new Float64Array(memory);
    this.#base = memberOffset(index) / 4;
    this.#beat = (memberOffset(index) + tdMember.beat_ns) / 8;
  }

  /** Announces a new life of this index. Times in nanoseconds: CLOCK_MONOTONIC, CLOCK_BOOTTIME. */
  join(role: number, monotonicNs: number, boottimeNs: number): void {
    const words = this.#words;
    words[this.#base + tdMember.pid / 4] = process.pid;
    words[this.#base + tdMember.role / 4] = role;
    words[this.#base + tdMember.revision / 4] = 0;
    words[this.#base + tdMember.abi_version / 4] = TD_ABI_VERSION;
    this.#store((memberOffset(this.index) + tdMember.epoch) / 8, boottimeNs);
    this.beat(monotonicNs);
    this.releaseDrainToken(); // of a former life that died with it
    Atomics.store(words, this.#base + tdMember.state / 4, tdMemberState.LIVE);
  }

  beat(monotonicNs: number): void {
    this.#store(this.#beat, monotonicNs);
  }

  /**
   * Stores a u64. Its eight bytes are moved as the bits of a double: one aligned 64-bit store (such bits
   * are never a NaN for any time since boot), and no BigInt is allocated.
   */
  #store(index: number, ns: number): void {
    const high = Math.floor(ns / 4_294_967_296);
    this.#scratch[0] = ns - high * 4_294_967_296;
    this.#scratch[1] = high;
    this.#doubles[index] = this.#scratchBits[0] as number;
  }

  #load(index: number): number {
    this.#scratchBits[0] = this.#doubles[index] as number;
    return (this.#scratch[1] as number) * 4_294_967_296 + (this.#scratch[0] as number);
  }

  setState(state: 'live' | 'drain' | 'dead'): void {
    Atomics.store(this.#words, this.#base + tdMember.state / 4, stateNames.indexOf(state));
  }

  /** The policy revision that this member serves from now on. */
  setRevision(revision: number): void {
    Atomics.store(this.#words, this.#base + tdMember.revision / 4, revision);
  }

  /** CLOCK_MONOTONIC ns of a member's last beat; 0 if there was none. */
  beatNsOf(member: number): number {
    return this.#load((memberOffset(member) + tdMember.beat_ns) / 8);
  }

  /** CLOCK_BOOTTIME ns of a member's start: tells two lives of one index apart. */
  epochOf(member: number): number {
    return this.#load((memberOffset(member) + tdMember.epoch) / 8);
  }

  /** One of tdMemberState. */
  stateOf(member: number): number {
    return Atomics.load(this.#words, (memberOffset(member) + tdMember.state) / 4);
  }

  /** LIVE, and its last beat is as young as `select_member` wants it. A beat of the future is young. */
  isServing(member: number, monotonicNs: number): boolean {
    return (
      this.stateOf(member) === tdMemberState.LIVE &&
      monotonicNs - this.beatNsOf(member) < TD_HEARTBEAT_STALE_NS
    );
  }

  /** Whether pods would be served without this member. */
  isOtherServing(monotonicNs: number): boolean {
    for (let member = 0; member < TD_MEMBERS_MAX; member++) {
      if (member !== this.index && this.isServing(member, monotonicNs)) return true;
    }
    return false;
  }

  /**
   * Takes the right to leave the group, held by one member at a time and given only while another one
   * serves: two members that are told to stop at once do not leave the pods to nobody. Who holds it and
   * died gives it up when its next life joins.
   */
  takeDrainToken(monotonicNs: number): boolean {
    const word = tdGroup.drain_token / 4;
    const mine = this.index + 1;
    const before = Atomics.compareExchange(this.#words, word, 0, mine);
    if (before !== 0 && before !== mine) return false;
    // Looked at with the token in hand: whoever leaves by the rules needs it first.
    if (this.isOtherServing(monotonicNs)) return true;
    this.releaseDrainToken();
    return false;
  }

  releaseDrainToken(): void {
    Atomics.compareExchange(this.#words, tdGroup.drain_token / 4, this.index + 1, 0);
  }

  /** Incremented by the agent before and after every change of `endpoints`: odd in between. */
  get generation(): number {
    return Atomics.load(this.#words, tdGroup.generation / 4);
  }

  /** Incremented by an agent that swapped its programs in: pins are to be opened anew. */
  get loads(): number {
    return Atomics.load(this.#words, tdGroup.loads / 4);
  }

  /** Incremented by whoever removed pairs from `fqdn` before their time. */
  get removals(): number {
    return Atomics.load(this.#words, tdGroup.removals / 4);
  }
}

/** What `group` says of every member. `nowNs`: CLOCK_MONOTONIC. */
export function readMembers(memory: ArrayBuffer, nowNs: bigint): MemberStatus[] {
  const view = new DataView(memory);
  const members: MemberStatus[] = [];
  for (let base = tdGroup.member; base + tdMember.size <= tdGroup.size; base += tdMember.size) {
    const state = view.getUint32(base + tdMember.state, true);
    if (state === tdMemberState.NONE) continue;
    const beat = view.getBigUint64(base + tdMember.beat_ns, true);
    members.push({
      index: (base - tdGroup.member) / tdMember.size,
      role: view.getUint32(base + tdMember.role, true) === 0 ? 'agent' : 'dns-proxy',
      state: stateNames[state] ?? 'none',
      pid: view.getUint32(base + tdMember.pid, true),
      epochNs: Number(view.getBigUint64(base + tdMember.epoch, true)),
      beatAgeMs: Number(nowNs - beat) / 1e6,
      revision: view.getUint32(base + tdMember.revision, true),
    });
  }
  return members;
}
