// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** {@link TcpSystem} over the kernel's sockets. All connections are read into one buffer, one after the other. */

import { closeSync } from 'node:fs';
import { Socket, type SocketConstructorOpts } from 'node:net';
import { formatAddress, isIpv4 } from '@tandem/core/net/ip';
import { releaseFd } from '@tandem/dns-sockets/fd';
import {
  type AcceptedTcp,
  acceptTcp,
  resetOnClose,
  resetTcp,
} from '@tandem/dns-sockets/tcp-accept';
import { createUpstreamTcp } from '@tandem/dns-sockets/upstream';
import { tcpReadBytes, upstreamDirectPriority } from '../limits.ts';
import type { AcceptedConnection, TcpStream, TcpStreamEvents, TcpSystem } from './stream.ts';

const buffer = new Uint8Array(tcpReadBytes);

interface OnRead {
  readonly buffer: Uint8Array;
  readonly callback: (octets: number) => boolean;
}

class NodeStream implements TcpStream {
  readonly #socket: Socket;
  readonly #events: TcpStreamEvents;
  readonly #isReset: boolean;
  /** Open as long as the socket is not destroyed. */
  readonly #fd: number;
  #isPaused = false;
  #isCorked = false;
  #isOver = false;
  /** Octets written that the kernel has not taken. */
  #unsent = 0;
  readonly #onWritten = (): void => this.#onTaken();

  /** `socketOf` makes the socket of `fd`, which reads by `onread`; `destroy` resets it if `isReset`. */
  constructor(
    fd: number,
    socketOf: (onread: OnRead) => Socket,
    events: TcpStreamEvents,
    isReset: boolean,
  ) {
    this.#fd = fd;
    this.#events = events;
    this.#isReset = isReset;
    this.#socket = socketOf({ buffer, callback: (octets) => this.#onRead(octets) });
    const socket = this.#socket;
    socket.on('connect', () => this.#events.onConnect?.());
    socket.on('end', () => {
      if (!this.#isOver) this.#events.onEnd();
    });
    // 'close' follows.
    socket.on('error', () => undefined);
    socket.on('close', () => this.#close());
  }

  pause(): void {
    if (this.#isPaused || this.#isOver) return;
    this.#isPaused = true;
    this.#socket.pause();
  }

  resume(): void {
    if (!this.#isPaused || this.#isOver) return;
    this.#isPaused = false;
    this.#socket.resume();
  }

  write(bytes: Uint8Array, whenDone?: (bytes: Uint8Array) => void): void {
    if (this.#isOver) {
      whenDone?.(bytes);
      return;
    }
    this.#unsent += bytes.length;
    if (!this.#isCorked) {
      // What one turn writes leaves in one system call.
      this.#isCorked = true;
      this.#socket.cork();
      process.nextTick(() => {
        this.#isCorked = false;
        this.#socket.uncork();
      });
    }
    if (whenDone === undefined) {
      this.#socket.write(bytes, this.#onWritten);
      return;
    }
    // Also called when the socket was destroyed: its descriptor is closed by then, nothing more of it is sent.
    this.#socket.write(bytes, () => {
      whenDone(bytes);
      this.#onTaken();
    });
  }

  end(): void {
    if (!this.#isOver) this.#socket.end(() => this.#socket.destroy());
  }

  destroy(): void {
    if (this.#isReset) this.reset();
    else this.#destroy();
  }

  reset(): void {
    // `resetAndDestroy` waits for the connection to be made, and for what was written to be sent.
    if (!this.#socket.destroyed) resetOnClose(this.#fd);
    this.#destroy();
  }

  #destroy(): void {
    this.#isOver = true;
    this.#socket.destroy();
  }

  #onRead(octets: number): boolean {
    if (this.#isOver) return false;
    this.#events.onData(buffer.subarray(0, octets));
    return !this.#isPaused;
  }

  #onTaken(): void {
    if (this.#isOver) return;
    const taken = this.#unsent - this.#socket.writableLength;
    if (taken <= 0) return;
    this.#unsent -= taken;
    this.#events.onTaken(taken);
  }

  #close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#events.onClose();
  }
}

/** A connection without a socket, such as one for which there was no descriptor: it has ended, which is reported later, as always. */
function brokenStream(events: TcpStreamEvents): TcpStream {
  let isOver = false;
  setImmediate(() => {
    if (!isOver) events.onClose();
  });
  const nothing = (): void => undefined;
  const destroy = (): void => {
    isOver = true;
  };
  return { pause: nothing, resume: nothing, write: nothing, end: nothing, destroy, reset: destroy };
}

/** Closes the descriptor if there can be no socket of it. @throws what `new Socket` throws */
export function socketOfFd(fd: number, options: SocketConstructorOpts): Socket {
  try {
    return new Socket({ ...options, fd });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openAccepted(fd: number, events: TcpStreamEvents): TcpStream {
  try {
    const options = { readable: true, writable: true, allowHalfOpen: true };
    const socketOf = (onread: OnRead): Socket =>
      socketOfFd(releaseFd(fd), { ...options, onread }).setNoDelay(true);
    return new NodeStream(fd, socketOf, events, false);
  } catch {
    return brokenStream(events);
  }
}

function acceptedConnection({ fd, addresses, peerPort }: AcceptedTcp): AcceptedConnection {
  return {
    addresses: new Uint32Array(addresses.buffer, addresses.byteOffset, 8),
    clientPort: peerPort,
    open: (events) => openAccepted(fd, events),
    refuse: () => resetTcp(fd),
  };
}

/** `priority`: SO_PRIORITY, also of the SYN. */
function connectTo(server: Uint8Array, priority: number, events: TcpStreamEvents): TcpStream {
  try {
    const fd = createUpstreamTcp({ isIpv6: !isIpv4(server), priority });
    // Node.js reads a socket of a descriptor at once, and this one is not connected yet: it is read from 'connect' on.
    const options = { readable: true, writable: true, manualStart: true };
    const socketOf = (onread: OnRead): Socket =>
      socketOfFd(releaseFd(fd), { ...options, onread })
        .setNoDelay(true)
        .connect(53, formatAddress(server));
    return new NodeStream(fd, socketOf, events, true);
  } catch {
    return brokenStream(events);
  }
}

export const nodeTcpSystem: TcpSystem = {
  listen: (fd, onConnection, onError) =>
    acceptTcp(fd, {
      onConnection: (accepted) => onConnection(acceptedConnection(accepted)),
      onError,
    }),
  connect: (server, events) => connectTo(server, 0, events),
  connectPastRedirects: (server, events) => connectTo(server, upstreamDirectPriority, events),
  soon: (work) => void setImmediate(work),
  after: (ms, work) => void setTimeout(work, ms),
};
