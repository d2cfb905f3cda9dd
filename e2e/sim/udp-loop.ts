// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Takes the place of the addon's `UdpLoop`: the same records in memory, and the kernel's part of
 * recvmmsg(2) and sendmmsg(2), one datagram at a time. Between two of them the process may be stopped, or
 * killed and then what was received stays in its slots.
 */

import { tdJournalSlot } from '@tandem/datapath/abi.gen';
import {
  HEADER_TX_COUNT,
  HEADER_WORDS,
  RECORD_WORDS,
  RX_CAPACITY,
  RX_DESTINATION,
  RX_FLAGS,
  RX_LENGTH,
  RX_OFFSET,
  RX_PEER,
  RX_PEER_PORT,
  TX_HANDLE,
  TX_RESULT,
} from '@tandem/dns-sockets/layout';
import { socketsMax } from '@tandem/dns-sockets/limits';
import type { UdpLoop, UdpLoopOptions } from '@tandem/dns-sockets/udp-loop';

const records = 64;
const txPerRecord = 4;
const inet = 2;
const origdstaddr = 20;
const controlLength = 32;
const nameToMessage = tdJournalSlot.message - tdJournalSlot.name;
const controlToMessage = tdJournalSlot.message - tdJournalSlot.control;

export interface Datagram {
  readonly payload: Uint8Array;
  /** In the payload's place of the header. */
  readonly id: number;
  /** Four words each; of a listener's datagram. */
  readonly peer?: Uint32Array;
  readonly peerPort?: number;
  readonly destination?: Uint32Array;
}

export interface SimLoopOptions<Socket> {
  readonly memory: Uint8Array;
  readonly find: (fd: number) => Socket;
  readonly onAdd: (socket: Socket) => void;
  readonly onRemove: (socket: Socket) => void;
  /** One datagram leaves; its tx record begins at word `record`. */
  readonly send: (socket: Socket, record: number) => void;
  readonly seam: () => void;
  readonly records: LoopRecords;
  readonly events: Pick<UdpLoopOptions, 'onBatch' | 'onSocketError'>;
}

/** Memory that a loop shares with its addon. Used by one loop at a time, one after the other. */
export class LoopRecords {
  readonly header: Uint32Array = new Uint32Array(HEADER_WORDS);
  readonly clock: Float64Array = new Float64Array(2);
  readonly rx: Uint32Array = new Uint32Array(records * RECORD_WORDS);
  readonly tx: Uint32Array = new Uint32Array(records * txPerRecord * RECORD_WORDS);
}

export class SimUdpLoop<Socket> {
  readonly header: Uint32Array;
  readonly clock: Float64Array;
  readonly rx: Uint32Array;
  readonly tx: Uint32Array;
  /** By place; handles carry how often the place was used. */
  readonly #sockets: (Socket | undefined)[] = [];
  readonly #handles: number[] = [];
  readonly #o: SimLoopOptions<Socket>;

  constructor(options: SimLoopOptions<Socket>) {
    this.#o = options;
    const { header, clock, rx, tx } = options.records;
    this.header = header.fill(0);
    this.clock = clock;
    this.rx = rx;
    this.tx = tx;
    for (let i = 0; i < records; i++)
      this.rx[i * RECORD_WORDS + RX_CAPACITY] = tdJournalSlot.size - tdJournalSlot.message;
  }

  /** As the product sees it. */
  asUdpLoop<Handle extends number>(): UdpLoop<Handle> {
    return this as unknown as UdpLoop<Handle>;
  }

  add(fd: number): number {
    const socket = this.#o.find(fd);
    let place = this.#sockets.indexOf(undefined);
    if (place === -1) place = this.#sockets.length;
    const handle = (this.#handles[place] ?? place + socketsMax) + socketsMax;
    this.#handles[place] = handle;
    this.#sockets[place] = socket;
    this.#o.onAdd(socket);
    return handle;
  }

  remove(handle: number): boolean {
    const place = handle & (socketsMax - 1);
    const socket = this.#sockets[place];
    if (socket === undefined || this.#handles[place] !== handle) return false;
    this.#sockets[place] = undefined;
    this.#o.onRemove(socket);
    return true;
  }

  close(): void {
    for (const [place, socket] of this.#sockets.entries()) {
      if (socket === undefined) continue;
      this.#sockets[place] = undefined;
      this.#o.onRemove(socket);
    }
  }

  memory(): null {
    return null;
  }

  /** Sockets by handle, in no order that may be relied upon. */
  visit(visitor: (socket: Socket, handle: number) => void, first: number): void {
    const count = this.#sockets.length;
    for (let i = 0; i < count; i++) {
      const place = (first + i) % count;
      const socket = this.#sockets[place];
      if (socket !== undefined) visitor(socket, this.#handles[place]!);
    }
  }

  flush(): number {
    const count = this.header[HEADER_TX_COUNT]!;
    this.header[HEADER_TX_COUNT] = 0;
    for (let i = 0; i < count; i++) {
      const record = i * RECORD_WORDS;
      const handle = this.tx[record + TX_HANDLE]!;
      const place = handle & (socketsMax - 1);
      this.#o.seam();
      const socket = this.#handles[place] === handle ? this.#sockets[place] : undefined;
      this.tx[record + TX_RESULT] = 0;
      if (socket !== undefined) this.#o.send(socket, record);
    }
    return count;
  }

  /** The product has what was received, and the kernel what it made of it. */
  deliver(handle: number, count: number): void {
    this.#o.events.onBatch(handle, count);
    if (this.header[HEADER_TX_COUNT]! > 0) this.flush();
  }

  reportError(handle: number, errno: number): void {
    this.#o.events.onSocketError(handle, errno);
  }

  /** The kernel copies a datagram into rx record `i`. */
  receive(i: number, { payload, id, peer, peerPort = 0, destination }: Datagram): void {
    const { memory, seam } = this.#o;
    const record = i * RECORD_WORDS;
    const at = this.rx[record + RX_OFFSET]!;
    memory.set(payload, at);
    memory[at] = id >> 8;
    memory[at + 1] = id & 0xff;
    this.rx[record + RX_LENGTH] = payload.length;
    this.rx[record + RX_FLAGS] = 0;
    if (peer !== undefined && destination !== undefined) {
      this.rx.set(peer, record + RX_PEER);
      this.rx.set(destination, record + RX_DESTINATION);
      this.rx[record + RX_PEER_PORT] = peerPort;
      writeControl(memory, at - controlToMessage, destination);
      writeSockaddr(memory, at - nameToMessage, peer, peerPort);
    }
    seam();
  }
}

function writeControl(memory: Uint8Array, at: number, destination: Uint32Array): void {
  memory.fill(0, at, at + controlLength);
  memory[at] = controlLength;
  memory[at + 12] = origdstaddr;
  writeSockaddr(memory, at + 16, destination, 53);
}

/** The family last: who finds it finds all. */
function writeSockaddr(memory: Uint8Array, at: number, address: Uint32Array, port: number): void {
  const ipv4 = address[3]!;
  memory[at + 2] = port >> 8;
  memory[at + 3] = port & 0xff;
  for (let b = 0; b < 4; b++) memory[at + 4 + b] = (ipv4 >>> (b * 8)) & 0xff;
  memory[at] = inet;
}
