// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Queries of pods that ask much, in flight at one server (docs/adr/0022-lanes.md). A server that is slower than the members has one
 * queue for all pods, so what a pod that asks little waits for there is what the others have in flight. The window bounds
 * only these.
 *
 *   standing delay: no answer of a round came faster than the base by `heavyDelayMs` ──► half the window
 *   loss: of the queries of a round more than a 32nd have no answer a second later ──► half the window
 *   all of it in use, and the fastest answer within `heavyGrowDelayMs` of the base ──► twice the window, after the first time that it was halved `heavyWindowStep` more
 *
 * The base is the fastest answer of the last 10 to 20 s. The fastest one of each round counts, because a queue delays all answers, while a
 * server that has to ask others answers some of them at once. Answers to pods that ask little count as well. A query without an answer
 * leaves the window after a second, so a server that answers some names never closes it, and while a server is silent nothing is refused.
 *
 * A pod's queries in it stay below `heavyFreeShare` times its free places: one pod alone has four fifths of it, two have four ninths each,
 * so one that asks what nobody answers leaves room to others. Pods share a count if their slots are equal modulo `heavyPods`.
 */

import {
  heavyBaseMs,
  heavyDelayMs,
  heavyFreeShare,
  heavyGrowDelayMs,
  heavyLossShare,
  heavyPods,
  heavyRoundMs,
  heavyRounds,
  heavySilenceMs,
  heavyWindowMin,
  heavyWindowStart,
  heavyWindowStep,
  inFlightMax,
} from '../limits.ts';
import type { EndpointSlot } from '../policy/owner-slots.ts';

const placeMask = heavyRounds - 1;
const podMask = heavyPods - 1;

/** No round: `begin` never returns it. */
export const noRound = 0;

export class HeavyWindow {
  /** By round, modulo `heavyRounds`: queries that began in it, and by pod those of them that are in flight. */
  readonly #begun = new Uint32Array(heavyRounds);
  readonly #waiting = new Uint16Array(heavyRounds * heavyPods);
  /** By pod: queries in flight of all rounds. */
  readonly #ofPod = new Uint16Array(heavyPods);
  #round = 0;
  #size = heavyWindowStart;
  #inFlight = 0;
  /** The last answer, or else the first query. */
  #answeredMs = Infinity;
  #wasFull = false;
  #wasHalved = false;
  /** The fastest answer of this round, ms. */
  #fastestMs = Infinity;
  /** The fastest one of the period of `heavyBaseMs` at work, and of the one before. */
  #baseMs = Infinity;
  #formerBaseMs = Infinity;
  #basePeriod = 0;
  /** Queries of earlier rounds tell nothing about loss: they were sent before the window was last halved. */
  #lossFrom = 0;

  /** Queries that may be in flight. */
  get size(): number {
    return this.#size;
  }

  /** Queries that are, as far as they are younger than `heavyRounds` rounds. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Whether one more of the pod may be in flight. */
  hasRoom(endpoint: EndpointSlot, nowMs: number): boolean {
    this.#advance(nowMs);
    // A server that is slow answers all the time. One that is silent may be gone, and what waits is asked again elsewhere.
    if (nowMs - this.#answeredMs > heavySilenceMs) return true;
    const free = this.#size - this.#inFlight;
    if (this.#ofPod[endpoint & podMask]! < free * heavyFreeShare) return true;
    this.#wasFull = true;
    return false;
  }

  /** One more is. @returns its round, for `end` */
  begin(endpoint: EndpointSlot, nowMs: number): number {
    this.#advance(nowMs);
    const place = this.#round & placeMask;
    const pod = endpoint & podMask;
    if (this.#answeredMs === Infinity) this.#answeredMs = nowMs;
    this.#begun[place]!++;
    this.#waiting[place * heavyPods + pod]!++;
    this.#ofPod[pod]!++;
    this.#inFlight += 1;
    return this.#round;
  }

  /** A query of the pod that began in `round` is not in flight any more, with or without an answer. */
  end(endpoint: EndpointSlot, round: number): void {
    const pod = endpoint & podMask;
    const at = (round & placeMask) * heavyPods + pod;
    if (round <= this.#round - heavyRounds || this.#waiting[at] === 0) return;
    this.#waiting[at]!--;
    this.#ofPod[pod]!--;
    this.#inFlight -= 1;
  }

  /** The server took so long for an answer, to whomever. */
  answered(delayMs: number, nowMs: number): void {
    this.#advance(nowMs);
    this.#answeredMs = nowMs;
    if (delayMs < this.#fastestMs) this.#fastestMs = delayMs;
  }

  #advance(nowMs: number): void {
    const round = 1 + Math.floor(nowMs / heavyRoundMs);
    if (round <= this.#round) return;
    this.#judge(nowMs);
    // After a long pause all that began is over: each place is emptied once.
    const first = Math.max(this.#round + 1, round - heavyRounds + 1);
    for (let next = first; next <= round; next++) this.#expire(next);
    this.#round = round;
    this.#fastestMs = Infinity;
    this.#wasFull = false;
  }

  /** The round at work is over. */
  #judge(nowMs: number): void {
    const period = Math.floor(nowMs / heavyBaseMs);
    if (period !== this.#basePeriod) {
      this.#formerBaseMs = period === this.#basePeriod + 1 ? this.#baseMs : Infinity;
      this.#baseMs = Infinity;
      this.#basePeriod = period;
    }
    const fastestMs = this.#fastestMs;
    if (fastestMs === Infinity) return;
    this.#baseMs = Math.min(this.#baseMs, fastestMs);
    const baseMs = Math.min(this.#baseMs, this.#formerBaseMs);
    if (fastestMs > baseMs + heavyDelayMs) this.#halve();
    else if (this.#wasFull && fastestMs <= baseMs + heavyGrowDelayMs) this.#grow();
  }

  /** `round` begins, in the place of the one that is `heavyRounds` before it. */
  #expire(round: number): void {
    const place = round & placeMask;
    const begun = this.#begun[place]!;
    if (begun === 0) return;
    let lost = 0;
    for (let pod = 0, at = place * heavyPods; pod < heavyPods; pod++, at++) {
      const waiting = this.#waiting[at]!;
      this.#ofPod[pod]! -= waiting;
      this.#waiting[at] = 0;
      lost += waiting;
    }
    this.#inFlight -= lost;
    this.#begun[place] = 0;
    const former = round - heavyRounds;
    if (former < this.#lossFrom || begun < heavyWindowMin) return;
    if (lost * heavyLossShare <= begun) return;
    this.#halve();
    this.#lossFrom = round;
  }

  #halve(): void {
    this.#size = Math.max(heavyWindowMin, this.#size >> 1);
    this.#wasHalved = true;
  }

  #grow(): void {
    const size = this.#wasHalved ? this.#size + heavyWindowStep : this.#size * 2;
    this.#size = Math.min(inFlightMax, size);
  }
}
