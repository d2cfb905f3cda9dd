// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/**
 * Stands between the processes on the agent's socket: the socket is moved aside, ours takes its path. What
 * goes through can be cut, or made to wait. The agent must not be restarted meanwhile: it would find
 * its path taken.
 */

import { chownSync, renameSync, rmSync, statSync } from 'node:fs';
import net from 'node:net';

export class GrpcRelay implements AsyncDisposable {
  readonly #path: string;
  readonly #aside: string;
  readonly #server: net.Server;
  readonly #sockets = new Set<net.Socket>();
  #delayMs = 0;
  #isCut = false;
  connections = 0;

  private constructor(path: string) {
    this.#path = path;
    this.#aside = `${path}.aside`;
    this.#server = net.createServer((socket) => this.#relay(socket));
  }

  static async start(path: string): Promise<GrpcRelay> {
    const relay = new GrpcRelay(path);
    const { uid, gid } = statSync(path);
    renameSync(path, relay.#aside);
    const umask = process.umask(0o117);
    try {
      await new Promise<void>((resolve) => relay.#server.listen(path, resolve));
    } finally {
      process.umask(umask);
    }
    chownSync(path, uid, gid);
    return relay;
  }

  /** Ends what is connected and lets nothing through until `heal`. */
  cut(): void {
    this.#isCut = true;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Each piece of what is sent waits so long. */
  slow(delayMs: number): void {
    this.#delayMs = delayMs;
  }

  heal(): void {
    this.#isCut = false;
    this.#delayMs = 0;
  }

  #relay(near: net.Socket): void {
    if (this.#isCut) {
      near.destroy();
      return;
    }
    this.connections += 1;
    const far = net.connect(this.#aside);
    this.#pipe(near, far);
    this.#pipe(far, near);
  }

  #pipe(from: net.Socket, to: net.Socket): void {
    this.#sockets.add(from);
    from.on('data', (bytes) => {
      if (this.#delayMs === 0) to.write(bytes);
      else setTimeout(() => to.write(bytes), this.#delayMs);
    });
    from.on('error', () => from.destroy());
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Node removes the path of a socket that it closes.
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.cut();
    });
    rmSync(this.#path, { force: true });
    renameSync(this.#aside, this.#path);
  }
}
