// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Requests to the kernel and their answers, one at a time. A request that is not answered, or whose answer
 * was lost, fails; the next one goes out on a new socket.
 */

import { NetlinkSocket } from '@tandem/dns-sockets/netlink-socket';
import {
  EINTR,
  ENOBUFS,
  ETIMEDOUT,
  NLM_F_ACK,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_MULTI,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_OVERRUN,
} from './constants.ts';
import { NetlinkError } from './errors.ts';
import { dumpAttemptsMax, requestsWaitingMax, requestTimeoutMs } from './limits.ts';
import {
  decodeAck,
  decodeDone,
  encodeEnvelope,
  type NetlinkMessage,
  visitMessages,
} from './message.ts';

export interface NetlinkRequest {
  /** For the message of an error: "add the rule 9". */
  readonly attempt: string;
  readonly type: number;
  readonly flags?: number;
  readonly payload: Uint8Array;
}

interface Pending extends NetlinkRequest {
  readonly isDump: boolean;
  readonly onMessage: (message: NetlinkMessage) => void;
  readonly resolve: (end: { readonly isInterrupted: boolean }) => void;
  readonly reject: (error: NetlinkError) => void;
}

export class NetlinkConnection implements Disposable {
  readonly counters = { malformed: 0, interruptedDumps: 0, failures: 0 };
  readonly #protocol: number;
  readonly #waiting: Pending[] = [];
  #socket: NetlinkSocket | null = null;
  #current: Pending | null = null;
  #sequence = 0;
  #isInterrupted = false;
  #timer: NodeJS.Timeout | null = null;
  #isClosed = false;

  constructor(protocol: number) {
    this.#protocol = protocol;
  }

  /** Messages that came before the acknowledgement. @throws NetlinkError */
  async request(request: NetlinkRequest): Promise<readonly NetlinkMessage[]> {
    const messages: NetlinkMessage[] = [];
    await this.#ask(request, false, (message) => void messages.push(message));
    return messages;
  }

  /**
   * All objects of a kind, as they are at one moment: a dump that a change interrupted is made again.
   * Messages for which `decode` gives null are left out. @throws NetlinkError
   */
  async dump<T>(
    request: NetlinkRequest,
    decode: (message: NetlinkMessage) => T | null,
  ): Promise<T[]> {
    for (let attempt = 0; attempt < dumpAttemptsMax; attempt++) {
      const found: T[] = [];
      const { isInterrupted } = await this.#ask(request, true, (message) => {
        const value = decode(message);
        if (value !== null) found.push(value);
      });
      if (!isInterrupted) return found;
      this.counters.interruptedDumps += 1;
    }
    throw new NetlinkError(
      request.attempt,
      EINTR,
      `interrupted by changes ${dumpAttemptsMax} times`,
    );
  }

  /** Closes the socket; waiting requests fail. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#reset(ENOBUFS, 'the connection was closed');
    const waiting = this.#waiting.splice(0);
    for (const { attempt, reject } of waiting) {
      reject(new NetlinkError(attempt, ENOBUFS, 'the connection was closed'));
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #ask(
    request: NetlinkRequest,
    isDump: boolean,
    onMessage: (message: NetlinkMessage) => void,
  ): Promise<{ readonly isInterrupted: boolean }> {
    return new Promise((resolve, reject) => {
      if (this.#isClosed || this.#waiting.length >= requestsWaitingMax) {
        const why = this.#isClosed ? 'the connection was closed' : 'too many requests wait';
        reject(new NetlinkError(request.attempt, ENOBUFS, why));
        return;
      }
      this.#waiting.push({ ...request, isDump, onMessage, resolve, reject });
      this.#next();
    });
  }

  #next(): void {
    if (this.#current !== null) return;
    const next = this.#waiting.shift();
    if (next === undefined) return;
    this.#current = next;
    this.#isInterrupted = false;
    this.#sequence = (this.#sequence + 1) >>> 0;
    const kind = next.isDump ? NLM_F_DUMP : NLM_F_ACK;
    const flags = NLM_F_REQUEST | kind | (next.flags ?? 0);
    const { type, payload } = next;
    this.#timer = setTimeout(() => this.#reset(ETIMEDOUT, 'no answer'), requestTimeoutMs);
    try {
      this.#socket ??= this.#open();
      this.#socket.send(encodeEnvelope({ type, flags, sequence: this.#sequence, payload }));
    } catch (error) {
      const { errno = 0, message } = error as Partial<NetlinkError>;
      this.#reset(errno, message ?? '');
    }
  }

  #open(): NetlinkSocket {
    return new NetlinkSocket({
      protocol: this.#protocol,
      onMessages: (bytes) => {
        const read = visitMessages(bytes, (message) => this.#onMessage(message));
        if (!read.ok) this.counters.malformed += 1;
      },
      onOverrun: () => this.#reset(ENOBUFS, 'the answer was lost'),
      onError: ({ errno, message }) => this.#reset(errno, message),
    });
  }

  #onMessage(message: NetlinkMessage): void {
    const current = this.#current;
    // What a request that timed out is answered late has another number.
    if (current === null || message.sequence !== this.#sequence) return;
    if ((message.flags & NLM_F_DUMP_INTR) !== 0 && (message.flags & NLM_F_MULTI) !== 0) {
      this.#isInterrupted = true;
    }
    switch (message.type) {
      case NLMSG_ERROR:
        this.#finish(decodeAck(message));
        break;
      case NLMSG_DONE:
        this.#finish(decodeDone(message));
        break;
      case NLMSG_OVERRUN:
        this.#reset(ENOBUFS, 'the answer was lost');
        break;
      default:
        current.onMessage(message);
    }
  }

  #finish(end: ReturnType<typeof decodeAck>): void {
    const current = this.#take();
    if (current === null) return;
    if (!end.ok) {
      this.counters.malformed += 1;
      current.reject(new NetlinkError(current.attempt, EINTR, end.error));
    } else if (end.value.errno !== 0) {
      current.reject(new NetlinkError(current.attempt, end.value.errno, end.value.text));
    } else {
      current.resolve({ isInterrupted: this.#isInterrupted });
    }
    this.#next();
  }

  /** The request that runs fails, and what the kernel still sends for it goes to a closed socket. */
  #reset(errno: number, why: string): void {
    this.#socket?.close();
    this.#socket = null;
    const current = this.#take();
    if (current === null) return;
    this.counters.failures += 1;
    current.reject(new NetlinkError(current.attempt, errno, why));
    if (!this.#isClosed) this.#next();
  }

  #take(): Pending | null {
    const current = this.#current;
    this.#current = null;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    return current;
  }
}
