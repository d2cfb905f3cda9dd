// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Batches of datagrams on the event loop, on memory shared with the addon.
 *
 *   kernel → recvmmsg → buffer + rx records → onBatch(handle, count) → tx records → sendmmsg
 *
 * A wake of one socket handles at most two batches, so that no socket starves the others; of a heavy listener one, after all
 * other sockets that are ready; of late sockets one of each, and of a few of them. Each
 * rx record says where its payload goes (RX_OFFSET, RX_CAPACITY; the caller may change both at any
 * time); onBatch decides and appends tx records. Nothing is queued: what the kernel does not take
 * at once is dropped and counted, and said in TX_RESULT.
 */

import { attempt } from './errors.ts';
import * as layout from './layout.ts';
import * as limits from './limits.ts';
import { native } from './native.ts';

/** Since the loop was made, except the two last. */
export interface UdpLoopStats {
  /** Times that a socket was found readable. */
  readonly wakes: number;
  /** Successful recvmmsg calls. */
  readonly batches: number;
  readonly received: number;
  readonly receivedTruncated: number;
  /** Received without payload because the rx record pointed out of the buffer. */
  readonly receiveRejected: number;
  /** sendmmsg calls. */
  readonly sendCalls: number;
  /** Datagrams that the kernel took. */
  readonly sent: number;
  /** Dropped because the socket was full (EAGAIN). */
  readonly sendDropped: number;
  /** Dropped for another errno, see TX_RESULT. */
  readonly sendFailed: number;
  /** tx records with a bad handle, offset, length, address or port, or over the capacity. */
  readonly sendRejected: number;
  /** Asynchronous errors (ICMP) of sockets; onSocketError is called for each socket at most once a wake. */
  readonly socketErrors: number;
  /** onBatch or onSocketError threw. */
  readonly callbackFailures: number;
  /** Datagrams that the kernel dropped for these sockets: buffer full, or refused by the guard. */
  readonly kernelDrops: number;
  /** Sockets now. */
  readonly sockets: number;
}

/** `Handle`: type of the loop's handles, for callers with several loops. The addon's numbers become handles here alone. */
export interface UdpLoopOptions<Handle extends number = number> {
  /** Payload memory: any Uint8Array, also over a SharedArrayBuffer or a mapped BPF map. */
  readonly buffer: Uint8Array;
  /** Records per batch, 1..256. 64 is the best measured. */
  readonly slots?: number;
  /** Distance of the default offsets and default capacity. `slots * slotBytes` must fit. */
  readonly slotBytes: number;
  /**
   * Whether the kernel writes who sent a datagram, and to whom, into META_BYTES before its payload as well:
   * for buffers that outlive this process. Default false.
   */
  readonly metadataInBuffer?: boolean;
  /**
   * `count` datagrams of socket `handle` lie in rx records 0..count-1, valid until it returns.
   * Runs outside of Node's callback scope: promises, ticks and microtasks made in it wait for the
   * next scope, so use setImmediate for work that follows. If it throws, its tx records are
   * dropped and the error is an uncaught exception.
   */
  readonly onBatch: (handle: Handle, count: number) => void;
  /** ECONNREFUSED and other errors of a socket, by errno; same conditions as onBatch. */
  readonly onSocketError: (handle: Handle, errno: number) => void;
}

/**
 * `heavy`: a listener whose datagrams may wait for those of other sockets. `late`: a connected socket whose datagrams may wait for those
 * of listeners and connected ones, however many late sockets are ready.
 */
export type SocketKind = 'listener' | 'connected' | 'heavy' | 'late';
const socketKinds: readonly SocketKind[] = ['listener', 'connected', 'heavy', 'late'];

/** The receive buffer of one socket, by the kernel (SO_MEMINFO). */
export interface SocketMemory {
  /** Octets that wait in it, with the kernel's overhead. */
  readonly queuedBytes: number;
  /** Datagrams that the kernel dropped, modulo 2^32: buffer full, or refused by the guard. */
  readonly drops: number;
}

export class UdpLoop<Handle extends number = number> implements Disposable {
  /** Header words, see HEADER_TX_COUNT. */
  readonly header: Uint32Array;
  /** [0] CLOCK_MONOTONIC and [1] CLOCK_BOOTTIME in ns when the current batch was received. */
  readonly clock: Float64Array;
  /** rx records, RECORD_WORDS each. */
  readonly rx: Uint32Array;
  readonly rxBytes: Uint8Array;
  /** tx records, RECORD_WORDS each. */
  readonly tx: Uint32Array;
  readonly txBytes: Uint8Array;
  readonly slots: number;
  /** tx records that one flush can take: `slots * txPerSlot`. */
  readonly txCapacity: number;
  readonly #id: number;
  #isOpen = true;

  /** @throws DnsSocketError */
  constructor(options: UdpLoopOptions<Handle>) {
    const { buffer, slotBytes, slots = limits.slotsDefault } = options;
    if (!Number.isInteger(slots) || slots < 1 || slots > limits.slotsMax) {
      throw new RangeError(`slots must be an integer from 1 to ${limits.slotsMax}: ${slots}`);
    }
    if (!Number.isInteger(slotBytes) || slotBytes < 1 || slots * slotBytes > buffer.byteLength) {
      throw new RangeError(
        `${slots} slots of ${slotBytes} bytes do not fit ${buffer.byteLength} bytes`,
      );
    }
    this.slots = slots;
    this.txCapacity = slots * limits.txPerSlot;
    const rxByte = layout.HEADER_WORDS * 4;
    const txByte = rxByte + slots * layout.RECORD_BYTES;
    // Shared memory cannot be detached: the addon's pointers into it stay good.
    const memory = new SharedArrayBuffer(txByte + this.txCapacity * layout.RECORD_BYTES);
    this.header = new Uint32Array(memory, 0, layout.HEADER_WORDS);
    this.clock = new Float64Array(memory, layout.HEADER_CLOCK_BYTE, 2);
    this.rx = new Uint32Array(memory, rxByte, slots * layout.RECORD_WORDS);
    this.rxBytes = new Uint8Array(memory, rxByte, slots * layout.RECORD_BYTES);
    this.tx = new Uint32Array(memory, txByte, this.txCapacity * layout.RECORD_WORDS);
    this.txBytes = new Uint8Array(memory, txByte, this.txCapacity * layout.RECORD_BYTES);
    for (let slot = 0; slot < slots; slot++) {
      this.rx[slot * layout.RECORD_WORDS + layout.RX_OFFSET] = slot * slotBytes;
      this.rx[slot * layout.RECORD_WORDS + layout.RX_CAPACITY] = slotBytes;
    }
    const { onBatch, onSocketError, metadataInBuffer = false } = options;
    const isMetadataInBuffer = metadataInBuffer ? 1 : 0;
    this.#id = attempt(() =>
      native.loopCreate(
        buffer,
        new Uint8Array(memory),
        slots,
        onBatch as UdpLoopOptions['onBatch'],
        onSocketError as UdpLoopOptions['onSocketError'],
        isMetadataInBuffer,
      ),
    );
  }

  /**
   * Watches a UDP socket. The loop uses a duplicate of `fd`: the caller keeps its own, may close it
   * at once, and may add the socket again after `remove`.
   *
   * @returns a handle, never 0, not reused for another socket for a long time (2^18 times)
   * @throws DnsSocketError: EPROTOTYPE (no UDP socket), ENOTCONN, ENOBUFS (socketsMax)
   */
  add(fd: number, kind: SocketKind): Handle {
    return attempt(() => native.loopAdd(this.#id, fd, socketKinds.indexOf(kind))) as Handle;
  }

  /** Stops watching and closes the loop's duplicate, not the caller's fd. False if unknown. */
  remove(handle: Handle): boolean {
    return attempt(() => native.loopRemove(this.#id, handle));
  }

  /** Null if there is no such socket. A system call or two: for metrics. */
  memory(handle: Handle): SocketMemory | null {
    return attempt(() => native.loopMemory(this.#id, handle));
  }

  /**
   * Sends the tx records (HEADER_TX_COUNT of them) now, for work outside of onBatch.
   * @returns how many the kernel took
   */
  flush(): number {
    return native.loopFlush(this.#id);
  }

  stats(): UdpLoopStats {
    return attempt(() => native.loopStats(this.#id)) as unknown as UdpLoopStats;
  }

  /** Removes all sockets; no callback follows. Idempotent; also within a callback. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    native.loopClose(this.#id);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
