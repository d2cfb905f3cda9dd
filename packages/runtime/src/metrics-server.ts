// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// /metrics, /healthz and /readyz over HTTP, on a loopback port or a unix socket. Health says "restart me",
// readiness "send me traffic": a process that waits for the other one is healthy.

import { existsSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Component } from './lifecycle.ts';
import { listening } from './listen.ts';
import type { Logger } from './log.ts';
import type { Metrics } from './metrics.ts';
import { TandemError } from './tandem-error.ts';
import { listenUnix } from './unix-socket.ts';

// An import of node:http reads all of its exports, and one of them loads undici: 25 ms of CPU and 4 MiB of the agent.
const { createServer } = process.getBuiltinModule('node:http');

/** Connections at once; more are closed. */
export const httpConnectionsMax = 16;
/** Bound of receiving a request, ms. */
export const httpRequestTimeoutMs = 5000;
/**
 * Metrics are read at most so often, ms, however many ask: what reaches the address needs no password, and each reading takes
 * time of the process's main thread.
 */
export const metricsReadMs = 500;
/** Headers of a request, bytes. */
export const httpHeaderBytesMax = 8192;

/** Where to listen. */
export type HttpAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string; readonly groupId?: number };

/** Faults, for people; empty: none. */
export type HealthCheck = () => readonly string[];

export interface MetricsServerOptions {
  /** Port 0: any free one, see `port`. Hosts other than loopback are for the operator to choose. */
  readonly address: HttpAddress;
  readonly metrics: Metrics;
  readonly health: HealthCheck;
  readonly readiness: HealthCheck;
  readonly log: Logger;
}

export class MetricsServer implements Component {
  readonly name = 'metrics server';
  readonly #options: MetricsServerOptions;
  readonly #server: Server;
  #read: { readonly text: Promise<string>; readonly atMs: number } | null = null;

  constructor(options: MetricsServerOptions) {
    this.#options = options;
    this.#server = createServer(
      {
        maxHeaderSize: httpHeaderBytesMax,
        headersTimeout: httpRequestTimeoutMs,
        requestTimeout: httpRequestTimeoutMs,
        connectionsCheckingInterval: httpRequestTimeoutMs,
      },
      (request, response) => {
        void this.#answer(request, response);
      },
    );
    this.#server.maxConnections = httpConnectionsMax;
  }

  /** The port that it listens on; 0 on a unix socket. */
  get port(): number {
    const address = this.#server.address() as AddressInfo | string | null;
    return address === null || typeof address === 'string' ? 0 : address.port;
  }

  /** Whether clients find its socket; false when it, or its directory, was removed. */
  get isReachable(): boolean {
    const { address } = this.#options;
    return this.#server.listening && (address.kind !== 'unix' || existsSync(address.path));
  }

  /** Also again, when it is not reachable any more. */
  async start(): Promise<void> {
    const { address } = this.#options;
    if (this.#server.listening) this.#server.close();
    if (address.kind === 'unix') {
      await listenUnix(this.#server, address);
      return;
    }
    const { host, port } = address;
    try {
      await listening(this.#server, () => this.#server.listen({ host, port }));
    } catch (error) {
      throw TandemError.from(error, `listen on ${host} port ${port} for metrics`);
    }
  }

  async stop(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#server.close(() => resolve());
    this.#server.closeAllConnections();
    await promise;
  }

  /** Rejects when a reader of a metric throws. */
  #text(): Promise<string> {
    const nowMs = performance.now();
    if (this.#read === null || nowMs - this.#read.atMs >= metricsReadMs) {
      this.#read = { text: this.#options.metrics.text(), atMs: nowMs };
    }
    return this.#read.text;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? '').split('?', 1)[0];
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      end(response, 405, 'text/plain', 'only GET and HEAD\n');
    } else if (path === '/metrics') {
      try {
        end(response, 200, this.#options.metrics.contentType, await this.#text());
      } catch (error) {
        // A reader that throws must show as a failed scrape, not end the process that serves DNS.
        this.#options.log.error('metrics cannot be read', { error: TandemError.from(error) });
        end(response, 500, 'text/plain', 'metrics cannot be read\n');
      }
    } else if (path === '/healthz') {
      endCheck(response, this.#options.health);
    } else if (path === '/readyz') {
      endCheck(response, this.#options.readiness);
    } else {
      end(response, 404, 'text/plain', 'try /metrics, /healthz or /readyz\n');
    }
  }
}

function endCheck(response: ServerResponse, check: HealthCheck): void {
  const problems = check();
  if (problems.length === 0) end(response, 200, 'text/plain', 'ok\n');
  else end(response, 503, 'text/plain', `${problems.join('\n')}\n`);
}

function end(response: ServerResponse, status: number, type: string, body: string): void {
  response.writeHead(status, {
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    'x-content-type-options': 'nosniff',
  });
  response.end(body);
}
