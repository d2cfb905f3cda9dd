// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** All TCP connections of a schedule: of pods to members, and of members to servers. */

import { tdListenerKind } from '@tandem/datapath/abi.gen';
import type { Life } from './life.ts';
import { TcpClient } from './tcp-client.ts';
import { TcpServerConnection } from './tcp-server.ts';
import type { StreamWatcher } from './tcp-system.ts';
import type { TcpEnd } from './tcp-wire.ts';
import type { World } from './world.ts';

export class TcpNetwork {
  readonly #world: World;
  /** By number. */
  readonly clients: TcpClient[] = [];
  #open: TcpClient[] = [];
  #servers: TcpServerConnection[] = [];

  constructor(world: World) {
    this.#world = world;
  }

  /** A pod opens a connection, with queries to follow. False: nobody listens. */
  open(pod: number, server: number): boolean {
    const { sockets, trace, random } = this.#world;
    const socket = sockets.select(tdListenerKind.TCP4, random.int(1000));
    if (socket === null) return false;
    const client = new TcpClient(this.#world, this.clients.length, pod, server);
    this.clients.push(client);
    this.#open.push(client);
    socket.queue.push(client.number);
    trace.note('a pod connects', client.number, pod, socket.member);
    return true;
  }

  /** A process connects to a server. */
  connect(life: Life, server: number): { readonly end: TcpEnd; readonly watcher: StreamWatcher } {
    const connection = new TcpServerConnection(this.#world, life, server);
    this.#servers.push(connection);
    return connection.begin();
  }

  /** Time has passed. */
  deliver(): void {
    if (this.#open.length > 0) {
      for (const client of this.#open) client.turn();
      this.#open = this.#open.filter(({ isOver }) => !isOver);
    }
    if (this.#servers.length > 0) {
      for (const server of this.#servers) server.turn();
      this.#servers = this.#servers.filter(({ isOver }) => !isOver);
    }
  }

  /** Clients whose connection is not over. */
  get connections(): readonly TcpClient[] {
    return this.#open;
  }

  /** Nothing more will happen by itself. */
  get isQuiet(): boolean {
    return this.#open.every(({ isAtRest }) => isAtRest);
  }

  /** Every pod closes what it has. */
  closeAll(): void {
    for (const client of this.#open) client.leave();
  }
}
