// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Handles a batch of UDP replies: matched with the query in flight, accepted, and then sent to the pod. Bounded work on bytes,
 * no allocation, no exceptions.
 */

import { setId, truncateReply } from '@tandem/core/dns/edit';
import { matchExact, matchNone, matchReply } from '@tandem/core/dns/reply-match';
import { TD_JOURNAL_CELL_BYTES } from '@tandem/datapath/abi.gen';
import {
  RECORD_WORDS,
  RX_FLAG_TRUNCATED,
  RX_FLAGS,
  RX_LENGTH,
  RX_OFFSET,
} from '@tandem/dns-sockets/layout';
import { counter } from '../counters.ts';
import { noSlot, type QuerySlot } from '../journal/region.ts';
import { type QuerySlots, slotClientId, slotQuestionEnd } from '../journal/slots.ts';
import {
  batchMax,
  udpReplyBytesMax,
  upstreamProbeMs,
  upstreamSilenceMs,
  upstreamTimeoutMs,
} from '../limits.ts';
import { mayAskAgain } from '../query/decide.ts';
import { protocolUdp, QueryFacts } from '../query/facts.ts';
import { claimed, gone } from './in-flight.ts';
import type { UdpParts } from './parts.ts';
import type { SocketHandle } from './upstream-sockets.ts';

export class UdpReplies {
  readonly #o: UdpParts;
  readonly #memory: Uint8Array;
  readonly #slots: QuerySlots;
  readonly #counters: Float64Array;
  readonly #facts = new QueryFacts(protocolUdp);

  constructor(options: UdpParts) {
    this.#o = options;
    this.#memory = options.memory;
    this.#slots = options.slots;
    this.#counters = options.counters;
    // The scratch cells of the journal: refusals in the first of them, replies behind.
    const replies = options.slots.region.scratchByte + batchMax * TD_JOURNAL_CELL_BYTES;
    for (let i = 0; i < batchMax; i++) {
      options.upstreams.rx[i * RECORD_WORDS + RX_OFFSET] = replies + i * udpReplyBytesMax;
    }
  }

  /** The batch received on one upstream socket. */
  onReplies(socket: SocketHandle, count: number): void {
    const { answers, outgoing, pool } = this.#o;
    pool.received(socket);
    answers.begin();
    for (let i = 0; i < count; i++) this.#onReply(socket, i);
    // The datapath knows the addresses before any pod does.
    answers.flush();
    outgoing.flush();
  }

  /**
   * Gives up queries whose server did not answer in time, and forgets those that another member took over while
   * this process was stopped. Queries on a socket that has gone silent are asked again, and those that wait for a server
   * from which ICMP errors come get SERVFAIL. `readUntilNs`: all that came before then has been read, so what was to come
   * by then is late.
   */
  sweep(readUntilNs: number): void {
    const { forwards, inFlight, timeouts } = this.#o;
    const slots = this.#slots;
    const readUntilUs = readUntilNs / 1000;
    const deadline = readUntilUs - upstreamTimeoutMs * 1000;
    const silent = readUntilUs - upstreamSilenceMs * 1000;
    const probed = readUntilUs - upstreamProbeMs * 1000;
    const count = slots.startedUs.length;
    for (let slot = 0 as QuerySlot; slot < count && slots.inFlight > 0; slot++) {
      // Looks at one array alone: a walk through the slots themselves would miss the cache each time.
      const startedUs = slots.startedUs[slot]!;
      if (startedUs === Infinity) continue;
      if (slots.isLost(slot)) inFlight.end(slot, 0);
      else if (startedUs <= deadline) timeouts.giveUp(slot);
      else if (startedUs > probed || (startedUs <= silent && forwards.askAgain(slot))) continue;
      else forwards.answerRefused(slot);
    }
    forwards.flush();
    slots.collect();
  }

  #onReply(socket: SocketHandle, i: number): void {
    const { upstreams, inFlight, answers, lookup, query, reply, batch, outgoing } = this.#o;
    const memory = this.#memory;
    const slots = this.#slots;
    const { rx } = upstreams;
    const record = i * RECORD_WORDS;
    const start = rx[record + RX_OFFSET]!;
    const length = rx[record + RX_LENGTH]!;
    const slot = this.#slotOf(socket, start, length);
    if (slot === noSlot) {
      this.#counters[counter.repliesUnsolicited]!++;
      return;
    }
    const at = slots.wordOf(slot);
    const sent = slots.messageOf(slot);
    const sentEnd = slots.words[at + slotQuestionEnd]!;
    const match = matchReply(memory, start, start + length, memory, sent, sentEnd);
    if (match === matchNone) {
      // An answer of another sender does not end the wait for ours (TuDoor, CVE-2023-28452).
      this.#counters[counter.repliesMismatched]!++;
      return;
    }
    if (!inFlight.read(slot, this.#facts, query)) {
      this.#counters[counter.repliesMismatched]!++;
      inFlight.forget(slot);
      return;
    }
    // Another member may have taken the query over while this process waited for a CPU, and ask again: this answer is
    // delivered, and the pod may get two.
    const nowMs = batch.monotonicNs / 1e6;
    const ended = inFlight.end(slot, socket);
    // Not asked again whose it is: the slot is free by now, and would be freed twice.
    if (ended === gone) return;
    if (ended === claimed && !mayAskAgain(lookup, query, this.#facts, nowMs)) return;
    const isTruncated = (rx[record + RX_FLAGS]! & RX_FLAG_TRUNCATED) !== 0;
    const mayLearn = match === matchExact && !isTruncated;
    answers.accept(memory, start, length, mayLearn, this.#facts, query, reply, batch);
    let replyLength = length;
    if (isTruncated) {
      this.#counters[counter.repliesTruncated]!++;
      replyLength = truncateReply(memory, start, start + length, reply, query);
    }
    setId(memory, start, slots.words[at + slotClientId]!);
    outgoing.append(slot, start, replyLength);
    outgoing.releaseAfter(slot);
  }

  /** The slot whose query this socket's reply may answer, by its id; -1 if there is none. */
  #slotOf(socket: SocketHandle, start: number, length: number): QuerySlot {
    const { ids, pool, inFlight } = this.#o;
    const memory = this.#memory;
    const slots = this.#slots;
    if (length < 12 || (memory[start + 2]! & 0x80) === 0) return noSlot;
    const id = (memory[start]! << 8) | memory[start + 1]!;
    const slot = ids.find(id, pool.saltOf(socket));
    if (slot === noSlot || !slots.isInFlight(slot)) return noSlot;
    return inFlight.isSent(slot, socket, id) ? slot : noSlot;
  }
}
