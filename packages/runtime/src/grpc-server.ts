// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// A gRPC server on a unix socket for peers of known uid. The listening socket is ours, not grpc-js's:
// before a byte of a connection is read, the kernel says who made it, and only then grpc-js gets it.

import { existsSync } from 'node:fs';
import net from 'node:net';
import {
  type ConnectionInjector,
  Server,
  ServerCredentials,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import type { ServiceHandlers } from '@tandem/proto/grpc-service';
import { grpcConnectionsMax, grpcServerOptions } from './grpc-options.ts';
import type { Component } from './lifecycle.ts';
import type { Logger } from './log.ts';
import { listenUnix, socketPeer } from './unix-socket.ts';

/** Default bound for calls in progress at stop, ms; then they are cut. */
export const grpcStopGraceMs = 500;

export interface GrpcServerOptions {
  /** Absolute path of the socket. */
  readonly path: string;
  /** Uids that may connect. */
  readonly allowedUids: readonly number[];
  /** Group that may reach the socket. Default: the process's own. */
  readonly groupId?: number;
  /** Default grpcConnectionsMax. */
  readonly connectionsMax?: number;
  /** Default grpcStopGraceMs. */
  readonly stopGraceMs?: number;
  readonly log: Logger;
}

/** Counts of a server since its start. */
export interface GrpcServerStats {
  readonly accepted: number;
  /** Closed because of their uid. */
  readonly refusedPeers: number;
  /** Closed because of connectionsMax. */
  readonly refusedConnections: number;
  /** At present. */
  readonly connections: number;
}

export class GrpcServer implements Component {
  readonly name: string;
  readonly #options: GrpcServerOptions;
  readonly #allowedUids: ReadonlySet<number>;
  readonly #grpc: Server = new Server(grpcServerOptions);
  readonly #listener: net.Server;
  readonly #sockets = new Set<net.Socket>();
  #injector: ConnectionInjector | null = null;
  #accepted = 0;
  #refusedPeers = 0;
  #refusedConnections = 0;

  constructor(options: GrpcServerOptions) {
    this.name = `gRPC server ${options.path}`;
    this.#options = options;
    this.#allowedUids = new Set(options.allowedUids);
    this.#listener = net.createServer((socket) => this.#onConnection(socket));
    this.#listener.maxConnections = options.connectionsMax ?? grpcConnectionsMax;
    this.#listener.on('drop', () => {
      this.#refusedConnections++;
    });
  }

  get stats(): GrpcServerStats {
    return {
      accepted: this.#accepted,
      refusedPeers: this.#refusedPeers,
      refusedConnections: this.#refusedConnections,
      connections: this.#sockets.size,
    };
  }

  /** Adds a service before the start: `addService(SyncService, { policy, exchange })`. */
  addService<Service extends object>(service: Service, handlers: ServiceHandlers<Service>): void {
    // grpc-js's own types know neither our handlers' names nor their messages.
    this.#grpc.addService(
      service as unknown as ServiceDefinition,
      handlers as unknown as UntypedServiceImplementation,
    );
  }

  /** Whether clients find the socket; false when it, or its directory, was removed. */
  get isReachable(): boolean {
    return this.#listener.listening && existsSync(this.#options.path);
  }

  /**
   * Listens; what failed may be tried again, and a socket that was removed is made again: calls over the former
   * one go on. @throws TandemError of listenUnix
   */
  async start(): Promise<void> {
    if (this.#listener.listening) this.#listener.close();
    this.#injector ??= this.#grpc.createConnectionInjector(ServerCredentials.createInsecure());
    await listenUnix(this.#listener, this.#options);
    this.#options.log.info('listening', { path: this.#options.path });
  }

  /** Takes no more connections, lets calls end for the grace, then cuts them. */
  async stop(): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#listener.close(() => closed.resolve());
    const ended = Promise.withResolvers<void>();
    // Its error is that the injector's inner server does not listen, which is so by design.
    this.#grpc.tryShutdown(() => ended.resolve());
    const cut = setTimeout(() => {
      this.#grpc.forceShutdown();
      ended.resolve();
    }, this.#options.stopGraceMs ?? grpcStopGraceMs);
    await ended.promise;
    clearTimeout(cut);
    this.#injector?.destroy();
    for (const socket of this.#sockets) socket.destroy();
    await closed.promise;
  }

  #onConnection(socket: net.Socket): void {
    // Without a listener an early reset would be an uncaught exception.
    socket.on('error', () => socket.destroy());
    const peer = socketPeer(socket);
    if (peer === null || this.#injector === null) {
      socket.destroy();
      return;
    }
    if (!this.#allowedUids.has(peer.uid)) {
      this.#refusedPeers++;
      this.#options.log.warn('connection refused: uid not allowed', {
        path: this.#options.path,
        uid: peer.uid,
        pid: peer.pid,
      });
      socket.destroy();
      return;
    }
    this.#accepted++;
    this.#sockets.add(socket);
    socket.once('close', () => this.#sockets.delete(socket));
    this.#injector.injectConnection(socket);
  }
}
