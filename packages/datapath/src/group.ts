// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The value of the `group` map (`struct td_group`), which the processes and the BPF programs share: the one
 * place that knows its words.
 *
 * Memory order: a load or store of a 32-bit word is sequentially consistent (`Atomics`), so a reader that sees a
 * word sees what its writer stored before it; `swap…`, `claim…` and `release…` are one compare-and-swap. A
 * 64-bit time is one aligned plain store: never torn, ordered by the word that is stored after it.
 * No accessor allocates, except those that return an object.
 */

import type { LostEventCode } from '@tandem/core/codes/events';
import type { GroupIndex, Revision } from '@tandem/core/ids';
import {
  TD_ABI_VERSION,
  TD_HEARTBEAT_STALE_NS,
  TD_MEMBERS_MAX,
  tdGroup,
  tdMember,
  tdMemberState,
} from './abi.gen.ts';
import type { DatapathConfig } from './config.ts';
import {
  agentMember,
  type MemberIndex,
  type MemberName,
  memberName,
  proxyMember,
} from './member.ts';

const stateNames = ['none', 'live', 'drain', 'dead'] as const;
export type MemberStateName = (typeof stateNames)[number];

/** Name of a state of tdMemberState. */
export const memberStateName = (state: number): MemberStateName => stateNames[state] ?? 'none';

/** A member as `select_member` sees it at one moment. */
export interface MemberStatus {
  readonly index: GroupIndex;
  readonly role: MemberName;
  readonly state: MemberStateName;
  readonly pid: number;
  /** CLOCK_BOOTTIME of its start, ns. */
  readonly epochNs: number;
  /** Negative: it beat after the clock was read. */
  readonly beatAgeMs: number;
  /** See {@link NodeGroup.isServing}. */
  readonly isServing: boolean;
  readonly revision: Revision;
}

/** A member with others would lose queries. */
export type GroupSettings = Pick<DatapathConfig, 'mark' | 'port' | 'ownerUid'>;

/** Why the kernel did not put a drop event into the ring. */
export type EventLoss = Exclude<LostEventCode, 'not-told'>;

const bytesPerWord = 4;
const bytesPerTime = 8;
const word = (offset: number): number => offset / bytesPerWord;

const abiVersionWord = word(tdGroup.abi_version);
const requiredRevisionWord = word(tdGroup.required_revision);
const generationWord = word(tdGroup.generation);
const drainTokenWord = word(tdGroup.drain_token);
const removalsWord = word(tdGroup.removals);
const appliedRevisionWord = word(tdGroup.applied_revision);
const eventsLeaseWord = word(tdGroup.events_lease);
const eventsBeatWord = word(tdGroup.events_beat_ms);
const loadsWord = word(tdGroup.loads);
const agentAbiWord = word(tdGroup.agent_abi);
const markWord = word(tdGroup.mark);
const portWord = word(tdGroup.port);
const ownerUidWord = word(tdGroup.owner_uid);
const policiesWord = word(tdGroup.policies);
const settingsLoadWord = word(tdGroup.settings_load);
const keptAbiWord = word(tdGroup.kept_abi);
const lossWord = (loss: EventLoss): number =>
  word(loss === 'ring-full' ? tdGroup.events_lost_told : tdGroup.events_limited_told);

const memberOffset = (index: GroupIndex): number => tdGroup.member + index * tdMember.size;
const memberWord = (index: GroupIndex, field: number): number => word(memberOffset(index) + field);
const beatTime = (index: GroupIndex): number =>
  (memberOffset(index) + tdMember.beat_ns) / bytesPerTime;
const epochTime = (index: GroupIndex): number =>
  (memberOffset(index) + tdMember.epoch) / bytesPerTime;

/** The rule of bpf/src/select_member.bpf.c, here once. */
const staleAtNs = (beatNs: number): number => beatNs + TD_HEARTBEAT_STALE_NS;
const isServing = (state: number, beatNs: number, monotonicNs: number): boolean =>
  state === tdMemberState.LIVE && monotonicNs < staleAtNs(beatNs);

export class NodeGroup {
  readonly #words: Uint32Array;
  readonly #times: Float64Array;
  readonly #scratch = new Uint32Array(2);
  readonly #scratchBits = new Float64Array(this.#scratch.buffer);

  /** `memory`: the mmap-ed value of the map. */
  constructor(memory: ArrayBufferLike) {
    this.#words = new Uint32Array(memory);
    this.#times = new Float64Array(memory);
  }

  /** A copy of the value as it was looked up; words that it does not have are 0. */
  static copyOf(value: Uint8Array): NodeGroup {
    const memory = new ArrayBuffer(tdGroup.size);
    new Uint8Array(memory).set(value.subarray(0, tdGroup.size));
    return new NodeGroup(memory);
  }

  /** ABI version of the agent that loaded first since boot; 0 before. */
  get abiVersion(): number {
    return Atomics.load(this.#words, abiVersionWord);
  }

  /** Members below this policy revision are passed over while another one is LIVE. */
  get requiredRevision(): number {
    return Atomics.load(this.#words, requiredRevisionWord);
  }

  set requiredRevision(revision: Revision) {
    Atomics.store(this.#words, requiredRevisionWord, revision);
  }

  /** The policy revision that the datapath enforces; 0 before the first. */
  get appliedRevision(): number {
    return Atomics.load(this.#words, appliedRevisionWord);
  }

  set appliedRevision(revision: Revision) {
    Atomics.store(this.#words, appliedRevisionWord, revision);
  }

  /** Incremented before and after every change of `endpoints`: odd in between. */
  get generation(): number {
    return Atomics.load(this.#words, generationWord);
  }

  /** `endpoints` is about to change, or has changed. */
  stepGeneration(): void {
    Atomics.add(this.#words, generationWord, 1);
  }

  /** Incremented after entries were added to `policy`: `judge` believes no denial of before (fqdn_denial.h). */
  get policies(): number {
    return Atomics.load(this.#words, policiesWord);
  }

  /** Entries were added to `policy`. */
  countPolicies(): void {
    Atomics.add(this.#words, policiesWord, 1);
  }

  /** Incremented by a member that removed pairs from `fqdn` before their time. */
  get removals(): number {
    return Atomics.load(this.#words, removalsWord);
  }

  countRemoval(): void {
    Atomics.add(this.#words, removalsWord, 1);
  }

  /** Incremented by an agent that swapped its programs in: pins are to be opened again. */
  get loads(): number {
    return Atomics.load(this.#words, loadsWord);
  }

  /** Settings with which the programs in force were loaded; null: their version does not record them. */
  get settings(): GroupSettings | null {
    const load = Atomics.load(this.#words, settingsLoadWord);
    if (load === 0 || load !== this.loads) return null;
    return {
      mark: Atomics.load(this.#words, markWord),
      port: Atomics.load(this.#words, portWord),
      ownerUid: Atomics.load(this.#words, ownerUidWord),
    };
  }

  /** ABI version whose maps the agent writes; 0 before the first load. */
  get agentAbi(): number {
    return Atomics.load(this.#words, agentAbiWord);
  }

  /** The oldest ABI version whose maps the agent keeps in step with its own. */
  get keptAbi(): number {
    return Atomics.load(this.#words, keptAbiWord);
  }

  /** Publishes that programs were swapped in, and the ABI version of the maps in force. */
  announceLoad(keptAbi: number, settings: GroupSettings): void {
    const words = this.#words;
    Atomics.compareExchange(words, abiVersionWord, 0, TD_ABI_VERSION);
    Atomics.store(words, keptAbiWord, keptAbi);
    Atomics.store(words, agentAbiWord, TD_ABI_VERSION);
    Atomics.store(words, markWord, settings.mark);
    Atomics.store(words, portWord, settings.port);
    Atomics.store(words, ownerUidWord, settings.ownerUid);
    Atomics.store(words, settingsLoadWord, this.loads + 1);
    Atomics.add(words, loadsWord, 1);
    // What members remember of endpoints was read from another version's map, perhaps. Odd would say that
    // endpoints are being changed.
    Atomics.add(words, generationWord, 2);
  }

  /** Takes the token for a member; true as well when the member has it already. */
  claimDrainToken(index: GroupIndex): boolean {
    const mine = index + 1;
    const before = Atomics.compareExchange(this.#words, drainTokenWord, 0, mine);
    return before === 0 || before === mine;
  }

  /** Does nothing when another member has the token. */
  releaseDrainToken(index: GroupIndex): void {
    Atomics.compareExchange(this.#words, drainTokenWord, index + 1, 0);
  }

  /** Reader of drop events: bits 0..7 index + 1, 0 no reader; above them a number that grows with each change. */
  get eventsLease(): number {
    return Atomics.load(this.#words, eventsLeaseWord);
  }

  swapEventsLease(from: number, to: number): boolean {
    return Atomics.compareExchange(this.#words, eventsLeaseWord, from, to) === from;
  }

  /** CLOCK_MONOTONIC ms of the holder's last look, wraps. */
  get eventsBeatMs(): number {
    return Atomics.load(this.#words, eventsBeatWord);
  }

  set eventsBeatMs(ms: number) {
    Atomics.store(this.#words, eventsBeatWord, Math.floor(ms) >>> 0);
  }

  /** How much of the kernel's counter of lost events was reported, wraps. */
  reportedLoss(loss: EventLoss): number {
    return Atomics.load(this.#words, lossWord(loss));
  }

  swapReportedLoss(loss: EventLoss, from: number, to: number): boolean {
    const at = lossWord(loss);
    return Atomics.compareExchange(this.#words, at, from, to) === from;
  }

  /**
   * A new run of a member, which serves no policy yet. LIVE comes last: a reader that sees it sees the rest.
   * Times in nanoseconds: CLOCK_MONOTONIC, CLOCK_BOOTTIME.
   */
  join(index: MemberIndex, pid: number, monotonicNs: number, boottimeNs: number): void {
    const words = this.#words;
    Atomics.store(words, memberWord(index, tdMember.pid), pid);
    Atomics.store(words, memberWord(index, tdMember.role), index);
    Atomics.store(words, memberWord(index, tdMember.revision), 0);
    Atomics.store(words, memberWord(index, tdMember.abi_version), TD_ABI_VERSION);
    this.#store(epochTime(index), boottimeNs);
    this.beat(index, monotonicNs);
    this.releaseDrainToken(index); // of a former run that died with it
    this.setState(index, 'live');
  }

  /** CLOCK_MONOTONIC ns. */
  beat(index: GroupIndex, monotonicNs: number): void {
    this.#store(beatTime(index), monotonicNs);
  }

  /** CLOCK_MONOTONIC ns of a member's last beat; 0 if there was none. */
  beatNsOf(index: GroupIndex): number {
    return this.#load(beatTime(index));
  }

  /** CLOCK_BOOTTIME ns of a member's start: distinguishes two runs of one index. */
  epochOf(index: GroupIndex): number {
    return this.#load(epochTime(index));
  }

  /** One of tdMemberState. */
  stateOf(index: GroupIndex): number {
    return Atomics.load(this.#words, memberWord(index, tdMember.state));
  }

  setState(index: GroupIndex, state: MemberStateName): void {
    Atomics.store(this.#words, memberWord(index, tdMember.state), stateNames.indexOf(state));
  }

  /** The policy revision that a member serves; 0: none yet. */
  revisionOf(index: GroupIndex): number {
    return Atomics.load(this.#words, memberWord(index, tdMember.revision));
  }

  setRevision(index: GroupIndex, revision: Revision): void {
    Atomics.store(this.#words, memberWord(index, tdMember.revision), revision);
  }

  /** CLOCK_MONOTONIC ns from which on `select_member` passes the member over, unless it beats again. */
  staleAtNs(index: GroupIndex): number {
    return staleAtNs(this.beatNsOf(index));
  }

  /** LIVE and not stale. A beat of the future was given after the clock was read: it is fresh. */
  isServing(index: GroupIndex, monotonicNs: number): boolean {
    return isServing(this.stateOf(index), this.beatNsOf(index), monotonicNs);
  }

  /** Every place that a member has had since boot. */
  members(monotonicNs: number): MemberStatus[] {
    const members: MemberStatus[] = [];
    for (let index = 0; index < TD_MEMBERS_MAX; index++) {
      const state = this.stateOf(index);
      if (state === tdMemberState.NONE) continue;
      const role = Atomics.load(this.#words, memberWord(index, tdMember.role));
      const beatNs = this.beatNsOf(index);
      members.push({
        index,
        role: memberName(role === agentMember ? agentMember : proxyMember),
        state: memberStateName(state),
        pid: Atomics.load(this.#words, memberWord(index, tdMember.pid)),
        epochNs: this.epochOf(index),
        beatAgeMs: (monotonicNs - beatNs) / 1e6,
        isServing: isServing(state, beatNs, monotonicNs),
        revision: this.revisionOf(index),
      });
    }
    return members;
  }

  /**
   * The eight bytes of a time are moved as the bits of a double (which are never a NaN for any time since
   * boot): one store, and no BigInt is allocated.
   */
  #store(at: number, ns: number): void {
    const high = Math.floor(ns / 4_294_967_296);
    this.#scratch[0] = ns - high * 4_294_967_296;
    this.#scratch[1] = high;
    this.#times[at] = this.#scratchBits[0]!;
  }

  #load(at: number): number {
    this.#scratchBits[0] = this.#times[at]!;
    return this.#scratch[1]! * 4_294_967_296 + this.#scratch[0]!;
  }
}
