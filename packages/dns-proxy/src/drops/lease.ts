// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Which process reads the ring of drop events: two words of the mmap-ed `group` map. The agent by
 * preference; another member when nobody holds the lease or its holder has not looked for a while, dead
 * or hung. The lease keeps two from doing the same work; that they tear nothing when both think they hold
 * it is due to the ring's position (`HeldRing`).
 */

import { tdGroup } from '@tandem/datapath/abi.gen';
import { dropLeaseStaleMs } from './limits.ts';

const leaseWord = tdGroup.events_lease / 4;
const beatWord = tdGroup.events_beat_ms / 4;
const generationMask = 0xffffff;

export interface LeaseHolder {
  readonly member: number;
  readonly generation: number;
  readonly ageMs: number;
}

export class DropLease {
  /** Times that we took it, and times that another member had taken it from us. */
  taken = 0;
  lost = 0;
  readonly #words: Uint32Array;
  readonly #member: number;
  /** The word as we wrote it; 0: not ours. */
  #mine = 0;

  /** `memory`: the mmap-ed value of `group`. */
  constructor(memory: ArrayBuffer, member: number) {
    this.#words = new Uint32Array(memory);
    this.#member = member;
  }

  get isOurs(): boolean {
    return this.#mine !== 0 && Atomics.load(this.#words, leaseWord) === this.#mine;
  }

  /**
   * Renews the lease, or takes it if it may be taken. `nowMs`: CLOCK_MONOTONIC. Says whether it is ours,
   * and whether since just now.
   */
  renew(nowMs: number): 'held' | 'taken' | 'other' {
    if (this.isOurs) {
      this.#beat(nowMs);
      return 'held';
    }
    if (this.#mine !== 0) this.lost += 1;
    this.#mine = 0;
    const word = Atomics.load(this.#words, leaseWord);
    const holder = readHolder(this.#words, nowMs);
    // An earlier life of ours must not be wrestled with: it may hang, and take it back each time.
    const mayTake =
      holder === null || this.#member < holder.member || holder.ageMs > dropLeaseStaleMs;
    if (!mayTake) return 'other';
    const mine = nextWord(word, this.#member + 1);
    if (Atomics.compareExchange(this.#words, leaseWord, word, mine) !== word) return 'other';
    this.#mine = mine;
    this.taken += 1;
    this.#beat(nowMs);
    return 'taken';
  }

  /** Another member may take it at once. */
  release(): void {
    if (this.#mine === 0) return;
    Atomics.compareExchange(this.#words, leaseWord, this.#mine, nextWord(this.#mine, 0));
    this.#mine = 0;
  }

  #beat(nowMs: number): void {
    Atomics.store(this.#words, beatWord, Math.floor(nowMs) >>> 0);
  }
}

/** Null: nobody. */
export function readHolder(words: Uint32Array, nowMs: number): LeaseHolder | null {
  const word = Atomics.load(words, leaseWord);
  const holder = word & 0xff;
  if (holder === 0) return null;
  const ageMs = (Math.floor(nowMs) - Atomics.load(words, beatWord)) | 0;
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
