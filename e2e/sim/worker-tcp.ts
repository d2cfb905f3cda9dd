// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** TCP of one life: the product's server over the simulated kernel. */

import type { TcpServer } from '@tandem/dns-proxy/tcp/server';
import type { TcpClient } from './tcp-client.ts';
import { SimTcpSystem } from './tcp-system.ts';
import { isSteered } from './universe.ts';
import { variantsOfId } from './universe-policies.ts';
import { serverOf } from './upstream.ts';
import type { SimWorker } from './worker.ts';
import type { WorkerLimits } from './worker-limits.ts';

export class WorkerTcp {
  readonly system: SimTcpSystem;
  readonly #worker: SimWorker;
  readonly #limits: WorkerLimits;

  constructor(
    worker: SimWorker,
    limits: WorkerLimits,
    after: (ms: number, work: () => void) => void,
  ) {
    this.#worker = worker;
    this.#limits = limits;
    this.system = this.#createSystem(after);
  }

  get #server(): TcpServer {
    return this.#worker.tcpServer;
  }

  /** Calls the product, and sends what it wrote. */
  call(work: () => void): void {
    this.system.call(work);
  }

  turn(): void {
    this.system.turn();
    const { octets } = this.#server;
    if (octets < 0) this.#worker.life.world.oracle.fail(6, `${octets} octets are held`);
  }

  onDeath(): void {
    this.system.onDeath();
  }

  /** Names what it holds; null: nothing. */
  get leak(): string | null {
    const { connections, octets } = this.#server;
    if (connections !== 0) return `${connections} connections`;
    return octets === 0 ? null : `${octets} octets`;
  }

  /** Whether a query of the pod to the server can be decided on just now. */
  knowsPod(pod: number, server: number): boolean {
    const worker = this.#worker;
    const { tables } = worker.lookup;
    if (tables === null || this.#limits.hasRefusedOwners) return false;
    return worker.life.world.oracle.pods
      .policiesSince(pod, worker.judgedNs)
      .every(
        (id) => tables.hasPolicy(id) && isSteered(variantsOfId.get(id)?.[0] ?? 0, pod, server),
      );
  }

  #createSystem(after: (ms: number, work: () => void) => void): SimTcpSystem {
    const worker = this.#worker;
    const { life, thread } = worker;
    const { world } = life;
    return new SimTcpSystem({
      seam: thread.seam,
      nowNs: () => world.nowNs,
      random: world.random,
      socketOf: (fd) => life.socketOf(fd),
      holdSocket: (socket) => world.sockets.open(socket),
      releaseSocket: (socket) => world.sockets.close(socket),
      connectionOf: (number) => {
        const client = world.tcp.clients[number] as TcpClient;
        this.#limits.take(client.pod, client.asked.length);
        return client.accept(worker);
      },
      connectTo: (address) => world.tcp.connect(life, serverOf(address)),
      after,
      beforeCall: () => {
        worker.judgedNs = world.nowNs;
      },
    });
  }
}
