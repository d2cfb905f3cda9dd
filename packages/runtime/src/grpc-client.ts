// SPDX-License-Identifier: Apache-2.0
// Copyright The Tandem Authors

// Typed gRPC calls over a unix socket. One client is one connection; it does not reconnect by itself for
// long-lived streams, `persistent-stream.ts` does.

import { dirname } from 'node:path';
import {
  Client,
  type ClientDuplexStream,
  credentials,
  status as grpcStatus,
  type ServiceError,
} from '@grpc/grpc-js';
import type { RpcMethod } from '@tandem/proto/grpc-service';
import { grpcClientOptions } from './grpc-options.ts';
import { TandemError } from './tandem-error.ts';
import { directoryProblem } from './unix-socket.ts';

/** Default bound of a unary call, ms. */
export const grpcDeadlineMs = 5000;

export interface GrpcClientOptions {
  /** Absolute path of the server's socket. */
  readonly path: string;
  /** Uids besides root and our own that may own the socket's directory. */
  readonly serverUids?: readonly number[];
  /** Silence before a ping, and again before the connection is given up, ms. Default grpcKeepaliveTimeMs. */
  readonly keepaliveMs?: number;
}

export interface UnaryOptions {
  /** Default grpcDeadlineMs. */
  readonly deadlineMs?: number;
  readonly signal?: AbortSignal;
}

/** A failed call as an error with the name of its gRPC status as a fact. */
function rpcError(path: string, method: string, error: ServiceError): TandemError {
  const status = grpcStatus[error.code] ?? String(error.code);
  return new TandemError('TANDEM_RPC', `call ${method} on ${path}: ${error.details}`, {
    cause: error,
    facts: { path, method, status },
  });
}

export class GrpcClient implements Disposable {
  readonly path: string;
  readonly #client: Client;

  /** Connects lazily. @throws TandemError TANDEM_SOCKET_PATH: the socket's directory is not safe */
  constructor(options: GrpcClientOptions) {
    this.path = options.path;
    const problem = directoryProblem(dirname(options.path), options.serverUids ?? []);
    if (problem !== null) {
      throw new TandemError('TANDEM_SOCKET_PATH', `cannot trust ${options.path}: ${problem}`, {
        facts: { path: options.path },
      });
    }
    this.#client = new Client(
      `unix:${options.path}`,
      credentials.createInsecure(),
      options.keepaliveMs === undefined
        ? grpcClientOptions
        : {
            ...grpcClientOptions,
            'grpc.keepalive_time_ms': options.keepaliveMs,
            'grpc.keepalive_timeout_ms': options.keepaliveMs,
          },
    );
  }

  /** One request, one response. @throws TandemError TANDEM_RPC */
  async unary<RequestInit, Request, ResponseInit, Response>(
    method: RpcMethod<RequestInit, Request, ResponseInit, Response, false, false>,
    request: RequestInit,
    options: UnaryOptions = {},
  ): Promise<Response> {
    const { promise, resolve, reject } = Promise.withResolvers<Response>();
    const deadline = Date.now() + (options.deadlineMs ?? grpcDeadlineMs);
    const call = this.#client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      { deadline },
      (error, response) => {
        if (error !== null) reject(rpcError(this.path, method.path, error));
        else if (response === undefined) reject(new TypeError('neither error nor response'));
        else resolve(response);
      },
    );
    const cancel = (): void => call.cancel();
    if (options.signal?.aborted === true) cancel();
    options.signal?.addEventListener('abort', cancel, { once: true });
    try {
      return await promise;
    } finally {
      options.signal?.removeEventListener('abort', cancel);
    }
  }

  /**
   * One request, a stream of responses. Leaving the loop cancels the call, so does `signal`, which ends the
   * loop without an error. @throws TandemError TANDEM_RPC
   */
  async *serverStream<RequestInit, Request, ResponseInit, Response>(
    method: RpcMethod<RequestInit, Request, ResponseInit, Response, false, true>,
    request: RequestInit,
    signal?: AbortSignal,
  ): AsyncGenerator<Response, void, undefined> {
    const call = this.#client.makeServerStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
    );
    const cancel = (): void => call.cancel();
    if (signal?.aborted === true) cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      for await (const response of call) yield response as Response;
    } catch (error) {
      if (signal?.aborted === true) return;
      throw rpcError(this.path, method.path, error as ServiceError);
    } finally {
      signal?.removeEventListener('abort', cancel);
      cancel();
    }
  }

  /** A stream both ways. Its errors come as its 'error' event. */
  bidirectional<RequestInit, Request, ResponseInit, Response>(
    method: RpcMethod<RequestInit, Request, ResponseInit, Response, true, true>,
  ): ClientDuplexStream<RequestInit, Response> {
    return this.#client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
    );
  }

  /** Ends the connection; calls in progress fail. */
  close(): void {
    this.#client.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
