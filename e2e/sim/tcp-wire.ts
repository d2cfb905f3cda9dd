// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The kernel's part of a TCP connection: two ends, each with what came for it and was not read yet, in order.
 * An end that is closed with unread octets resets the connection; octets for an end that is closed do too.
 */

export interface Segment {
  readonly kind: 'connect' | 'data' | 'end' | 'reset';
  readonly dueNs: number;
  readonly bytes: Uint8Array;
}

const noBytes = new Uint8Array();

export class TcpEnd {
  readonly inbox: Segment[] = [];
  other: TcpEnd | null = null;
  isClosed = false;
  /** Octets that the owner will still take in. */
  window: number = Infinity;
  #hasEnded = false;
  #isReset = false;
  #lastNs = 0;

  /** Segment that has come by now, or undefined. */
  due(nowNs: number): Segment | undefined {
    const first = this.inbox[0];
    return first !== undefined && first.dueNs <= nowNs ? first : undefined;
  }

  get isReset(): boolean {
    return this.#isReset;
  }

  /** Octets, or the handshake's end, leave for the other end and come to it at `dueNs`. */
  send(kind: 'connect' | 'data', dueNs: number, bytes: Uint8Array = noBytes): void {
    const other = this.other as TcpEnd;
    if (this.#hasEnded || this.#isReset) return;
    if (!other.isClosed) other.#arrive(kind, dueNs, bytes);
    else if (kind === 'data') this.#arrive('reset', dueNs, noBytes);
  }

  /** No more octets follow. */
  end(dueNs: number): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    (this.other as TcpEnd).#arrive('end', dueNs, noBytes);
  }

  /** Nobody reads or writes this end any more. */
  close(nowNs: number): void {
    if (this.isClosed) return;
    const hasUnread = this.inbox.some(({ kind, dueNs }) => kind === 'data' && dueNs <= nowNs);
    if (hasUnread) this.reset(nowNs);
    else this.end(nowNs);
    this.isClosed = true;
    // What comes now is taken from its sender, and answered by a reset.
    this.window = Infinity;
  }

  reset(nowNs: number): void {
    this.isClosed = true;
    this.window = Infinity;
    this.#hasEnded = true;
    (this.other as TcpEnd).#arrive('reset', nowNs, noBytes);
  }

  #arrive(kind: Segment['kind'], dueNs: number, bytes: Uint8Array): void {
    if (this.isClosed || this.#isReset) return;
    if (kind === 'reset') this.#isReset = true;
    this.#lastNs = Math.max(this.#lastNs, dueNs);
    this.inbox.push({ kind, dueNs: this.#lastNs, bytes });
  }
}

export function connectEnds(): [TcpEnd, TcpEnd] {
  const ends: [TcpEnd, TcpEnd] = [new TcpEnd(), new TcpEnd()];
  ends[0].other = ends[1];
  ends[1].other = ends[0];
  return ends;
}

/** Gives out the messages of a stream, each with its length before it. */
export class Frames {
  #bytes: Uint8Array = noBytes;

  /** The messages that are whole by now. */
  push(chunk: Uint8Array): Uint8Array[] {
    const bytes = new Uint8Array(this.#bytes.length + chunk.length);
    bytes.set(this.#bytes);
    bytes.set(chunk, this.#bytes.length);
    const messages: Uint8Array[] = [];
    let at = 0;
    while (at + 2 <= bytes.length) {
      const next = at + 2 + ((bytes[at]! << 8) | bytes[at + 1]!);
      if (next > bytes.length) break;
      messages.push(bytes.subarray(at + 2, next));
      at = next;
    }
    this.#bytes = bytes.subarray(at);
    return messages;
  }
}
