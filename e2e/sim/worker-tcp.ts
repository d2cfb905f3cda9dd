// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

/** TCP of one life: the product's server over the simulated kernel. */

import type { QueryPath } from '@tandem/dns-proxy/query/query-path';
import { TcpServer } from '@tandem/dns-proxy/tcp/server';
import { blockBytesMin, connectionsPerPod } from './sizes.ts';
import type { TcpClient } from './tcp-client.ts';
import { SimTcpSystem } from './tcp-system.ts';
import { isSteered, variantsOfId } from './universe.ts';
import { serverOf } from './upstream.ts';
import type { SimWorker } from './worker.ts';
import type { WorkerLimits } from './worker-limits.ts';

export interface WorkerTcpOptions {
  readonly worker: SimWorker;
  readonly limits: WorkerLimits;
  readonly path: QueryPath;
  /** Before each callback of the product. */
  readonly beforeCall: () => void;
  readonly after: (ms: number, work: () => void) => void;
  /** The member is about to stop accepting. */
  readonly onDrain: () => void;
}

export class WorkerTcp {
  readonly #o: WorkerTcpOptions;
  readonly #system: SimTcpSystem;
  readonly server: TcpServer;

  constructor(options: WorkerTcpOptions) {
    this.#o = options;
    const { world } = options.worker.life;
    this.#system = this.#createSystem();
    this.server = new TcpServer({
      ...options.path,
      random: world.random,
      system: this.#system,
      connectionsPerPod,
      blockBytesMin,
      moment: () => ({ monotonicNs: world.nowNs, boottimeNs: world.bootNs }),
    });
  }

  /** As the life of its member sees it. */
  get ofMember(): Pick<TcpServer, 'drain' | 'connections' | 'sweep' | 'backendsChanged'> {
    const { server } = this;
    return {
      drain: () => {
        this.#o.onDrain();
        server.drain();
      },
      sweep: () => this.#system.call(() => server.sweep()),
      backendsChanged: (address) => this.#system.call(() => server.backendsChanged(address)),
      get connections(): number {
        return server.connections;
      },
    };
  }

  turn(): void {
    this.#system.turn();
    const { octets } = this.server;
    if (octets < 0) this.#o.worker.life.world.oracle.fail(6, `${octets} octets are held`);
  }

  close(): void {
    this.#system.call(() => this.server.close());
  }

  onDeath(): void {
    this.#system.onDeath();
  }

  /** What it holds; null: nothing. */
  get leak(): string | null {
    const { connections, octets } = this.server;
    if (connections !== 0) return `${connections} connections`;
    return octets === 0 ? null : `${octets} octets`;
  }

  /** Whether a query of the pod to the server can be decided on just now. */
  knowsPod(pod: number, server: number): boolean {
    const { worker, path, limits } = this.#o;
    const { tables } = path.lookup;
    if (tables === null || limits.hasRefusedOwners) return false;
    return worker.life.world.oracle
      .policiesSince(pod, worker.judgedNs)
      .every(
        (id) => tables.hasPolicy(id) && isSteered(variantsOfId.get(id)?.[0] ?? 0, pod, server),
      );
  }

  #createSystem(): SimTcpSystem {
    const { worker, limits, after, beforeCall } = this.#o;
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
        limits.take(client.pod, client.asked.length);
        return client.accept(worker);
      },
      connectTo: (address) => world.tcp.connect(life, serverOf(address)),
      after,
      beforeCall,
    });
  }
}
