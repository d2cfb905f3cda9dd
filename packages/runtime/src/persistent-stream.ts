// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// A stream to the other process that is opened again whenever it ends, for as long as we run: the other one
// may crash, hang or be replaced at any time, and that is no error here. What was sent and not acknowledged
// is the caller's to send again.
//
//   connecting --first message--> open --end or error--> waiting --backoff--> connecting
//
// After a failure a bare connection finds out whether anybody listens: a gRPC client is made for those who
// do, because making one costs milliseconds, and the other process may be away for long.

import net from 'node:net';
import { dirname } from 'node:path';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import type { RpcMethod } from '@tandem/proto/grpc-service';
import { GrpcClient, type GrpcClientOptions } from './grpc-client.ts';
import type { Component } from './lifecycle.ts';
import type { Logger } from './log.ts';
import { StreamLink } from './stream-link.ts';
import { TandemError } from './tandem-error.ts';
import { directoryProblem } from './unix-socket.ts';

/** Waits between attempts, ms: doubled from the first to the largest, each up to a quarter shorter. */
export const reconnectDelayMinMs = 100;
export const reconnectDelayMaxMs = 2000;
const delayJitter = 0.25;

/** The wait before attempt `failures` + 1. `random` is in [0, 1). */
export function reconnectDelayMs(failures: number, random: number): number {
  const doubled = reconnectDelayMinMs * 2 ** Math.min(Math.max(failures, 1) - 1, 16);
  return Math.min(doubled, reconnectDelayMaxMs) * (1 - delayJitter * random);
}

export interface PersistentStreamHandler<Send, Receive> {
  /** A new stream: send the hello. Nothing says yet that the other side is there. */
  onConnect(link: StreamLink<Send>): void;
  /** A message; the first one says that the other side is there. */
  onMessage(message: Receive, link: StreamLink<Send>): void;
  /** The stream ended. Null: the other side ended it in order. */
  onDisconnect(error: TandemError | null): void;
}

export interface PersistentStreamOptions<Send, Receive> extends GrpcClientOptions {
  readonly method: RpcMethod<Send, unknown, never, Receive, true, true>;
  readonly handler: PersistentStreamHandler<Send, Receive>;
  readonly log: Logger;
  /** In [0, 1), for the jitter. Default Math.random. */
  readonly random?: () => number;
}

export type PersistentStreamState = 'stopped' | 'connecting' | 'open' | 'waiting';

export class PersistentStream<Send, Receive> implements Component {
  readonly name: string;
  /** Streams opened since the start, the first included. */
  attempts = 0;
  readonly #options: PersistentStreamOptions<Send, Receive>;
  #state: PersistentStreamState = 'stopped';
  /** Since the last stream that was open for longer than the largest wait. */
  #failures = 0;
  #openedMs = 0;
  #lastError: TandemError | null = null;
  #client: GrpcClient | null = null;
  #call: ClientDuplexStream<Send, Receive> | null = null;
  #link: StreamLink<Send> | null = null;
  #timer: NodeJS.Timeout | null = null;
  #probe: net.Socket | null = null;

  constructor(options: PersistentStreamOptions<Send, Receive>) {
    this.name = `stream ${options.method.path} to ${options.path}`;
    this.#options = options;
  }

  get state(): PersistentStreamState {
    return this.#state;
  }

  /** Why the last stream ended; null after an orderly end. */
  get lastError(): TandemError | null {
    return this.#lastError;
  }

  /** The open stream, or null. */
  get link(): StreamLink<Send> | null {
    return this.#state === 'open' ? this.#link : null;
  }

  /** Begins the first attempt; does not wait for it: the other side may come much later. */
  start(): void {
    this.#connect();
  }

  stop(): void {
    this.#state = 'stopped';
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#probe?.destroy();
    this.#probe = null;
    this.#link?.close();
    this.#call?.cancel();
    this.#client?.close();
    this.#call = null;
    this.#client = null;
    this.#link = null;
  }

  #connect(): void {
    this.#state = 'connecting';
    this.attempts++;
    if (this.#failures === 0) this.#open();
    else this.#openIfListening();
  }

  #openIfListening(): void {
    const { path, serverUids = [] } = this.#options;
    if (directoryProblem(dirname(path), serverUids) !== null) {
      // The client reports the reason, and connects to no server.
      this.#open();
      return;
    }
    const probe = net.connect({ path });
    this.#probe = probe;
    probe.once('connect', () => {
      probe.destroy();
      this.#probe = null;
      this.#open();
    });
    probe.once('error', (error) => {
      this.#probe = null;
      this.#ended(null, this.#failure(error));
    });
  }

  #open(): void {
    const { method, handler } = this.#options;
    let client: GrpcClient;
    try {
      client = new GrpcClient(this.#options);
    } catch (error) {
      this.#ended(null, TandemError.from(error));
      return;
    }
    const call = client.bidirectional(method);
    const link = new StreamLink<Send>(call);
    this.#client = client;
    this.#call = call;
    this.#link = link;
    call.on('data', (message: Receive) => {
      if (this.#call !== call) return;
      if (this.#state === 'connecting') this.#opened();
      handler.onMessage(message, link);
    });
    call.on('error', (error: Error) => this.#ended(call, this.#failure(error)));
    call.on('end', () => this.#ended(call, null));
    handler.onConnect(link);
  }

  #opened(): void {
    this.#state = 'open';
    this.#openedMs = performance.now();
    this.#lastError = null;
    this.#options.log.info('stream open', {
      path: this.#options.path,
      method: this.#options.method.path,
      attempts: this.attempts,
    });
  }

  #failure(error: Error): TandemError {
    const { path, method } = this.#options;
    const message = `stream ${method.path} to ${path}: ${error.message}`;
    const facts = { path, method: method.path };
    return new TandemError('TANDEM_RPC', message, { cause: error, facts });
  }

  /** Both 'error' and 'end' may come, in any order; the first one counts. */
  #ended(call: ClientDuplexStream<Send, Receive> | null, error: TandemError | null): void {
    if (this.#state === 'stopped' || this.#call !== call) return;
    if (this.#state === 'open' || this.#failures === 0) {
      this.#options.log.warn('stream ended', {
        path: this.#options.path,
        method: this.#options.method.path,
        error,
      });
    }
    // One that the other side ends at once, again and again, is no success.
    const livedMs = this.#state === 'open' ? performance.now() - this.#openedMs : 0;
    if (livedMs >= reconnectDelayMaxMs) this.#failures = 0;
    this.#state = 'waiting';
    this.#lastError = error;
    this.#failures++;
    call?.cancel();
    this.#client?.close();
    this.#call = null;
    this.#client = null;
    this.#link = null;
    const random = this.#options.random ?? Math.random;
    this.#timer = setTimeout(() => this.#connect(), reconnectDelayMs(this.#failures, random()));
    this.#options.handler.onDisconnect(error);
  }
}
