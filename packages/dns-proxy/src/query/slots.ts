// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Queries in flight, one slot of shared memory each: the query is received straight into it, and what
 * is needed to answer lies beside it, so that a slot alone tells a query's whole story.
 *
 *   word 0 state (0 free, 1 in flight)     8..11 server, as the pod asked it
 *        1 generation                      12 client port
 *        2 upstream socket handle          13 length of the query
 *        3 id sent upstream                14 listener handle
 *        4..7 client                       15 endpoint slot, 16 policy, 17 namespace,
 *                                          18 trusted server, 19 id of the client, 20 end of the question,
 *                                          21 accept set of the name, 22 installed tables that it is of
 *   byte 128.. the query as received (its id is replaced by the one sent upstream)
 */

import { inFlightMax, slotBytes, slotHeaderBytes } from '../limits.ts';

export const slotState = 0;
export const slotGeneration = 1;
export const slotUpstream = 2;
export const slotUpstreamId = 3;
export const slotClient = 4;
export const slotServer = 8;
export const slotClientPort = 12;
export const slotLength = 13;
export const slotListener = 14;
export const slotEndpoint = 15;
export const slotPolicy = 16;
export const slotNamespace = 17;
export const slotTrusted = 18;
export const slotClientId = 19;
export const slotQuestionEnd = 20;
export const slotAcceptSet = 21;
export const slotTables = 22;

const wordsPerSlot = slotBytes / 4;

export class QuerySlots {
  /** Over the whole memory; a slot's first word is at `wordOf(slot)`. */
  readonly words: Uint32Array;
  /** Microseconds, monotonic: when the query in flight arrived; infinite for a slot without one. */
  readonly startedUs: Float64Array = new Float64Array(inFlightMax).fill(Infinity);
  readonly #free = new Int32Array(inFlightMax);
  #freeCount = inFlightMax;
  #inFlight = 0;

  /** `memory` holds `inFlightMax` slots from its start. */
  constructor(memory: ArrayBufferLike) {
    this.words = new Uint32Array(memory, 0, inFlightMax * wordsPerSlot);
    for (let i = 0; i < inFlightMax; i++) this.#free[i] = inFlightMax - 1 - i;
  }

  wordOf(slot: number): number {
    return slot * wordsPerSlot;
  }

  /** Byte offset of the slot's query in the memory. */
  messageOf(slot: number): number {
    return slot * slotBytes + slotHeaderBytes;
  }

  /** Takes a free slot to receive into, or -1. */
  take(): number {
    if (this.#freeCount === 0) return -1;
    this.#freeCount -= 1;
    return this.#free[this.#freeCount] as number;
  }

  /** Whether another slot could be taken: else a received query has nowhere to wait. */
  get hasFree(): boolean {
    return this.#freeCount > 0;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /** The query in the slot is in flight from now on. */
  arm(slot: number, nowUs: number): void {
    const word = this.wordOf(slot);
    this.words[word + slotState] = 1;
    this.words[word + slotGeneration] = ((this.words[word + slotGeneration] as number) + 1) >>> 0;
    this.startedUs[slot] = nowUs;
    this.#inFlight += 1;
  }

  isInFlight(slot: number): boolean {
    return this.words[this.wordOf(slot) + slotState] === 1;
  }

  /** Answered or given up: the slot may receive again. */
  release(slot: number): void {
    this.words[this.wordOf(slot) + slotState] = 0;
    this.startedUs[slot] = Infinity;
    this.#free[this.#freeCount] = slot;
    this.#freeCount += 1;
    this.#inFlight -= 1;
  }
}
