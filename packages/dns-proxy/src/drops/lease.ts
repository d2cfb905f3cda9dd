// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The lease on reading the ring of drop events: two words of the `group` map. The agent is
 * preferred; another member takes the lease if it is free, or if its holder, dead
 * or hung, has not renewed it. The lease saves work; if two processes hold it at once, the ring's
 * position (`HeldRing`) keeps the events whole.
 */

import type { GroupIndex } from '@tandem/core/ids';
import type { NodeGroup } from '@tandem/datapath/group';
import { dropLeaseStaleMs } from './limits.ts';

const generationMask = 0xffffff;

export interface LeaseHolder {
  readonly member: GroupIndex;
  readonly generation: number;
  readonly ageMs: number;
}

export class DropLease {
  /** Times that we took it, and times that another member had taken it from us. */
  taken = 0;
  lost = 0;
  readonly #group: NodeGroup;
  readonly #member: GroupIndex;
  /** The word as we wrote it; 0: not ours. */
  #mine = 0;

  constructor(group: NodeGroup, member: GroupIndex) {
    this.#group = group;
    this.#member = member;
  }

  get isOurs(): boolean {
    return this.#mine !== 0 && this.#group.eventsLease === this.#mine;
  }

  /**
   * Renews the lease, or takes it if it may be taken. `nowMs`: CLOCK_MONOTONIC. Says whether it is ours,
   * and whether since just now.
   */
  renew(nowMs: number): 'held' | 'taken' | 'other' {
    if (this.isOurs) {
      this.#group.eventsBeatMs = nowMs;
      return 'held';
    }
    if (this.#mine !== 0) this.lost += 1;
    this.#mine = 0;
    const word = this.#group.eventsLease;
    const holder = readHolder(this.#group, nowMs);
    // Not from an earlier run of this member: it may hang, and take it back each time it resumes.
    const mayTake =
      holder === null || this.#member < holder.member || holder.ageMs > dropLeaseStaleMs;
    if (!mayTake) return 'other';
    const mine = nextWord(word, this.#member + 1);
    if (!this.#group.swapEventsLease(word, mine)) return 'other';
    this.#mine = mine;
    this.taken += 1;
    this.#group.eventsBeatMs = nowMs;
    return 'taken';
  }

  /** Another member may take it at once. */
  release(): void {
    if (this.#mine === 0) return;
    this.#group.swapEventsLease(this.#mine, nextWord(this.#mine, 0));
    this.#mine = 0;
  }
}

/** Null: no process. */
export function readHolder(group: NodeGroup, nowMs: number): LeaseHolder | null {
  const word = group.eventsLease;
  const holder = word & 0xff;
  if (holder === 0) return null;
  const ageMs = (Math.floor(nowMs) - group.eventsBeatMs) | 0;
  // A beat of the future was written since `nowMs` was read; far in it, it is nonsense, and so is its holder.
  const isNonsense = ageMs < -dropLeaseStaleMs;
  return {
    member: holder - 1,
    generation: word >>> 8,
    ageMs: isNonsense ? Infinity : Math.max(0, ageMs),
  };
}

function nextWord(word: number, holder: number): number {
  return (((((word >>> 8) + 1) & generationMask) << 8) | holder) >>> 0;
}
