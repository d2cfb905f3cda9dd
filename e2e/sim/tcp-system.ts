// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The simulator's {@link TcpSystem}: one process's connections over the simulated kernel, and the part of its
 * event loop that serves them. What one callback writes leaves together after it, as in Node; what came in is
 * looked at before `soon` is called. At every call of the kernel the process may be stopped, or die.
 */

import { tcpReadBytes } from '@tandem/dns-proxy/limits';
import type {
  AcceptedConnection,
  TcpStream,
  TcpStreamEvents,
  TcpSystem,
} from '@tandem/dns-proxy/tcp/stream';
import type { Random } from './random.ts';
import type { SimSocket } from './sockets.ts';
import type { Segment, TcpEnd } from './tcp-wire.ts';

/** Called before the product acts on a connection. */
export interface StreamWatcher {
  /** One framed message. */
  onWrite(bytes: Uint8Array): void;
  /** Octets were read. */
  onRead(octets: number): void;
  /** No more is sent, once what was written is. */
  onEnd(): void;
  /** The product closes a connection that is not over. */
  onDestroy(): void;
  /** The connection is over, with its process or not. */
  onOver(isDeath: boolean): void;
}

/** A connection in the accept queue of a listener. */
export interface QueuedConnection {
  readonly addresses: Uint32Array;
  readonly clientPort: number;
  readonly end: TcpEnd;
  readonly watcher: StreamWatcher;
  /** It is a descriptor of the process from now on. */
  onAccepted(): void;
  /** The product begins to read it. */
  onOpened(): void;
  onRefused(): void;
}

export interface SimTcpOptions {
  readonly seam: () => void;
  readonly nowNs: () => number;
  readonly random: Random;
  readonly socketOf: (fd: number) => SimSocket;
  readonly holdSocket: (socket: SimSocket) => void;
  readonly releaseSocket: (socket: SimSocket) => void;
  readonly connectionOf: (number: number) => QueuedConnection;
  readonly connectTo: (server: Uint8Array) => {
    readonly end: TcpEnd;
    readonly watcher: StreamWatcher;
  };
  readonly after: (ms: number, work: () => void) => void;
  /** Before each callback of the product. */
  readonly beforeCall: () => void;
}

/** Octets that were written and that the kernel has not taken yet. */
interface Written {
  readonly bytes: Uint8Array;
  readonly whenDone: ((bytes: Uint8Array) => void) | undefined;
}

class SimStream implements TcpStream {
  readonly #system: SimTcpSystem;
  readonly #o: SimTcpOptions;
  readonly #end: TcpEnd;
  readonly #events: TcpStreamEvents;
  readonly #watcher: StreamWatcher;
  #unsent: Written[] = [];
  /** Octets of the first one that the kernel has taken. */
  #sent = 0;
  /** Octets that the kernel has taken and the product was not told of. */
  #taken = 0;
  #isConnected: boolean;
  #isPaused = false;
  #isEnding = false;
  /** It was written to after its end. */
  #isBroken = false;
  #isOver = false;

  constructor(
    system: SimTcpSystem,
    o: SimTcpOptions,
    end: TcpEnd,
    events: TcpStreamEvents,
    watcher: StreamWatcher,
    isConnected: boolean,
  ) {
    this.#system = system;
    this.#o = o;
    this.#end = end;
    this.#events = events;
    this.#watcher = watcher;
    this.#isConnected = isConnected;
  }

  pause(): void {
    this.#isPaused = true;
  }

  resume(): void {
    this.#isPaused = false;
  }

  write(bytes: Uint8Array, whenDone?: (bytes: Uint8Array) => void): void {
    if (this.#isOver || this.#isEnding) {
      this.#isBroken = !this.#isOver;
      whenDone?.(bytes);
      return;
    }
    this.#watcher.onWrite(bytes);
    this.#unsent.push({ bytes, whenDone });
    this.#system.sendLater(this);
  }

  end(): void {
    if (this.#isOver || this.#isEnding) return;
    this.#watcher.onEnd();
    this.#isEnding = true;
  }

  destroy(): void {
    if (this.#isOver) return;
    this.#watcher.onDestroy();
    this.#leave(false);
  }

  reset(): void {
    if (this.#isOver) return;
    this.#watcher.onDestroy();
    this.#end.reset(this.#o.nowNs());
    this.#leave(false);
  }

  /** The process is gone. */
  onDeath(): void {
    if (!this.#isOver) this.#leave(true);
  }

  /** The kernel takes what it has room for. */
  send(): void {
    const other = this.#end.other as TcpEnd;
    while (this.#isConnected && !this.#isOver) {
      const first = this.#unsent[0];
      if (first === undefined || other.window <= 0) return;
      const { bytes, whenDone } = first;
      const end = Math.min(bytes.length, this.#sent + other.window);
      other.window -= end - this.#sent;
      // A copy: the octets are the product's again, which may overwrite them.
      this.#end.send('data', this.#soonNs(), bytes.slice(this.#sent, end));
      this.#taken += end - this.#sent;
      this.#sent = end;
      if (end < bytes.length) continue;
      this.#sent = 0;
      this.#unsent.shift();
      whenDone?.(bytes);
    }
  }

  /** One look of the event loop at this connection. */
  turn(): void {
    if (this.#unsent.length > 0) {
      this.#o.seam();
      this.send();
    }
    if (this.#taken > 0) {
      const taken = this.#taken;
      this.#taken = 0;
      this.#call(() => this.#events.onTaken(taken));
    }
    if (this.#isOver) return;
    const isDone = this.#isEnding && this.#unsent.length === 0;
    // Octets that came before the end was sent may be read before it is, or after.
    if (this.#isBroken || (isDone && this.#o.random.chance(0.7))) {
      this.#close();
      return;
    }
    const isLost = this.#unsent.length > 0 && this.#end.inbox.at(-1)?.kind === 'reset';
    if (isLost) this.#close();
    else this.#read();
  }

  #read(): void {
    const nowNs = this.#o.nowNs();
    while (!this.#isOver && !this.#isPaused && this.#end.due(nowNs) !== undefined) {
      this.#o.seam();
      const segment = this.#end.inbox.shift();
      if (segment === undefined) return;
      if (segment.kind === 'connect') {
        this.#isConnected = true;
        this.#call(() => this.#events.onConnect?.());
        this.send();
      } else if (segment.kind === 'data') this.#onData(segment.bytes, nowNs);
      else if (segment.kind === 'end') this.#call(() => this.#events.onEnd());
      else this.#close();
    }
  }

  /** One read takes in all that has come, up to its size; what is left stays where it was. */
  #onData(first: Uint8Array, nowNs: number): void {
    const { inbox } = this.#end;
    let all = first;
    while (all.length < tcpReadBytes && this.#end.due(nowNs)?.kind === 'data')
      all = Buffer.concat([all, (inbox.shift() as Segment).bytes]);
    const taken = all.subarray(0, tcpReadBytes);
    if (taken.length < all.length)
      inbox.unshift({ kind: 'data', dueNs: 0, bytes: all.subarray(taken.length) });
    this.#watcher.onRead(taken.length);
    this.#call(() => this.#events.onData(taken));
  }

  #close(): void {
    this.#leave(false);
    this.#call(() => this.#events.onClose());
  }

  #leave(isDeath: boolean): void {
    this.#isOver = true;
    for (const { bytes, whenDone } of this.#unsent.splice(0)) whenDone?.(bytes);
    this.#system.forget(this);
    this.#watcher.onOver(isDeath);
    this.#end.close(this.#o.nowNs());
  }

  #call(work: () => void): void {
    this.#system.call(work);
  }

  #soonNs(): number {
    return this.#o.nowNs() + this.#o.random.int(2_000_000);
  }
}

export class SimTcpSystem implements TcpSystem {
  readonly #o: SimTcpOptions;
  readonly #streams = new Set<SimStream>();
  readonly #toSend = new Set<SimStream>();
  /** Accepted, and not read yet. */
  readonly #unread = new Set<QueuedConnection>();
  readonly #listeners = new Set<{
    readonly socket: SimSocket;
    readonly onConnection: (connection: AcceptedConnection) => void;
  }>();
  #soon: (() => void)[] = [];

  constructor(options: SimTcpOptions) {
    this.#o = options;
  }

  listen(fd: number, onConnection: (connection: AcceptedConnection) => void): () => void {
    const socket = this.#o.socketOf(fd);
    const listener = { socket, onConnection };
    this.#listeners.add(listener);
    this.#o.holdSocket(socket);
    return () => {
      if (this.#listeners.delete(listener)) this.#o.releaseSocket(socket);
    };
  }

  connect(server: Uint8Array, events: TcpStreamEvents): TcpStream {
    this.#o.seam();
    const { end, watcher } = this.#o.connectTo(server);
    const stream = new SimStream(this, this.#o, end, events, watcher, false);
    this.#streams.add(stream);
    return stream;
  }

  /** The simulated servers have no redirects: another connection. */
  connectPastRedirects(server: Uint8Array, events: TcpStreamEvents): TcpStream {
    return this.connect(server, events);
  }

  soon(work: () => void): void {
    this.#soon.push(work);
  }

  after(ms: number, work: () => void): void {
    this.#o.after(ms, () => this.call(work));
  }

  get isIdle(): boolean {
    return this.#soon.length === 0;
  }

  /** One turn of the event loop. */
  turn(): void {
    for (const { socket, onConnection } of this.#listeners) this.#accept(socket, onConnection);
    if (this.#streams.size > 0) {
      const streams = [...this.#streams];
      const first = this.#o.random.int(streams.length);
      for (let i = 0; i < streams.length; i++) streams[(first + i) % streams.length]?.turn();
    }
    if (this.#soon.length === 0) return;
    const due = this.#soon;
    this.#soon = [];
    for (const work of due) this.call(work);
  }

  /** Calls the product, and sends what it wrote. */
  call(work: () => void): void {
    this.#o.beforeCall();
    work();
    for (const stream of this.#toSend) {
      this.#o.seam();
      this.#toSend.delete(stream);
      stream.send();
    }
  }

  sendLater(stream: SimStream): void {
    this.#toSend.add(stream);
  }

  forget(stream: SimStream): void {
    this.#streams.delete(stream);
    this.#toSend.delete(stream);
  }

  /** The kernel closes what the process had. */
  onDeath(): void {
    for (const { socket } of this.#listeners) this.#o.releaseSocket(socket);
    this.#listeners.clear();
    for (const stream of [...this.#streams]) stream.onDeath();
    for (const { end, watcher } of this.#unread) {
      watcher.onOver(true);
      end.close(this.#o.nowNs());
    }
    this.#unread.clear();
  }

  #accept(socket: SimSocket, onConnection: (connection: AcceptedConnection) => void): void {
    let left = 1 + this.#o.random.int(4);
    while (socket.queue.length > 0 && left > 0) {
      this.#o.seam();
      // Another process may have accepted it meanwhile.
      const number = socket.queue.shift();
      if (number === undefined) return;
      left -= 1;
      const connection = this.#o.connectionOf(number);
      connection.onAccepted();
      this.#unread.add(connection);
      this.call(() => onConnection(this.#accepted(connection)));
    }
  }

  #accepted(connection: QueuedConnection): AcceptedConnection {
    const { addresses, clientPort, end, watcher } = connection;
    return {
      addresses,
      clientPort,
      open: (events) => {
        this.#unread.delete(connection);
        connection.onOpened();
        const stream = new SimStream(this, this.#o, end, events, watcher, true);
        this.#streams.add(stream);
        return stream;
      },
      refuse: () => {
        this.#unread.delete(connection);
        connection.onRefused();
        watcher.onOver(false);
        end.reset(this.#o.nowNs());
      },
    };
  }
}
