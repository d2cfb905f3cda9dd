// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The query path's interface to TCP. stream-node.ts implements it over the kernel's sockets; the simulator has
 * its own implementation.
 */

export interface TcpStreamEvents {
  /** Connected to the server: what was written until then is sent. */
  readonly onConnect?: () => void;
  /** Octets came; `bytes` is valid until this returns. */
  readonly onData: (bytes: Uint8Array) => void;
  /** The kernel took so many octets of what was written. */
  readonly onTaken: (octets: number) => void;
  /** The peer will send no more. */
  readonly onEnd: () => void;
  /** The connection is over: nothing follows. */
  readonly onClose: () => void;
}

export interface TcpStream {
  /** No `onData` until `resume`; may be called in it. */
  pause(): void;
  resume(): void;
  /**
   * `bytes` belongs to the stream until it calls `whenDone` with them, once: they are sent, or never will be. Without
   * it they are the stream's for ever.
   */
  write(bytes: Uint8Array, whenDone?: (bytes: Uint8Array) => void): void;
  /** Closes the connection when what was written is sent. */
  end(): void;
  /**
   * Closes the connection now; `onClose` does not follow. A connection that `connect` made is reset: its port
   * is free at once, and not after a minute in TIME_WAIT.
   */
  destroy(): void;
  /** As `destroy`, with a reset: of what was written nothing more is sent. */
  reset(): void;
}

/** A connection that was accepted and is not read yet: a file descriptor, nothing more. */
export interface AcceptedConnection {
  /** Client and server, 4 words each, in memory order. */
  readonly addresses: Uint32Array;
  readonly clientPort: number;
  /** Begins to read it. */
  open(events: TcpStreamEvents): TcpStream;
  /** Resets it. */
  refuse(): void;
}

export interface TcpSystem {
  /**
   * Accepts on a listening socket, which may be another member's, until the function returned is called.
   * `onError`: a connection could not be accepted, for want of descriptors.
   */
  listen(
    fd: number,
    onConnection: (connection: AcceptedConnection) => void,
    onError: () => void,
  ): () => void;
  /** Connects to port 53 of a server (16 bytes). */
  connect(server: Uint8Array, events: TcpStreamEvents): TcpStream;
  /** The same, past the redirects of the node; absent where there can be none. */
  connectPastRedirects?(server: Uint8Array, events: TcpStreamEvents): TcpStream;
  /** Calls `work` once, when what came in by now has been looked at. */
  soon(work: () => void): void;
  /** Calls `work` once, `ms` from now. */
  after(ms: number, work: () => void): void;
}
