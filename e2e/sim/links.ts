// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * The unix socket between the DNS workers as the kernel has it: whole messages with descriptors, in order within one
 * connection, and the end of a process as the end of its connections.
 */

import type { PeerHandlers, PeerSocket, PeerSockets } from '@tandem/dns-proxy/peer/peer-sockets';
import { DnsSocketError } from '@tandem/dns-sockets/errors';
import type { UnixMessage } from '@tandem/dns-sockets/unix-seqpacket';
import type { Life } from './life.ts';
import type { World } from './world.ts';

const credentials = { pid: 1, uid: 0, gid: 0 };
/** Two workers that have been there for so long, and had so many turns each after that, are linked. */
const linkNs = 200e6;
const linkRounds = 4;

const systemErrors = new Map<string, DnsSocketError>();

/** The same error each time: to note where one was made takes longer than the call that fails. */
function systemError(errnoName: string): DnsSocketError {
  let found = systemErrors.get(errnoName);
  if (found === undefined) {
    found = new DnsSocketError(errnoName, { code: 'TANDEM_SOCKET_SYSTEM', errnoName });
    systemErrors.set(errnoName, found);
  }
  return found;
}

/** One end of a connection. */
class SimPeerSocket implements PeerSocket {
  readonly life: Life;
  readonly inbox: (UnixMessage | 'end')[] = [];
  other: SimPeerSocket | null = null;
  /** Null: it waits to be accepted. */
  handlers: PeerHandlers | null;
  isOpen = true;
  /** A message of the other end was read. */
  hasHeard = false;
  readonly #onClose: (socket: SimPeerSocket) => void;

  constructor(life: Life, handlers: PeerHandlers | null, onClose: (socket: SimPeerSocket) => void) {
    this.life = life;
    this.handlers = handlers;
    this.#onClose = onClose;
  }

  send(bytes: Uint8Array, fds: readonly number[] = []): boolean {
    const { other, life } = this;
    if (!this.isOpen || other?.isOpen !== true || other.inbox.at(-1) === 'end')
      throw systemError('EPIPE');
    other.inbox.push({ bytes, fds: fds.map((fd) => other.life.hold(life.socketOf(fd))) });
    return true;
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    for (const message of this.inbox.splice(0)) {
      if (message !== 'end') for (const fd of message.fds) this.life.closeFd(fd);
    }
    this.other?.end();
    this.#onClose(this);
  }

  /** The other end is closed. */
  end(): void {
    if (this.isOpen) this.inbox.push('end');
  }

  get isLinked(): boolean {
    return this.hasHeard && this.isOpen && this.other?.isOpen === true;
  }
}

interface Server {
  readonly life: Life;
  readonly onConnection: Parameters<PeerSockets['listen']>[0];
  readonly waiting: SimPeerSocket[];
}

export class Links {
  readonly #world: World;
  readonly #sockets = new Set<SimPeerSocket>();
  #server: Server | null = null;
  /** A worker began, or the link was cut. */
  #sinceNs = 0;
  /** Bits of those that have had a turn, and how often both had one. */
  #turned = 0;
  #rounds = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** As a process has them. */
  socketsOf(life: Life): PeerSockets {
    return {
      listen: (onConnection) => {
        const server: Server = { life, onConnection, waiting: [] };
        this.#server = server;
        return {
          isReachable: () => true,
          close: () => this.#closeServer(server),
        };
      },
      connect: (handlers) => {
        const server = this.#server;
        if (server === null) throw systemError('ECONNREFUSED');
        const mine = this.#create(life, handlers);
        const theirs = this.#create(server.life, null);
        mine.other = theirs;
        theirs.other = mine;
        server.waiting.push(theirs);
        return mine;
      },
    };
  }

  /** The worker of `life` reads what has come, `turn` of its event loop. */
  turn(life: Life, seam: () => void): void {
    this.#accept(life, seam);
    const ready = [...this.#sockets].filter(
      (socket) => socket.life === life && socket.handlers !== null && socket.inbox.length > 0,
    );
    for (const socket of ready) this.#read(socket, seam, ready.length > 1);
    for (const socket of ready) this.#read(socket, seam, false);
  }

  /** The worker of `life` has had a turn. */
  onTurned({ index }: Life): void {
    if (this.#world.nowNs - this.#sinceNs < linkNs) return;
    this.#turned |= 1 << index;
    if (this.#turned !== 3) return;
    this.#turned = 0;
    this.#rounds += 1;
  }

  onStarted(): void {
    this.#sinceNs = this.#world.nowNs;
    this.#turned = 0;
    this.#rounds = 0;
  }

  /** Closes every connection; both workers get the end of their link. */
  cut(): void {
    this.onStarted();
    for (const socket of this.#sockets) {
      if (socket.inbox.at(-1) !== 'end') socket.end();
    }
  }

  /** The process is gone. Its connections were linked: the other one hears of it. */
  onDeath(life: Life): void {
    if (this.#server?.life === life) this.#closeServer(this.#server);
    for (const socket of [...this.#sockets]) {
      if (socket.life !== life) continue;
      if (socket.other?.isLinked === true) socket.other.life.worker?.expectLost();
      socket.inbox.length = 0; // its descriptors are closed with all others
      socket.close();
    }
  }

  /** Nothing kept the two workers from linking. */
  get mustBeLinked(): boolean {
    return this.#rounds >= linkRounds;
  }

  /** A connection between `life` and the other process is there, and its hello was read. */
  isLinked(life: Life): boolean {
    return [...this.#sockets].some((socket) => socket.life === life && socket.isLinked);
  }

  get isIdle(): boolean {
    return [...this.#sockets].every((socket) => socket.inbox.length === 0 && socket.hasHeard);
  }

  #create(life: Life, handlers: PeerHandlers | null): SimPeerSocket {
    const socket = new SimPeerSocket(life, handlers, (closed) => void this.#sockets.delete(closed));
    this.#sockets.add(socket);
    return socket;
  }

  #closeServer(server: Server): void {
    if (this.#server === server) this.#server = null;
    for (const socket of server.waiting.splice(0)) socket.close();
  }

  #accept(life: Life, seam: () => void): void {
    const server = this.#server;
    if (server === null || server.life !== life) return;
    for (let next = server.waiting.shift(); next !== undefined; next = server.waiting.shift()) {
      seam();
      const handlers = server.onConnection(credentials);
      if (handlers === null) {
        next.close();
        continue;
      }
      next.handlers = handlers;
      handlers.onOpen?.(next);
    }
  }

  /** Connections are read in the order they were made, but the end of one may be seen after the next hello. */
  #read(socket: SimPeerSocket, seam: () => void, isEndDelayed: boolean): void {
    while (socket.isOpen && socket.inbox.length > 0) {
      if (isEndDelayed && socket.inbox[0] === 'end' && this.#world.random.chance(0.3)) return;
      seam();
      const message = socket.inbox.shift();
      if (message === 'end') {
        socket.close();
        socket.handlers?.onEnd();
      } else if (message !== undefined) {
        socket.hasHeard = true;
        this.#world.trace.note('hears the other worker', 0, 0, 0, socket.life.name);
        socket.handlers?.onMessage(message);
      }
    }
  }
}
