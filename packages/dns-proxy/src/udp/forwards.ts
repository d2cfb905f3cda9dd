// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Sends queries to their servers, and handles those that fail: by a send, by an ICMP error, or because their socket is silent.
 * Such a query is sent once more, from another socket, if the failed socket's server had answered before, or if other sockets of
 * the silent one's server receive answers (conntrack may lead the socket's port to a pod that is gone). A query that netfilter
 * drops was not sent: it moves to up to `upstreamMovesMax` other sockets. Otherwise a query of a failed socket gets SERVFAIL at
 * once, since the pod would see the ICMP error (RFC 1122 section 4.1.3.3). A query of a silent socket keeps waiting, or gets SERVFAIL
 * if the last sign of its server was an ICMP error: kernels send few of them.
 */

import { edeNetworkError, rcodeServFail } from '@tandem/core/dns/constants';
import { HEADER_TX_COUNT, RECORD_WORDS, TX_RESULT } from '@tandem/dns-sockets/layout';
import { counter } from '../counters.ts';
import type { QuerySlot } from '../journal/region.ts';
import { slotFormerUpstream, slotUpstream } from '../journal/slots.ts';
import { batchMax, upstreamMovesMax } from '../limits.ts';
import { mayAskAgain } from '../query/decide.ts';
import { protocolUdp, QueryFacts } from '../query/facts.ts';
import { countOutcome, outcome } from '../query/outcome.ts';
import { type InFlight, replying } from './in-flight.ts';
import type { Outgoing } from './outgoing.ts';
import type { UdpShared } from './shared.ts';
import type { Timeouts } from './timeouts.ts';
import { appendForward } from './transmit.ts';
import type { SocketHandle } from './upstream-sockets.ts';

/** Errors of one datagram: the socket is as good as before. */
const datagramErrors = new Set([11 /* EAGAIN */, 90 /* EMSGSIZE */, 105 /* ENOBUFS */]);

/** EPERM: the node's netfilter dropped the datagram. One that it rejects has the error of the ICMP message instead. */
const dropped = 1;

interface ForwardsOptions extends UdpShared {
  readonly outgoing: Outgoing;
  readonly inFlight: InFlight;
  readonly timeouts: Timeouts;
}

export class Forwards {
  readonly #o: ForwardsOptions;
  readonly #facts = new QueryFacts(protocolUdp);
  /** Slot of each record of the batch. */
  readonly #slots = new Int32Array(batchMax);
  /** Slots whose send failed, and sockets with errors: handled when the batch is out. */
  readonly #unsent: QuerySlot[] = [];
  readonly #failedSockets: number[] = [];
  /** By slot: how often its query has moved, because netfilter dropped what its socket sent. */
  readonly #moves: Uint8Array;
  #isBusy = false;
  /** Replies of ours in the batch of `outgoing`. */
  #replies = 0;

  constructor(options: ForwardsOptions) {
    this.#o = options;
    this.#moves = new Uint8Array(options.slots.startedUs.length);
  }

  /** The query in the slot, `length` octets, is in flight: it leaves with the next `flush`. */
  append(slot: QuerySlot, length: number): void {
    this.#moves[slot] = 0;
    this.#append(slot, length);
  }

  #append(slot: QuerySlot, length: number): void {
    const { upstreams, slots } = this.#o;
    const socket = slots.words[slots.wordOf(slot) + slotUpstream]!;
    const index = appendForward(upstreams, socket, slots.messageOf(slot), length);
    this.#slots[index] = slot;
    if (index === batchMax - 1) this.#send();
  }

  /** Sends, and deals with what could not be sent. */
  flush(): void {
    this.#send();
    this.#settle();
    if (!this.#isBusy) this.#flushReplies();
  }

  /** The kernel reports an error of a socket, most likely ICMP. */
  onSocketError(socket: SocketHandle, errno: number): void {
    this.#o.counters[counter.upstreamSocketErrors]!++;
    if (!datagramErrors.has(errno)) this.#failedSockets.push(socket);
    this.#settle();
  }

  /** The query in the slot waits on a socket that has gone silent; false if it stays there. */
  askAgain(slot: QuerySlot): boolean {
    const { slots, pool, inFlight, lookup, query, batch } = this.#o;
    const { words } = slots;
    const at = slots.wordOf(slot);
    const nowMs = batch.monotonicNs / 1e6;
    if (words[at + slotFormerUpstream] !== 0) return false;
    if (!pool.isStale(words[at + slotUpstream]!, nowMs)) return false;
    if (!inFlight.read(slot, this.#facts, query)) return false;
    if (!mayAskAgain(lookup, query, this.#facts, nowMs)) return false;
    if (!inFlight.askAgain(slot)) return false;
    this.#append(slot, slots.lengthOf(slot));
    return true;
  }

  /** SERVFAIL, with the next `flush`, if the server of the query in the slot sends ICMP errors and no answers. */
  answerRefused(slot: QuerySlot): void {
    const { slots, pool, batch } = this.#o;
    const socket = slots.words[slots.wordOf(slot) + slotUpstream]!;
    const nowMs = batch.monotonicNs / 1e6;
    if (pool.isRefused(socket, slots.startedUs[slot]! / 1000, nowMs)) this.#answerUnreachable(slot);
  }

  #send(): void {
    const { upstreams, slots, pool, batch } = this.#o;
    const count = upstreams.header[HEADER_TX_COUNT]!;
    if (count === 0) return;
    const wasBusy = this.#isBusy;
    this.#isBusy = true;
    const sent = upstreams.flush();
    this.#isBusy = wasBusy;
    if (sent === count) return;
    for (let i = 0; i < count; i++) {
      const errno = upstreams.tx[i * RECORD_WORDS + TX_RESULT]!;
      if (errno === 0) continue;
      const slot = this.#slots[i]! as QuerySlot;
      this.#unsent.push(slot);
      if (datagramErrors.has(errno)) continue;
      const socket = slots.words[slots.wordOf(slot) + slotUpstream]!;
      if (errno === dropped) pool.dropped(socket, batch.monotonicNs / 1e6);
      else pool.failed(socket, batch.monotonicNs / 1e6);
      this.#failedSockets.push(socket);
    }
  }

  /** Each turn of the loop asks again or answers; nothing is asked again twice, or moved for ever, so it ends. */
  #settle(): void {
    if (this.#isBusy || (this.#unsent.length === 0 && this.#failedSockets.length === 0)) return;
    this.#isBusy = true;
    while (this.#unsent.length > 0 || this.#failedSockets.length > 0) {
      for (let slot = this.#unsent.pop(); slot !== undefined; slot = this.#unsent.pop()) {
        if (this.#o.slots.isInFlight(slot) && !this.#move(slot)) this.#giveUpOrAskAgain(slot);
      }
      const socket = this.#failedSockets.pop();
      if (socket !== undefined) this.#onFailedSocket(socket);
      this.#send();
    }
    this.#flushReplies();
    this.#isBusy = false;
  }

  /** Netfilter dropped the query in the slot: it moves to another socket. False: it has moved `upstreamMovesMax` times. */
  #move(slot: QuerySlot): boolean {
    const { slots, pool, inFlight } = this.#o;
    const at = slots.wordOf(slot);
    if (!pool.isDropped(slots.words[at + slotUpstream]!) || slots.isLost(slot)) return false;
    if (this.#moves[slot] === upstreamMovesMax || !inFlight.move(slot)) return false;
    this.#moves[slot]! += 1;
    this.#append(slot, slots.lengthOf(slot));
    return true;
  }

  #onFailedSocket(socket: SocketHandle): void {
    const { slots, pool, batch } = this.#o;
    pool.failed(socket, batch.monotonicNs / 1e6);
    let left = pool.inFlightOf(socket);
    const { startedUs, words } = slots;
    for (let slot = 0 as QuerySlot; slot < startedUs.length && left > 0; slot++) {
      if (startedUs[slot] === Infinity) continue;
      const at = slots.wordOf(slot);
      if (words[at + slotFormerUpstream] === socket) left -= 1;
      if (words[at + slotUpstream] !== socket) continue;
      left -= 1;
      this.#giveUpOrAskAgain(slot);
    }
  }

  #giveUpOrAskAgain(slot: QuerySlot): void {
    const { slots, pool } = this.#o;
    if (!slots.isLost(slot)) {
      if (this.askAgain(slot)) return;
      // The second try was refused; the first one only waits.
      const former = slots.words[slots.wordOf(slot) + slotFormerUpstream]!;
      if (former !== 0 && pool.isOpen(former)) return;
    }
    this.#answerUnreachable(slot);
  }

  #answerUnreachable(slot: QuerySlot): void {
    const { slots, query, batch, inFlight, outgoing, report, counters } = this.#o;
    if (!inFlight.read(slot, this.#facts, query)) {
      inFlight.forget(slot);
      return;
    }
    if (inFlight.end(slot, 0) !== replying) return;
    countOutcome(counters, outcome.unreachable);
    report.failed(this.#facts, query, batch);
    if (this.#replies === batchMax) this.#flushReplies();
    outgoing.write(slot, slots.scrap(this.#replies), query, rcodeServFail, edeNetworkError);
    outgoing.releaseAfter(slot);
    this.#replies += 1;
  }

  #flushReplies(): void {
    if (this.#replies > 0) this.#o.outgoing.flush();
    this.#replies = 0;
  }
}
